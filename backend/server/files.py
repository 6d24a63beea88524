"""What tasks write, over HTTP: paths of our own, which Marathon does not have.

``GET /v2/tasks/{taskId}/files/stdout`` (or ``stderr``) answers with the bytes as the task wrote them,
declared as UTF-8 text, of a task that runs or has ended lately. Of a long output only the end is kept, at the
offsets that it had; the header ``Hubfleet-Offset`` says where an answer begins. In the query:

``offset``, ``length``
    A part; a negative offset counts from the end. The header ``Range: bytes=…`` does it the standard way.
``tail``
    The last so many lines (of the last MiB).
``follow=true``
    What follows too, as it is written, until the task has ended or the client leaves.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from ..access import Forbidden, Unidentified
from ..drivers import Output
from .answers import BadRequest, NotFoundHere
from .base import ApiHandler
from .history import visible_app_of_task

MOST_FOLLOWED = 16
"""How many outputs one caller may follow at once."""

TAIL_BYTES = 1 << 20
_CHUNK = 256 * 1024
_PAUSE_FIRST, _PAUSE_MOST = 0.05, 1.0
_SLOWEST_SECONDS = 60.0  # for a chunk to be taken by the client
_IDENTIFIED_SECONDS = 60.0

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")
_followed: Counter[str] = Counter()


class FileHandler(ApiHandler):
    """The output of one task."""

    _left = False

    def negotiate(self) -> None:
        """Refuse nobody: what a task wrote is sent as it is."""

    async def head(self, task_id: str, name: str) -> None:
        """Say how much there is."""
        self._require_readable(task_id)
        output = await self._read(task_id, name, 0, 0)
        self._begin(output)
        self.set_header("Content-Length", str(output.size - output.offset))
        self.finish()

    async def get(self, task_id: str, name: str) -> None:
        """Send what a task has written, and on demand what it goes on to write."""
        self._require_readable(task_id)
        offset, end = await self._part(task_id, name)
        follow = self.flag("follow")
        if follow and _followed[self.caller.name] >= MOST_FOLLOWED:
            raise HTTPError(
                429,
                reason=f"{self.caller.name} follows {MOST_FOLLOWED} outputs already, the most there may be",
            )
        output = await self._read(task_id, name, offset, 0)
        self._begin(output)
        if follow:
            await self._follow(task_id, name, output.offset)
            return
        end = output.size if end is None else min(end, output.size)
        if self.get_status() == 206:
            if output.offset >= end:
                raise HTTPError(416, reason=f"There are {output.size} bytes, and none in this range")
            self.set_header("Content-Range", f"bytes {output.offset}-{end - 1}/{output.size}")
        try:
            await self._send(task_id, name, output.offset, end)
        except StreamClosedError:
            return
        self.finish()

    def on_connection_close(self) -> None:
        """Stop following for a client that has left."""
        self._left = True

    def _require_readable(self, task_id: str) -> None:
        app_id = visible_app_of_task(self, task_id)
        if not self.caller.sees_inside(app_id):
            raise Forbidden(f"{self.caller.name} may see {app_id}, but not what its tasks print")

    def _begin(self, output: Output) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("Accept-Ranges", "bytes")
        self.set_header("Hubfleet-Offset", str(output.offset))

    async def _part(self, task_id: str, name: str) -> tuple[int, int | None]:
        """Return where the asked part begins, and where it ends if it does."""
        asked = _RANGE.fullmatch(self.request.headers.get("Range", ""))
        if asked is not None and (asked[1] or asked[2]) and not self.request.query:
            self.set_status(206)
            if not asked[1]:
                return -int(asked[2]), None
            return int(asked[1]), int(asked[2]) + 1 if asked[2] else None
        tail = self._number("tail", 0)
        if tail is not None:
            return await self._begin_of_tail(task_id, name, tail), None
        offset = self._number("offset", None) or 0
        length = self._number("length", 0)
        if offset < 0:
            offset = (await self._read(task_id, name, offset, 0)).offset
        return offset, None if length is None else offset + length

    async def _begin_of_tail(self, task_id: str, name: str, lines: int) -> int:
        output = await self._read(task_id, name, -TAIL_BYTES, TAIL_BYTES)
        content = output.content
        # The end of the last line is no beginning of another one.
        place = len(content) - 1 if content.endswith(b"\n") else len(content)
        for _ in range(lines):
            place = content.rfind(b"\n", 0, place)
            if place < 0:
                return output.offset
        return output.offset + (place + 1 if lines else len(content))

    def _number(self, name: str, least: int | None) -> int | None:
        text = self.get_query_argument(name, None)
        if text is None:
            return None
        if not re.fullmatch(r"-?\d{1,18}", text) or (least is not None and int(text) < least):
            raise BadRequest(
                f"'{name}' is a number of {'lines' if name == 'tail' else 'bytes'}, not {text!r}"
            )
        return int(text)

    async def _read(self, task_id: str, name: str, offset: int, length: int) -> Output:
        output = await self.orchestrator.read_output(task_id, name, offset, length)
        if output is None:
            raise NotFoundHere(f"Task '{task_id}' has no {name} that could be read any more")
        return output

    async def _send(self, task_id: str, name: str, offset: int, end: int | None) -> int:
        """Send a part in chunks; return how far it went."""
        while end is None or offset < end:
            room = _CHUNK if end is None else min(_CHUNK, end - offset)
            output = await self.orchestrator.read_output(task_id, name, offset, room)
            if output is None or not output.content:
                # A file that became shorter begins anew where it ends.
                return offset if output is None else min(offset, output.size)
            self.write(output.content)
            try:
                async with asyncio.timeout(_SLOWEST_SECONDS):
                    await self.flush()
            except TimeoutError:
                self.detach().close()
                raise StreamClosedError from None
            offset = output.offset + len(output.content)
        return offset

    async def _follow(self, task_id: str, name: str, offset: int) -> None:
        caller = self.caller.name
        _followed[caller] += 1
        try:
            await self.flush()
            await self._send_until_end(task_id, name, offset)
            self.finish()
        except StreamClosedError:
            pass
        except (Unidentified, Forbidden, NotFoundHere):
            self.finish()  # what may not be seen any more is at its end
        finally:
            _followed[caller] -= 1

    async def _send_until_end(self, task_id: str, name: str, offset: int) -> None:
        loop = asyncio.get_running_loop()
        good_until, pause = loop.time() + _IDENTIFIED_SECONDS, _PAUSE_FIRST
        while not self._left:
            # Asked first: what is written before the end is there to be read after it.
            runs = self.orchestrator.state.instance_of(task_id) is not None
            sent = await self._send(task_id, name, offset, None)
            if not runs:
                return
            pause = _PAUSE_FIRST if sent != offset else min(pause * 2, _PAUSE_MOST)
            offset = sent
            if loop.time() >= good_until:
                await self.identify_again()
                self._require_readable(task_id)
                good_until = loop.time() + _IDENTIFIED_SECONDS
            await asyncio.sleep(pause)

"""The backend's side of the launcher: one connection that is kept up, with a launcher at its other end.

Calls made while there is no connection wait for it, within a bound. All verbs but ``signal`` may be asked
twice, so a call whose reply was lost with the connection is made again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .base import DriverError
from .launcher import SOCKET, WITHOUT_GROUPS
from .launcher_server import PROTOCOL
from .proctree import MARKER
from .rotation import KEPT_BYTES

log = logging.getLogger(__name__)

Message = dict[str, Any]

CALL_SECONDS = 10.0
"""How long a call may take in all, waiting for a connection included."""

_SETTLE_SECONDS = 0.5
_POLL_SECONDS = 0.01
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0
_LONGEST_REPLY = 64 << 20

# The launcher's own few files without the packages above them, whose imports would triple its memory.
_BOOT = """\
import sys, types
package = types.ModuleType("hubfleet_launcher")
package.__path__ = [sys.argv[1]]
sys.modules[package.__name__] = package
from hubfleet_launcher.launcher import main
sys.exit(main(sys.argv[2:]))
"""


class ConnectionLost(DriverError):
    """The launcher went away before it replied."""


class LauncherClient:
    """A connection to the launcher of a state directory, which is started when it is not there.

    Parameters
    ----------
    state_dir
        Absolute path of the state directory.
    on_tasks
        Called with all tasks that the launcher knows, as its verb ``list`` gives them, each time a
        connection has been made: what was pushed while there was none is in it.
    on_exit
        Called with each exit that the launcher pushes.
    output_bytes
        How much the launcher is to keep of a task's stdout or stderr that has become twice as long.
    control_groups
        Whether a launcher that is started may use the machine's control groups.
    wishes
        Verbs, and their fields, that every launcher is told which knows them.
    """

    def __init__(
        self,
        state_dir: Path,
        on_tasks: Callable[[list[Message]], None],
        on_exit: Callable[[Message], None],
        output_bytes: int = KEPT_BYTES,
        control_groups: bool = True,
        wishes: Mapping[str, Message] | None = None,
    ) -> None:
        self._wishes = wishes or {}
        self._state_dir = state_dir
        self._output_bytes = output_bytes
        self._options = () if control_groups else (WITHOUT_GROUPS,)
        self._on_tasks = on_tasks
        self._on_exit = on_exit
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._replies: dict[int, asyncio.Future[Message]] = {}
        self._last_id = 0
        self._trouble = ""
        self.pid: int | None = None
        self.features: frozenset[str] = frozenset()
        self.groups: dict[str, str] = {}

    async def open(self) -> None:
        """Connect, starting a launcher if there is none.

        Raises
        ------
        DriverError
            If that does not work out; the message says why.
        """
        self._connected.clear()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await self._connect()
        except TimeoutError as error:
            raise DriverError(self._late("be reached")) from error
        except OSError as error:
            raise DriverError(f"The launcher in {self._state_dir} cannot be reached: {error}") from error
        self._keeper = asyncio.create_task(self._keep(), name=f"launcher {self._state_dir}")

    async def close(self) -> None:
        """Disconnect. Calls that wait fail; the launcher stays as long as it has tasks."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait([keeper])
        await self._disconnect("The connection to the launcher was closed.")
        self._connected.set()  # wakes those who wait for it, to find it closed

    async def call(
        self, verb: str, *, repeat: bool = True, within: float = CALL_SECONDS, **fields: object
    ) -> Message:
        """Ask the launcher for something and return its reply, which holds ``ok`` or ``error``.

        Parameters
        ----------
        repeat
            Whether to ask again if the connection is lost before the reply.
        within
            Seconds that it may take.

        Raises
        ------
        ConnectionLost
            If it is lost and the call is not to be repeated.
        DriverError
            If there is no reply in time.
        """
        try:
            async with asyncio.timeout(within):
                while True:
                    while self._keeper is not None and not self._connected.is_set():
                        await self._connected.wait()
                    if self._keeper is None:
                        raise DriverError(f"The driver is closed, so its launcher cannot be asked to {verb}.")
                    try:
                        return await self._request(verb, fields)
                    except ConnectionLost:
                        if not repeat:
                            raise
        except TimeoutError as error:
            raise DriverError(self._late(f"answer {verb!r}", within)) from error

    def _late(self, doing: str, within: float = CALL_SECONDS) -> str:
        trouble = f" The last trouble with it: {self._trouble}" if self._trouble else ""
        return f"The launcher in {self._state_dir} did not {doing} within {within:.0f} s.{trouble}"

    async def _request(self, verb: str, fields: Message) -> Message:
        assert self._writer is not None
        self._last_id += 1
        request_id = self._last_id
        reply: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._replies[request_id] = reply
        try:
            # Not drained: every request awaits its reply, so no more piles up than there are callers.
            self._writer.write(_encode({"id": request_id, "verb": verb, **fields}))
            return await reply
        finally:
            del self._replies[request_id]

    async def _keep(self) -> None:
        """Read what the launcher sends; when it goes away, connect again, for ever."""
        pause = _FIRST_PAUSE
        while True:
            try:
                if self._reader is None:
                    async with asyncio.timeout(CALL_SECONDS):
                        await self._connect()
                    pause = _FIRST_PAUSE
                assert self._reader is not None
                while line := await self._reader.readline():
                    self._receive(json.loads(line))
                self._trouble = "it closed the connection."
            except (OSError, ValueError, KeyError, DriverError) as error:
                # A TimeoutError is an OSError; the others are a reply that makes no sense.
                self._trouble = str(error) or "it does not answer."
            await self._disconnect(f"The launcher in {self._state_dir} went away: {self._trouble}")
            log.warning("No connection to the launcher in %s: %s", self._state_dir, self._trouble)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _connect(self) -> None:
        """Connect to the launcher, starting it as often as it takes; the caller sets the bound."""
        while True:
            try:
                connection = await self._reach()
                self._reader, self._writer = await asyncio.open_unix_connection(
                    sock=connection, limit=_LONGEST_REPLY
                )
                hello = await self._ask_first("hello", output_bytes=self._output_bytes)
                if hello["protocol"] != PROTOCOL:
                    raise DriverError(
                        f"The launcher in {self._state_dir} (process {hello['pid']}) speaks protocol"
                        f" {hello['protocol']}, this backend {PROTOCOL}: end its tasks with the version"
                        " that started it, then start this one."
                    )
                self.pid = hello["pid"]
                self.features = frozenset(hello.get("features", ()))
                self.groups = hello.get("groups", {})
                for verb, fields in self._wishes.items():
                    if verb in self.features:
                        await self._ask_first(verb, **fields)
                self._on_tasks((await self._ask_first("list"))["tasks"])
            except (ConnectionError, BlockingIOError) as error:
                # It was just leaving, or has more clients in its queue than it takes.
                self._trouble = str(error)
                await self._disconnect(self._trouble)
                await asyncio.sleep(_POLL_SECONDS)
            except BaseException:
                await self._disconnect("The launcher was not reached.")
                raise
            else:
                self._connected.set()
                return

    async def _reach(self) -> socket.socket:
        """Return a connected socket, having started a launcher if nobody listened."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                return _connect_socket(self._state_dir)
            except (FileNotFoundError, ConnectionRefusedError):
                await _start_launcher(self._state_dir, self._options)
            # Another backend's launcher may hold the lock already and not listen yet.
            settled = loop.time() + _SETTLE_SECONDS
            while loop.time() < settled:
                try:
                    return _connect_socket(self._state_dir)
                except (FileNotFoundError, ConnectionRefusedError):
                    await asyncio.sleep(_POLL_SECONDS)

    async def _ask_first(self, verb: str, **fields: object) -> Message:
        """Ask before the connection is open to callers, and read until the reply comes."""
        assert self._reader is not None
        assert self._writer is not None
        self._last_id += 1
        request_id = self._last_id
        self._writer.write(_encode({"id": request_id, "verb": verb, **fields}))
        while line := await self._reader.readline():
            message = json.loads(line)
            if message.get("id") == request_id:
                ok: Message = message["ok"]
                return ok
            self._receive(message)
        raise ConnectionResetError("it closed the connection.")

    def _receive(self, message: Message) -> None:
        if "exit" in message:
            self._on_exit(message["exit"])
            return
        reply = self._replies.get(message["id"])
        # Nobody waits any more for the reply to a call that timed out.
        if reply is not None and not reply.done():
            reply.set_result(message)

    async def _disconnect(self, reason: str) -> None:
        self._connected.clear()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ConnectionLost(reason))
        writer, self._reader, self._writer = self._writer, None, None
        if writer is not None:
            writer.close()
            try:
                await writer.wait_closed()
            except OSError:
                pass  # it is closed, and how does not matter any more


def wish_for_templates(
    python: str | None, environment: Mapping[str, str] | None, warm: Sequence[str]
) -> Message:
    """Return what the launcher's templates are to be configured with; a `python` of None is for none."""
    return {"python": python, "environment": dict(environment or {}), "warm": list(warm)}


def _encode(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def _connect_socket(state_dir: Path) -> socket.socket:
    """Return a connected socket that does not block; a socket's own path may have 107 bytes at most."""
    directory = os.open(state_dir, os.O_PATH | os.O_DIRECTORY)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.connect(f"/proc/self/fd/{directory}/{SOCKET}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection


async def _start_launcher(state_dir: Path, options: Sequence[str]) -> None:
    """Start a launcher, unless one holds the lock; return once it listens."""
    # The backend's own environment holds its credentials, and the launcher lives longer than they should.
    # The marker stays: a launcher that a task starts belongs to that task.
    kept = ("LD_LIBRARY_PATH", MARKER)
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    arguments = ["-I", "-S", "-X", "utf8", "-c", _BOOT, str(Path(__file__).parent), *options, str(state_dir)]
    starter = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=DEVNULL,
        stdout=DEVNULL,
        stderr=PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        _, said = await starter.communicate()
    finally:
        if starter.returncode is None:
            starter.kill()
            await starter.wait()
    if starter.returncode != 0:
        raise DriverError(said.decode(errors="replace").strip() or "The launcher did not start.")

"""A proxy in front of a backend that is slow, refuses at random, and loses answers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

REFUSALS = {409: "Conflict", 503: "Service Unavailable"}
_BODY = b'{"message": "the proxy of the tests says no"}'


class BadApi:
    """Passes requests on, in its own time and mood; the event stream it lets through as it is.

    Parameters
    ----------
    target
        URL of the backend.
    chance
        Where its moods come from.

    Attributes
    ----------
    delay
        Most seconds before a request is passed on.
    refuses
        Share of the requests that it answers itself, with 409 or 503, and does not pass on.
    loses
        Share of the requests that are carried out and answered with 503 all the same.
    verdict
        Says for a request's method and path what becomes of it: "refuse", "lose", "pass", or "late"
        for one that is carried out at once and answered when `answering` is set; None leaves it to chance.
    """

    def __init__(self, target: str, chance: random.Random) -> None:
        place = urlsplit(target)
        self._target = (place.hostname, place.port)
        self._chance = chance
        self.delay = self.refuses = self.loses = 0.0
        self.verdict: Callable[[str, str], str | None] = lambda method, path: None
        self.answering = asyncio.Event()
        self.counts: Counter[str] = Counter()
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[BadApi]:
        """Serve on a port of its own."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        tasks = asyncio.all_tasks()
        try:
            yield self
        finally:
            server.close()
            for task in asyncio.all_tasks() - tasks:
                if "BadApi._serve" in repr(task.get_coro()):
                    task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            request, *headers = head.decode("latin1").split("\r\n")
            method, path, _ = request.split(" ")
            lengths = [line.split(":")[1] for line in headers if line.lower().startswith("content-length:")]
            body = await reader.readexactly(int(lengths[0]) if lengths else 0)
            fate = "pass"
            if not path.startswith("/v2/events"):
                await asyncio.sleep(self._chance.uniform(0, self.delay))
                fate = self.verdict(method, path) or self._mood()
                self.counts[fate] += 1
            if fate == "refuse":
                self._refuse(writer, self._chance.choice(list(REFUSALS)))
            else:
                await self._pass_on(head, body, writer, fate)
        writer.close()

    def _mood(self) -> str:
        drawn = self._chance.random()
        return "refuse" if drawn < self.refuses else "lose" if drawn < self.refuses + self.loses else "pass"

    @staticmethod
    def _refuse(writer: asyncio.StreamWriter, status: int) -> None:
        writer.write(
            f"HTTP/1.1 {status} {REFUSALS[status]}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(_BODY)}\r\nConnection: close\r\n\r\n".encode()
            + _BODY
        )

    async def _pass_on(self, head: bytes, body: bytes, writer: asyncio.StreamWriter, fate: str) -> None:
        answer, onward = await asyncio.open_connection(*self._target)
        try:
            kept = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
            onward.write(b"\r\n".join([*kept[:-2], b"Connection: close", b"", b""]) + body)
            while chunk := await answer.read(65536):
                if fate == "late":
                    await self.answering.wait()
                if fate != "lose":
                    writer.write(chunk)
                    await writer.drain()
            if fate == "lose":
                self._refuse(writer, 503)
        finally:
            onward.close()

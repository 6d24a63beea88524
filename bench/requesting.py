"""Requests over kept connections by raw asyncio streams, whose own cost is small beside a server's."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any

Order = Callable[[int], tuple[Any, ...]]
TOKEN = secrets.token_hex(16)


class Connection:
    """One keep-alive connection."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def open(self) -> Connection:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 28)
        return self

    def send(self, method: str, path: str, body: Any = None, accept: str = "application/json") -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nAuthorization: token {TOKEN}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            + content
        )

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        self.send(method, path, body)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        status = int(head.split(" ", 2)[1])
        if "chunked" in head:
            content = b""
            while size := int(await self.reader.readline(), 16):
                content += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
            return status, content
        length = next(
            (int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0
        )
        return status, await self.reader.readexactly(length)


async def latencies(connections: int, count: int, port: int, order: Order) -> list[float]:
    """Return the seconds of each of `count` requests over so many connections at once."""
    numbers = iter(range(count))
    found: list[float] = []

    async def one() -> None:
        connection = await Connection(port).open()
        for number in numbers:
            begun = time.perf_counter()
            status, body = await connection.ask(*order(number))
            found.append(time.perf_counter() - begun)
            assert status < 300, (status, body)

    await asyncio.gather(*(one() for _ in range(connections)))
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(condition: Callable[[], Awaitable[bool]]) -> float:
    begun = time.perf_counter()
    while not await condition():
        assert time.perf_counter() < begun + 300, "it never came to be"
        await asyncio.sleep(0.02)
    return time.perf_counter() - begun

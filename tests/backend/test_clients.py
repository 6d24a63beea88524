"""Clients that are too large, too slow, or too many: each is let go, and the others are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from conftest import RunningBackend, WarmBackend
from ports import backend_ports
from rest import DEADLINE, Rest, eventually

STRICT = {
    "max_request_bytes": 2048,
    "max_header_bytes": 2048,
    "max_connections": 8,
    "max_deployments": 2,
    "max_connections_of_address": 5,
    "reader_seconds": 0.5,
}


@asynccontextmanager
async def configured(folder: Path, **settings: float) -> AsyncIterator[RunningBackend]:
    file = folder / "config.py"
    file.write_text("".join(f"c.Backend.{name} = {value}\n" for name, value in settings.items()))
    running = WarmBackend(folder / "state", backend_ports(), config=str(file))
    try:
        await running.start()
        yield running
    finally:
        await running.destroy()


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[RunningBackend]:
    async with configured(tmp_path, **STRICT) as running:
        yield running


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[RunningBackend]:
    """A backend that lets go of whoever is held up, as on a busy machine all are now and then."""
    async with configured(tmp_path, body_seconds=0.3, idle_seconds=0.3) as running:
        yield running


async def said(backend: RunningBackend, *parts: bytes) -> bytes:
    """Send bytes and nothing more; return all that is answered until the backend closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", backend.port)
    try:
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                return await reader.read()
        return b""
    finally:
        writer.close()


def head(backend: RunningBackend, request: str, **headers: object) -> bytes:
    lines = [f"{request} HTTP/1.1", "Host: x", f"Authorization: token {backend.admin_token}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


async def is_served(backend: RunningBackend) -> bool:
    answer = await said(backend, head(backend, "GET /v2/info", Connection="close"))
    return answer.startswith(b"HTTP/1.1 200")


async def test_who_is_slow_to_ask_is_let_go(impatient: RunningBackend) -> None:
    answers = await asyncio.gather(
        said(impatient, b""),
        said(impatient, b"GET /v2/apps HTTP/1.1\r\nHost: "),
        said(impatient, head(impatient, "POST /v2/apps", Content_Length=100), b"{"),
    )
    assert not any(answer.startswith(b"HTTP/1.1 2") for answer in answers)
    await eventually(lambda: is_served(impatient))


async def test_a_head_or_body_that_is_too_large_is_refused(strict: RunningBackend) -> None:
    long = await said(strict, head(strict, "GET /v2/info", X_Long="x" * 4096))
    assert not long.startswith(b"HTTP/1.1 2")
    body = json.dumps({"id": "/x", "labels": {"x": "x" * 4096}}).encode()
    request = head(strict, "POST /v2/apps", Content_Length=len(body), Connection="close")
    large = await said(strict, request, body)
    assert large.startswith(b"HTTP/1.1 413")
    assert b"at most 2048 bytes" in large


class Connections:
    """Connections that stay open, from any address of this machine."""

    def __init__(self, backend: RunningBackend) -> None:
        self._backend = backend
        self._open: list[asyncio.StreamWriter] = []

    async def add(self, address: str) -> bytes:
        """Open one and ask for something; return the line of the answer, and of a refusal all of it."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self._backend.port, local_addr=(address, 0)
        )
        self._open.append(writer)
        writer.write(head(self._backend, "GET /v2/info"))
        async with asyncio.timeout(DEADLINE):
            with contextlib.suppress(ConnectionError):
                line = await reader.readline()
                return line if line.startswith(b"HTTP/1.1 200") else line + await reader.read()
        return b""  # it was closed before we had asked

    def close(self) -> None:
        for writer in self._open:
            writer.close()


async def test_more_connections_than_are_allowed_are_told_so(strict: RunningBackend) -> None:
    connections = Connections(strict)

    async def is_told(address: str, reason: bytes) -> bool:
        answer = await connections.add(address)
        assert not answer.startswith(b"HTTP/1.1 200")
        return answer.startswith(b"HTTP/1.1 503") and reason in answer

    try:
        for _ in range(5):
            assert (await connections.add("127.0.0.2")).startswith(b"HTTP/1.1 200")
        await eventually(lambda: is_told("127.0.0.2", b"there are 5 connections from your address"))
        other = await connections.add("127.0.0.3")
        assert other.startswith(b"HTTP/1.1 200"), "another address has room of its own"
        # One is perhaps the one over which this test has found that the backend answers.
        while (await connections.add("127.0.0.4")).startswith(b"HTTP/1.1 200"):
            pass
        await eventually(lambda: is_told("127.0.0.5", b"there are 8 connections, the most at once"))
    finally:
        connections.close()
    # Those that were let go take no room.
    await eventually(lambda: is_served(strict))


async def test_who_does_not_read_is_let_go(strict: RunningBackend) -> None:
    rest = Rest(strict.url, strict.admin_token)
    for number in range(60):
        body = {"id": f"/a{number}", "cmd": "x" * 1000, "instances": 0}
        assert (await rest("POST", "/v2/apps", body, {"Connection": "close"})).status_code == 201
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    client.connect(("127.0.0.1", strict.port))
    # As many answers as no buffer of a kernel holds, none of them read.
    request = head(strict, "GET /v2/apps?embed=tasks") * 400
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(DEADLINE):
            await loop.sock_sendall(client, request)

    async def gone() -> bool:
        for name in ("tcp", "tcp6"):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                local, remote, state = line.split()[1:4]
                ends = f":{strict.port:04X}", f":{client.getsockname()[1]:04X}"
                if local.endswith(ends[0]) and remote.endswith(ends[1]) and state == "01":
                    return False
        return True

    await eventually(gone)
    client.close()


async def test_there_are_as_many_deployments_as_the_settings_say(strict: RunningBackend) -> None:
    rest = Rest(strict.url, strict.admin_token)
    for number in range(2):
        await rest.create(f"/waits{number}", constraints=[["rack", "LIKE", "none"]])
    refused = await rest("POST", "/v2/apps", {"id": "/third", "cmd": "sleep 1"})
    assert "Max number (2) of running deployments" in refused.json()["message"]
    assert (await rest("DELETE", "/v2/apps/waits0")).status_code == 200, "an end is always taken"

"""Clients that are too large, too slow, or too many: each is let go, and the others are served."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from conftest import RunningBackend
from ports import backend_ports
from rest import Rest, eventually

SETTINGS = """
c.Backend.max_request_bytes = 2048
c.Backend.max_header_bytes = 2048
c.Backend.body_seconds = 0.3
c.Backend.idle_seconds = 0.3
c.Backend.reader_seconds = 0.5
c.Backend.max_connections = 8
c.Backend.max_deployments = 2
c.Backend.max_connections_of_address = 5
"""


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[RunningBackend]:
    file = tmp_path / "config.py"
    file.write_text(SETTINGS)
    running = RunningBackend(tmp_path / "state", backend_ports(), config=str(file))
    try:
        await running.start()
        yield running
    finally:
        await running.destroy()


async def said(backend: RunningBackend, *parts: bytes, host: str = "127.0.0.1") -> bytes:
    """Send bytes and nothing more; return all that is answered until the backend closes."""
    local = (host, 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", backend.port, local_addr=local)
    try:
        async with asyncio.timeout(10):
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


async def test_who_is_slow_to_ask_is_let_go(strict: RunningBackend) -> None:
    answers = await asyncio.gather(
        said(strict, b""),
        said(strict, b"GET /v2/apps HTTP/1.1\r\nHost: "),
        said(strict, head(strict, "POST /v2/apps", Content_Length=100), b"{"),
    )
    assert not any(answer.startswith(b"HTTP/1.1 2") for answer in answers)
    served = await said(strict, head(strict, "GET /v2/info", Connection="close"))
    assert served.startswith(b"HTTP/1.1 200")


async def test_a_head_or_body_that_is_too_large_is_refused(strict: RunningBackend) -> None:
    long = await said(strict, head(strict, "GET /v2/info", X_Long="x" * 4096))
    assert not long.startswith(b"HTTP/1.1 2")
    body = json.dumps({"id": "/x", "labels": {"x": "x" * 4096}}).encode()
    request = head(strict, "POST /v2/apps", Content_Length=len(body), Connection="close")
    large = await said(strict, request, body)
    assert large.startswith(b"HTTP/1.1 413")
    assert b"at most 2048 bytes" in large


async def test_more_connections_than_are_allowed_are_told_so(strict: RunningBackend) -> None:
    def attempt(address: str) -> asyncio.Task[bytes]:
        return asyncio.create_task(said(strict, head(strict, "GET /v2/info"), host=address))

    answers = await asyncio.gather(*(attempt(f"127.0.0.{each}") for each in (1, 1, 1, 1, 1, 1, 1, 2)))
    refused = [answer for answer in answers if answer.startswith(b"HTTP/1.1 503")]
    assert len(refused) >= 2
    assert b"there are 5 connections from your address" in refused[0]
    assert answers[-1].startswith(b"HTTP/1.1 200"), "another address has room of its own"
    many = await asyncio.gather(*(attempt(f"127.0.0.{10 + each}") for each in range(14)))
    assert any(b"there are 8 connections, the most at once" in answer for answer in many)
    # Those that were let go take no room.
    assert (await said(strict, head(strict, "GET /v2/info", Connection="close"))).startswith(b"HTTP/1.1 200")


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
        async with asyncio.timeout(10):
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

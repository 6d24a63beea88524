"""A server answers when it answers in HTTP, whatever it says; and whoever says nothing does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from ports import free_port

from hubfleet.spawner import probe
from hubfleet.spawner.probe import pause_after, status_of


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked here is what is answered, not how soon: the machine may be busy."""
    monkeypatch.setattr(probe, "CONNECT_SECONDS", 60.0)
    monkeypatch.setattr(probe, "ANSWER_SECONDS", 60.0)


@contextlib.asynccontextmanager
async def server(answer: bytes | None) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that reads a request and says this, or nothing."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            if answer is not None:
                writer.write(answer)
            else:
                await reader.read()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", heard


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200),
        (b"HTTP/1.0 403 Forbidden\r\n\r\n", 403),
        (b"HTTP/1.1 302 \r\nLocation: /login\r\n\r\n", 302),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", 503),
    ],
)
async def test_the_status_is_what_the_server_says(answer: bytes, status: int) -> None:
    async with server(answer) as (url, heard):
        assert await status_of(f"{url}/user/a%40b/api") == status
    assert heard[0].startswith(b"GET /user/a%40b/api HTTP/1.1\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH\r\n", b"x" * 10_000, b"HTTP/1.1 ", b""])
async def test_what_speaks_no_http_does_not_answer(answer: bytes) -> None:
    async with server(answer) as (url, _):
        with pytest.raises(OSError, match=r"does not speak HTTP|reset"):
            await status_of(f"{url}/api")


async def test_nobody_is_waited_for_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "ANSWER_SECONDS", 0.1)
    with pytest.raises(ConnectionRefusedError):
        await status_of(f"http://127.0.0.1:{free_port()}/api")
    async with server(None) as (url, _):
        with pytest.raises(TimeoutError):
            await status_of(f"{url}/api")


async def test_a_line_is_never_ended_by_a_path() -> None:
    async with server(b"HTTP/1.1 200 OK\r\n\r\n") as (url, heard):
        await status_of(f"{url}/user/a\r\nX-Other: 1/api")
    assert b"\r\nX-Other" not in heard[0]


def test_a_start_is_held_up_by_a_tenth_and_a_slow_server_is_asked_twice_a_second() -> None:
    waited, probes = 0.0, 0
    while waited < 20:
        pause = pause_after(waited)
        assert pause <= max(0.02, waited / 10)
        waited, probes = waited + pause, probes + 1
    assert probes < 100
    assert pause_after(60) == 0.5

"""The repaired proxy passes paths and answers on as they come."""

from __future__ import annotations

import asyncio
import http.client
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ports import free_port
from tornado.websocket import WebSocketProtocol13, websocket_connect


class Upstream(ThreadingHTTPServer):
    """A server behind the proxy that says which path it was asked for, and answers in two parts."""

    def __init__(self) -> None:
        self.first_part_was_read = threading.Event()
        super().__init__(("127.0.0.1", 0), Answers)


class Answers(BaseHTTPRequestHandler):
    server: Upstream
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/parts":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            self.wfile.flush()
            assert self.server.first_part_was_read.wait(60)
            self.wfile.write(b"6\r\nsecond\r\n0\r\n\r\n")
        elif self.path == "/late":
            time.sleep(0.6)
            self.send_response(200)
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"late")
        elif self.path == "/socket":
            offered = self.headers["Sec-WebSocket-Protocol"].split(",")
            self.send_response(101)
            for name, value in (
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                (
                    "Sec-WebSocket-Accept",
                    WebSocketProtocol13.compute_accept_value(self.headers["Sec-WebSocket-Key"]),
                ),
                ("Sec-WebSocket-Protocol", offered[0].strip()),
            ):
                self.send_header(name, value)
            self.end_headers()
            kind = self.rfile.read(1)  # of the first message: 0x81 is text, 0x82 is bytes
            self.wfile.write(b"\x81\x02" + kind.hex().encode())
        elif self.path == "/empty":
            self.send_response(304)
            self.end_headers()
        else:
            body = self.path.encode()
            self.send_response(404 if "missing" in self.path else 200)
            for cookie in ("a=1", "b=2"):
                self.send_header("Set-Cookie", cookie)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


# Of the client's own limit for an answer, which is 20 seconds, a test cannot wait for the end.
IMPATIENT = """
import sys
from tornado.httpclient import HTTPRequest
HTTPRequest._DEFAULTS["request_timeout"] = 0.3
from hubfleet.spawner.proxy import main
main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def proxy(upstream: Upstream) -> Iterator[int]:
    port, api = free_port(), free_port()
    command = [sys.executable, "-c", IMPATIENT, "--ip=127.0.0.1", f"--port={port}"]
    target = f"http://127.0.0.1:{upstream.server_port}"
    process = subprocess.Popen(
        [*command, "--api-ip=127.0.0.1", f"--api-port={api}", f"--default-target={target}"]
    )
    try:
        assert first_answer(port, "/up")[0] == 200
        yield port
    finally:
        process.terminate()
        process.wait(60)


def first_answer(port: int, path: str) -> tuple[int, str, list[str]]:
    """Ask a proxy that is about to listen."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ask(port, path)
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def ask(port: int, path: str) -> tuple[int, str, list[str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body, answer.headers.get_all("Set-Cookie") or []


@pytest.mark.parametrize(
    "path", ["/user/alice@example.org/api", "/files/a%2Fb", "/%C3%BC?q=%26&r", "/a%20b", "/~x", "/missing"]
)
def test_a_path_goes_on_as_it_came(proxy: int, path: str) -> None:
    status, body, cookies = ask(proxy, path)
    assert (status, body) == (404 if "missing" in path else 200, path)
    assert cookies == ["a=1", "b=2"]


def test_an_answer_without_a_body(proxy: int) -> None:
    assert ask(proxy, "/empty")[:2] == (304, "")


def test_an_answer_may_take_as_long_as_it_takes(proxy: int) -> None:
    assert ask(proxy, "/late")[:2] == (200, "late")


def test_the_first_part_arrives_before_the_second_is_sent(proxy: int, upstream: Upstream) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", proxy, timeout=60)
    connection.request("GET", "/parts")
    answer = connection.getresponse()
    assert answer.read(5) == b"first"
    upstream.first_part_was_read.set()
    assert answer.read() == b"second"
    connection.close()


async def test_a_browser_is_told_which_subprotocol_the_target_has_chosen(proxy: int) -> None:
    """As the dashboards of Dask have it, which offer two and hang up when they are told of none."""
    async with asyncio.timeout(60):
        socket = await websocket_connect(f"ws://127.0.0.1:{proxy}/socket", subprotocols=["bokeh", "a-token"])
    assert socket.selected_subprotocol == "bokeh"
    socket.close()


@pytest.mark.parametrize(("message", "kind"), [("text", "81"), (b"bytes", "82")])
async def test_what_a_browser_says_goes_on_as_what_it_is(proxy: int, message: str | bytes, kind: str) -> None:
    """As JupyterLab's kernels have it, whose messages are bytes once there is a subprotocol."""
    async with asyncio.timeout(60):
        socket = await websocket_connect(f"ws://127.0.0.1:{proxy}/socket", subprotocols=["kernels"])
        await socket.write_message(message, binary=isinstance(message, bytes))
        assert await socket.read_message() == kind
    socket.close()


def test_a_target_that_is_gone_is_a_503() -> None:
    port, api = free_port(), free_port()
    command = [sys.executable, "-m", "hubfleet.spawner.proxy", "--ip=127.0.0.1", f"--port={port}"]
    gone = f"--default-target=http://127.0.0.1:{free_port()}"
    with subprocess.Popen([*command, "--api-ip=127.0.0.1", f"--api-port={api}", gone]) as process:
        try:
            assert first_answer(port, "/x")[0] == 503
        finally:
            process.terminate()

"""How large a request may be, how slow a client, and how many connections there are.

A body that is too large is read to its end, so that its sender hears the answer instead of
a broken connection, but only as much of it is kept as shows that it is too large.
"""

from __future__ import annotations

import json
import socket
from collections import Counter
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from tornado.http1connection import HTTP1ServerConnection
from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.web import Application

CUT_BODY_BYTES = 1024 * 1024 * 1024
"""A body that says to be larger than this is not read at all: its connection is cut."""


_MOST_LEAVING = 50  # connections that are told why there is no room for them
_LEAVING_SECONDS = 0.5
_READ_OF_LEAVING = 64 * 1024


@dataclass(frozen=True)
class HttpLimits:
    """What the server takes from its clients.

    Parameters
    ----------
    body_bytes
        Largest request body; an app definition beyond it is a mistake or an attack.
    header_bytes
        Largest head of a request, all its headers together; beyond it the connection is cut.
    body_seconds
        How long a body may take to arrive.
    idle_seconds
        How long a connection may wait for a request, and a request's head take to arrive.
    reader_seconds
        How long a client may leave what it is sent unread.
    connections, connections_of_address
        Most at once, in all and from one address.
    """

    body_bytes: int = 1024 * 1024
    header_bytes: int = 32 * 1024
    body_seconds: float = 30.0
    idle_seconds: float = 120.0
    reader_seconds: float = 60.0
    connections: int = 800
    connections_of_address: int = 600


def make_server(application: Application, limits: HttpLimits) -> HTTPServer:
    """Return a server of an application that keeps its clients within limits."""
    server = _LimitedServer(
        application,
        max_header_size=limits.header_bytes,
        max_body_size=CUT_BODY_BYTES,
        body_timeout=limits.body_seconds,
        idle_connection_timeout=limits.idle_seconds,
    )
    server.limits = limits
    return server


class _LimitedServer(HTTPServer):
    limits: HttpLimits

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        super().initialize(*args, **kwargs)
        self._open: Counter[str] = Counter()
        self._leaving = 0

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        """Serve a connection, or say why not and close it."""
        host = str(address[0])
        if self._open.total() >= self.limits.connections:
            self._turn_away(stream, f"there are {self.limits.connections} connections, the most at once")
        elif self._open[host] >= self.limits.connections_of_address:
            most = self.limits.connections_of_address
            self._turn_away(stream, f"there are {most} connections from your address, the most at once")
        else:
            # The kernel lets go of a peer that takes nothing for so long, also of one that lives.
            patience = int(self.limits.reader_seconds * 1000)
            stream.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, patience)
            self._open[host] += 1
            super().handle_stream(stream, address)

    def on_close(self, server_conn: object) -> None:
        """Make room again."""
        super().on_close(server_conn)
        connection = cast(HTTP1ServerConnection, server_conn)
        host = str(connection.context.address[0])  # type: ignore[attr-defined]
        self._open[host] -= 1
        if not self._open[host]:
            del self._open[host]

    def _turn_away(self, stream: IOStream, why: str) -> None:
        if self._leaving >= _MOST_LEAVING:
            stream.close()
            return
        body = json.dumps({"message": f"{why}; close some, or try again"})
        head = (
            "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nRetry-After: 5\r\nConnection: close\r\n\r\n"
        )
        self._leaving += 1
        stream.set_close_callback(self._has_left)
        stream.write((head + body).encode())
        # Closed with something unread in it, it would be reset, and the answer lost.
        with suppress(OSError):
            stream.read_bytes(_READ_OF_LEAVING)
        IOLoop.current().call_later(_LEAVING_SECONDS, stream.close)

    def _has_left(self) -> None:
        self._leaving -= 1


class LimitedApplication(Application):
    """An application whose handlers never see more of a body than one byte too many."""

    body_bytes = HttpLimits.body_bytes

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Return what takes one request."""
        return _Shortened(super().start_request(server_conn, request_conn), self.body_bytes + 1)


class _Shortened(HTTPMessageDelegate):
    def __init__(self, inner: HTTPMessageDelegate, room: int) -> None:
        self._inner = inner
        self._room = room

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        kept = chunk[: self._room]
        self._room -= len(kept)
        return self._inner.data_received(kept) if kept else None

    def finish(self) -> None:
        self._inner.finish()

    def on_connection_close(self) -> None:
        self._inner.on_connection_close()

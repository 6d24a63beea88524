"""How large a request may be.

A body that is too large is read to its end, so that its sender hears the answer instead of
a broken connection, but only as much of it is kept as shows that it is too large.
"""

from __future__ import annotations

from collections.abc import Awaitable

from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import Application

MAX_BODY_BYTES = 1024 * 1024
"""Largest request body; an app definition beyond it is a mistake or an attack."""

CUT_BODY_BYTES = 1024 * 1024 * 1024
"""A body that says to be larger than this is not read at all: its connection is cut."""

SLOW_BODY_SECONDS = 30.0
"""How long a body may take to arrive."""


class LimitedApplication(Application):
    """An application whose handlers never see more of a body than one byte too many."""

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Return what takes one request."""
        return _Shortened(super().start_request(server_conn, request_conn))


class _Shortened(HTTPMessageDelegate):
    def __init__(self, inner: HTTPMessageDelegate) -> None:
        self._inner = inner
        self._room = MAX_BODY_BYTES + 1

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

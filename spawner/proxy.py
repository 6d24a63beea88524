"""The Python `configurable-http-proxy`, repaired where 0.4.0 gets in the way of a hub.

It decodes the path of a request and encodes it anew, which turns ``@`` into ``%40`` and
``%2F`` into ``/``: a user whose name holds an ``@`` gets 404 from their own server. It
collects an answer before it passes it on, so that the progress of a start is shown when
it is over, and ends one that takes longer than 20 seconds. Of a websocket it tells a browser
no subprotocol, and makes text of its bytes. And it has ten requests under way at most. Here
paths, answers and messages go on as they come; encryption and the routing by host, which a
hub may ask for, are there. Run it as ``python -m hubfleet.spawner.proxy``, with the options
of ``configurable-http-proxy``; when a release of it no longer needs the repair, use that.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from configurable_http_proxy import cli, configproxy
from configurable_http_proxy.handlers import ProxyHandler
from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, parse_response_start_line
from tornado.iostream import StreamClosedError

from .proxy_options import take_over

MOST_REQUESTS = 10_000
NO_END_SECONDS = 10.0**8  # of an answer, as in the proxy of Node.js; three years
MOST_BODY_BYTES = 100 * 2**30  # what a notebook may download; nothing is collected in memory

# What belongs to one connection, or is no longer true once the client has decoded the answer.
_NOT_PASSED_ON = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection"})


class ForHost:
    """A proxy that finds its routes by host and path, as its users' sub-domains need it."""

    def __init__(self, proxy: Any, host: str) -> None:
        self._proxy = proxy
        self._host = host.lower()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._proxy, name)

    def target_for_req(self, host: None, path: str) -> Any:
        """Return the target of a path, which comes without its first slash."""
        return self._proxy.target_for_req(self._host, f"/{path}")


class StreamingHandler(ProxyHandler):
    """Sends a request on with the path that it came with, and the answer as it comes."""

    encryption: ssl.SSLContext | None = None
    """How the proxy shows itself to hub and servers, and recognises them."""

    def initialize(self, proxy: Any) -> None:
        """Take the proxy whose routes count, seen from the host that was asked for."""
        super().initialize(ForHost(proxy, self.request.host_name) if proxy.host_routing else proxy)

    async def get_target_url(self, path: str) -> str | None:
        """Return where a request goes, or None if nowhere."""
        url = await super().get_target_url(path)
        return None if url is None else with_raw_path(url, path, self.request.path)

    def _get_proxy_request(self, url: str) -> HTTPRequest:
        request: HTTPRequest = super()._get_proxy_request(url)
        if self.proxy.proxy_timeout is None:
            # Else tornado's own limit of 20 seconds would count, for a download's whole length too.
            request.request_timeout = NO_END_SECONDS
        if self.encryption is not None and urlsplit(url).scheme in {"https", "wss"}:
            request.ssl_options = self.encryption
        return request

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Return what the target, which was asked first, has chosen of what a browser offers.

        A browser that offers some and is told of none hangs up, as on the dashboards of Dask.
        """
        chosen = self.ws_client.selected_subprotocol if self.ws_client else None
        return chosen if chosen in subprotocols else None

    def on_message(self, message: str | bytes) -> None:
        """Hand on what a browser says; that is bytes in the subprotocol of JupyterLab's kernels."""
        if self.ws_client:
            if self.target:
                self.proxy.update_last_activity(self.target["prefix"])
            self.ws_client.write_message(message, binary=isinstance(message, bytes))

    async def call_proxy(self, path: str | None = None) -> None:
        """Answer a request with what its target answers."""
        url = await self.get_target_url(path or "")
        if url is None:
            return
        request = self._get_proxy_request(url)
        lines: list[str] = []
        begun = False

        def take_header(line: str) -> None:
            nonlocal begun
            if line.startswith("HTTP/"):
                lines.clear()  # an interim answer came before
            if line.strip():
                lines.append(line.rstrip("\r\n"))
            elif lines:
                begun = True
                self._begin_answer(lines)

        def take_body(chunk: bytes) -> None:
            if not self.request.connection.stream.closed():
                self.write(chunk)
                self.flush()

        request.header_callback, request.streaming_callback = take_header, take_body
        try:
            response = await AsyncHTTPClient().fetch(request, raise_error=False)
        except Exception as error:
            if begun:
                self.request.connection.close()
                return
            await self.handle_proxy_error(503, error)
            return
        if not begun:
            await self.handle_proxy_error(503, response.error)
            return
        try:
            await self.finish()
        except StreamClosedError:
            return  # whoever asked has gone

    def _begin_answer(self, lines: list[str]) -> None:
        start = parse_response_start_line(lines[0])
        self.set_status(start.code, start.reason)
        headers = HTTPHeaders.parse("\r\n".join(lines[1:]))
        passed = [(name, value) for name, value in headers.get_all() if name.lower() not in _NOT_PASSED_ON]
        for name, _ in passed:
            self.clear_header(name)
        for name, value in passed:
            self.add_header(name, value)


def with_raw_path(url: str, decoded: str, raw: str) -> str:
    """Return a target's URL with the request's own path in place of the re-encoded one.

    Parameters
    ----------
    url
        The target, ending in the re-encoded path (without a query's part of it).
    decoded, raw
        The request's path without its encoding, and as it came.
    """
    parts = urlsplit(url)
    encoded = quote(decoded).lstrip("/")
    if not parts.path.endswith(encoded):
        return url  # the proxy was told to change the path
    before = parts.path.removesuffix(encoded)
    return urlunsplit(parts._replace(path=before + raw.lstrip("/")))


def main(arguments: Sequence[str]) -> None:
    """Run the proxy."""
    rest, encryption = take_over(arguments)
    AsyncHTTPClient.configure(
        None,
        max_clients=MOST_REQUESTS,
        max_body_size=MOST_BODY_BYTES,
        defaults={"ssl_options": encryption.client},  # for the hub's error pages
    )
    StreamingHandler.encryption = encryption.client
    configproxy.ProxyHandler = StreamingHandler
    # It makes two servers, the public one first, and knows of no encryption for either.
    sides = iter((encryption.public, encryption.api))
    cli.HTTPServer = lambda application: HTTPServer(application, ssl_options=next(sides))
    cli.main(rest)


if __name__ == "__main__":
    main(sys.argv[1:])

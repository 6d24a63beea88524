"""The Python `configurable-http-proxy`, repaired where 0.4.0 gets in the way of a hub.

It decodes the path of a request and encodes it anew, which turns ``@`` into ``%40`` and
``%2F`` into ``/``: a user whose name holds an ``@`` gets 404 from their own server. It
collects an answer before it passes it on, so that the progress of a start is shown when
it is over. And it has ten requests under way at most. Here paths and answers go on as they
come. Run it as ``python -m hubfleet.spawner.proxy``, with the options of
``configurable-http-proxy``; when a release of it no longer needs the repair, use that.
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from configurable_http_proxy import cli, configproxy
from configurable_http_proxy.handlers import ProxyHandler
from tornado.httpclient import AsyncHTTPClient
from tornado.httputil import HTTPHeaders, parse_response_start_line
from tornado.iostream import StreamClosedError

MOST_REQUESTS = 10_000
MOST_BODY_BYTES = 100 * 2**30  # what a notebook may download; nothing is collected in memory

# What belongs to one connection, or is no longer true once the client has decoded the answer.
_NOT_PASSED_ON = frozenset({"content-length", "transfer-encoding", "content-encoding", "connection"})


class StreamingHandler(ProxyHandler):
    """Sends a request on with the path that it came with, and the answer as it comes."""

    async def get_target_url(self, path: str) -> str | None:
        """Return where a request goes, or None if nowhere."""
        url = await super().get_target_url(path)
        return None if url is None else with_raw_path(url, path, self.request.path)

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


def main() -> None:
    """Run the proxy."""
    AsyncHTTPClient.configure(None, max_clients=MOST_REQUESTS, max_body_size=MOST_BODY_BYTES)
    configproxy.ProxyHandler = StreamingHandler
    cli.main()


if __name__ == "__main__":
    main()

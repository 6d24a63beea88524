"""The Python `configurable-http-proxy`, repaired where 0.4.0 changes the path of a request.

It decodes the path and encodes it anew, which turns ``@`` into ``%40`` and ``%2F`` into
``/``: a user whose name holds an ``@`` gets 404 from their own server. Here the path goes
on as it came. Run it as ``python -m hubfleet.spawner.proxy``, with the options of
``configurable-http-proxy``; when a release of it no longer needs the repair, use that.
"""

from __future__ import annotations

from urllib.parse import quote, urlsplit, urlunsplit

from configurable_http_proxy import cli, configproxy
from configurable_http_proxy.handlers import ProxyHandler


class RawPathHandler(ProxyHandler):
    """Sends a request on with the path that it came with."""

    async def get_target_url(self, path: str) -> str | None:
        """Return where a request goes, or None if nowhere."""
        url = await super().get_target_url(path)
        return None if url is None else with_raw_path(url, path, self.request.path)


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
    configproxy.ProxyHandler = RawPathHandler
    cli.main()


if __name__ == "__main__":
    main()

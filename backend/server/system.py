"""``/ping`` and ``/v2/info`` (``marathon-v2`` 1.4)."""

from __future__ import annotations

from importlib.metadata import version

from tornado.httputil import split_host_and_port

from .base import ApiHandler

API_LEVEL = "1.11.0"
"""The Marathon whose API this is."""


class PingHandler(ApiHandler):
    """A sign of life, for everybody."""

    async def prepare(self) -> None:
        """Ask nobody who they are."""

    def get(self) -> None:
        """Answer pong, in quotes to those who prefer JSON."""
        if self.request.headers.get("Accept", "").startswith("application/json"):
            self.write_json("pong")
        else:
            self.set_header("Content-Type", "text/plain")
            self.finish("pong")


class InfoHandler(ApiHandler):
    """What this is."""

    def get(self) -> None:
        """Show name, version and configuration in Marathon's shape."""
        host, port = split_host_and_port(self.request.host)
        self.write_json(
            {
                "name": "marathon",
                "version": API_LEVEL,
                "buildref": f"hubfleet-{version('hubfleet')}",
                "elected": True,
                "leader": self.request.host,
                "marathon_config": {"hostname": host, "framework_name": "hubfleet"},
                "zookeeper_config": {},
                "http_config": {} if port is None else {"http_port": port},
            }
        )

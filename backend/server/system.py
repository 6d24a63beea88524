"""What is said of the backend itself: ``/ping``, ``/v2/info``, ``/v2/leader`` … (``marathon-v2`` 1.4)."""

from __future__ import annotations

import asyncio
import logging
from importlib.metadata import version

from pydantic import ValidationError
from tornado.httputil import split_host_and_port

from hubfleet.api.rules import Violation

from ..access import Forbidden
from ..definition import WrongShape, shape_errors
from ..orchestrator.refusals import ChangeRefused, NotValid
from .base import ApiHandler
from .media import preferred
from .shapes import LogLevel

API_LEVEL = "1.11.0"
"""The Marathon whose API this is."""

ABDICATION_SECONDS = 0.5
"""Between the answer and the end, as Marathon has it."""


class PingHandler(ApiHandler):
    """A sign of life, for everybody."""

    async def prepare(self) -> None:
        """Ask nobody who they are."""

    def get(self) -> None:
        """Answer pong, in quotes to those who prefer JSON, and nothing to those who take neither."""
        match preferred(self.request.headers.get("Accept"), "text/plain", "application/json"):
            case "text/plain":
                self.set_header("Content-Type", "text/plain")
                self.finish("pong")
            case "application/json":
                self.write_json("pong")
            case _:
                self.set_status(204)
                self.finish()


class InfoHandler(ApiHandler):
    """What this is."""

    def get(self) -> None:
        """Show name, version and configuration in Marathon's shape.

        What cannot be said of one machine (Mesos, ZooKeeper) is left out.
        """
        host, port = split_host_and_port(self.request.host)
        first, last = self.orchestrator.changes.service_ports.bounds
        self.write_json(
            {
                "name": "marathon",
                "version": API_LEVEL,
                "buildref": f"hubfleet-{version('hubfleet')}",
                "elected": True,
                "leader": self.request.host,
                "marathon_config": {
                    "hostname": host,
                    "framework_name": "hubfleet",
                    "checkpoint": True,
                    "ha": False,
                    "features": [],
                    "mesos_role": "*",
                    "local_port_min": first,
                    "local_port_max": last,
                },
                "zookeeper_config": {},
                "http_config": {} if port is None else {"http_port": port},
            }
        )


class LeaderHandler(ApiHandler):
    """Who leads: on one machine always this backend."""

    def get(self) -> None:
        """Name the leader by the address that was asked."""
        self.write_json({"leader": self.request.host})

    def delete(self) -> None:
        """End this backend, as Marathon's leader ends; what supervises it starts another one."""
        if not self.caller.is_admin:
            raise Forbidden(f"{self.caller.name} may not end the backend; an administrator's token may")
        for name in ("backup", "restore"):
            if self.get_query_argument(name, None) is not None:
                raise ChangeRefused(
                    f"'{name}' is not done here: the state is one SQLite database, backend.sqlite in the "
                    "state directory; copy it while the backend is stopped, or with SQLite's own .backup"
                )
        asyncio.get_running_loop().call_later(ABDICATION_SECONDS, self.services.stop)
        self.write_json({"message": "Leadership abdicated"})


class PluginsHandler(ApiHandler):
    """Marathon's plugins, of which there are none here."""

    def get(self) -> None:
        """List none."""
        self.write_json({"plugins": []})


LEVELS = {"trace": logging.DEBUG, "debug": logging.DEBUG, "info": logging.INFO}
LEVELS |= {"warn": logging.WARNING, "error": logging.ERROR, "off": logging.CRITICAL + 1}


class LoggingHandler(ApiHandler):
    """How much the backend logs."""

    async def prepare(self) -> None:
        """Let in administrators."""
        await super().prepare()
        if not self.caller.is_admin:
            raise Forbidden(f"{self.caller.name} may not see or change what is logged; an administrator may")

    def get(self) -> None:
        """Map the backend's loggers to their levels."""
        names = sorted(name for name in logging.root.manager.loggerDict if name.startswith("hubfleet"))
        levels = {name: logging.getLogger(name).getEffectiveLevel() for name in names}
        self.write_json({name: logging.getLevelName(level).lower() for name, level in levels.items()})

    def post(self) -> None:
        """Set the level of a logger, for a while or until the backend ends."""
        try:
            asked = LogLevel.from_request(self.json_body())
        except ValidationError as error:
            raise WrongShape(shape_errors(error)) from None
        name, seconds = asked.logger, asked.duration_seconds
        if name.partition(".")[0] != "hubfleet":
            raise NotValid(
                [Violation("/logger", f"{name} is no logger of the backend; GET /logging lists them")]
            )
        logger = logging.getLogger(name)
        before = logger.level
        logger.setLevel(LEVELS[asked.level])
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, logger.setLevel, before)
        self.write_json(asked.to_wire())

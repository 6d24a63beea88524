"""What a cluster is made with: arguments, completed by configuration and environment, and checked."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from distributed import Security

from hubfleet.api.client import Client

from . import config, place
from .checks import MOST_WORKERS, duration, known_names, real_number, text, truth, whole_number
from .lease import LEASE_SECONDS
from .options import WorkerOptions
from .tls import checked_security

HERE, APP = "here", "app"
"""Where a scheduler may be."""

WORKER_OPTIONS = tuple(option.name for option in fields(WorkerOptions))
"""The names of the options that a worker has."""

_MOST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """The arguments of a `MarathonCluster` but what its workers are; its docstring says what they mean."""

    name: str
    n_workers: int
    marathon: Client
    group: str
    owner: str | None
    lease_seconds: int
    host: str
    security: Security
    dashboard_address: str
    scheduler_port: int
    drain_seconds: float
    scheduler: str
    idle_timeout: float | None
    shutdown_on_close: bool
    silence_logs: int | str | bool

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ClusterSettings:
        """Return the settings that arguments mean, of which None stands for what is configured.

        Raises
        ------
        TypeError, ValueError
            One has the wrong type, is out of range, or is nowhere to be found.
        """
        token = given.get("token")
        found = config.completed("cluster", {name: value for name, value in given.items() if name != "token"})
        idle = found.get("idle_timeout")
        where = text("scheduler", found.get("scheduler", HERE))
        if where not in (HERE, APP):
            raise ValueError(f"scheduler must be 'here' (in this process) or 'app', got {where!r}")
        name = found.get("name")
        return cls(
            n_workers=whole_number("n_workers", found.get("n_workers", 0), 0, MOST_WORKERS),
            lease_seconds=found.get("lease_seconds", LEASE_SECONDS),
            host=place.own_host(found.get("host")),
            dashboard_address=text("dashboard_address", found.get("dashboard_address")),
            scheduler_port=whole_number("scheduler_port", found.get("scheduler_port", 0), 0, _MOST_PORT),
            security=checked_security(found.get("security")),
            marathon=place.backend_client(found.get("url"), token),
            group=place.dask_group(found.get("group")),
            name=uuid.uuid4().hex[:8] if name is None else text("name", name),
            owner=place.owner_app(found.get("owner")),
            drain_seconds=real_number("drain_seconds", found.get("drain_seconds"), 0, "seconds"),
            scheduler=where,
            idle_timeout=None if idle is None else duration("idle_timeout", idle, 1.0),
            shutdown_on_close=truth("shutdown_on_close", found.get("shutdown_on_close", True)),
            silence_logs=_level(found.get("silence_logs", logging.WARNING)),
        )


def worker_options(function: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a worker is, as it was given, and as configured where nothing was given."""
    known_names(function, given, WORKER_OPTIONS)
    return config.section("worker") | dict(given)


def _level(value: Any) -> int | str | bool:
    if value is False or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and isinstance(getattr(logging, value.upper(), None), int):
        return value
    raise ValueError(f"silence_logs must be a level such as 'warning', or False for all logs; got {value!r}")

"""Apps and instances out of nothing, for tests of the backend's pure parts."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from hubfleet.api.app import App, VersionInfo
from hubfleet.backend.records import Condition, Goal, Health, Instance

START = datetime(2026, 1, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def moment(seconds: float = 0) -> datetime:
    return START + timedelta(seconds=seconds)


def app(instances: int = 1, version: float = 0, **fields: Any) -> App:
    """An app that was configured at its version."""
    info = VersionInfo(last_scaling_at=moment(version), last_config_change_at=moment(version))
    body = {"id": "/a", "cmd": "sleep 1", "instances": instances, **fields}
    return App.model_validate({**body, "version": moment(version), "version_info": info})


def instance(
    condition: Condition = Condition.RUNNING,
    version: float = 0,
    goal: Goal = Goal.RUNNING,
    healthy: bool | None = None,
    began: float = 0,
    **fields: Any,
) -> Instance:
    """One instance; with `healthy` given it is one with a health check."""
    seen = {"last_success" if healthy else "last_failure": moment(began)}
    return Instance(
        id=f"a.instance-{next(_numbers)}",
        app_id="/a",
        version=moment(version),
        config_version=moment(version),
        checked=healthy is not None,
        since=moment(began),
        started_at=moment(began) if condition in (Condition.RUNNING, Condition.KILLING) else None,
        condition=condition,
        goal=goal,
        health={} if healthy is None else {0: Health(**seen)},
        **fields,
    )

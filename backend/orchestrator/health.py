"""Health checks: what the outcome of a probe means (``marathon-v2`` 2.4). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hubfleet.api.app import HealthCheck

from ..records import Health


@dataclass(frozen=True)
class Verdict:
    """What one probe leads to."""

    health: Health
    counted: bool
    """Whether it was a failure that counts."""
    kill: bool


def run_by_agent(check: HealthCheck) -> bool:
    """Whether a check is one that Mesos' executor makes, beside the task, and not Marathon."""
    return check.protocol == "COMMAND" or check.protocol.startswith("MESOS_")


def judge(health: Health, check: HealthCheck, failure: str | None, age: float, at: datetime) -> Verdict:
    """Return what a probe's outcome means for a running task.

    Parameters
    ----------
    failure
        The cause, or None for a success.
    age
        Seconds since the task became running.
    at
        The moment of the probe, which is only told.
    """
    if failure is None:
        success = {
            "first_success": health.first_success or at,
            "last_success": at,
            "consecutive_failures": 0,
            "alive": True,
        }
        return Verdict(health.model_copy(update=success), counted=False, kill=False)
    failed: dict[str, Any] = {"last_failure": at, "last_failure_cause": failure, "alive": False}
    if health.first_success is None and age < check.grace_period_seconds:
        return Verdict(health.model_copy(update=failed), counted=False, kill=False)
    allowed = check.max_consecutive_failures
    failed["consecutive_failures"] = health.consecutive_failures + 1
    if run_by_agent(check):
        # Mesos kills with the last one allowed, and where none is with the first.
        kill = health.consecutive_failures + 1 >= allowed
    else:
        # Marathon kills with the one after, and where none is given never.
        kill = 0 < allowed <= health.consecutive_failures
    return Verdict(health.model_copy(update=failed), counted=True, kill=kill)

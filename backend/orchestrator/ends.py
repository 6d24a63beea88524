"""What the end of a task means for its instance. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hubfleet.api.app import App
from hubfleet.api.status import TaskFailure
from hubfleet.api.wire import now

from ..drivers import TaskExit
from ..records import Condition, Instance

_FAILURES = frozenset({Condition.FAILED, Condition.ERROR, Condition.GONE})


@dataclass(frozen=True)
class TaskEnd:
    """How a task's life ended, seen by its runner."""

    exit: TaskExit
    refusal: str | None = None
    """Why the engine would not start it at all."""
    failure: str | None = None
    """Why what it needs before its start could not be had, for a reason of its own."""


def outcome(instance: Instance, end: TaskEnd) -> tuple[Condition, str]:
    """Return what the end of a task is called, and the sentence on it."""
    if end.refusal is not None:
        return Condition.ERROR, end.refusal
    if instance.condition is Condition.KILLING:
        return Condition.KILLED, instance.kill_reason or end.exit.message
    if end.failure is not None:
        return Condition.FAILED, end.failure
    if end.exit.out_of_memory:
        return Condition.FAILED, end.exit.message
    if end.exit.exit_code is None and end.exit.signal is None:
        return Condition.GONE, end.exit.message
    if end.exit.exit_code == 0:
        return Condition.FINISHED, end.exit.message
    return Condition.FAILED, end.exit.message


def is_failure(instance: Instance) -> bool:
    """Whether an ended instance ended badly: by itself, or by a health check (``marathon-v2`` section 3)."""
    return instance.condition in _FAILURES or instance.kill_reason is not None


def failure(instance: Instance, message: str, stderr: str) -> TaskFailure:
    """Return what is told of the bad end of an instance."""
    return TaskFailure.model_validate(
        {
            "app_id": instance.app_id,
            "task_id": instance.task_id,
            "state": f"TASK_{instance.condition.name}",
            "message": message,
            "host": instance.host,
            "slave_id": instance.host,
            "timestamp": now(),
            "version": instance.version,
            "stderr": stderr or None,
        }
    )


def schedule_again(instance: Instance, app: App) -> None:
    """Let an ended instance wait for its next task."""
    instance.incarnation += 1
    instance.condition = Condition.SCHEDULED
    instance.follow(app)
    instance.since = now()
    instance.host, instance.ports, instance.gpus = "", [], []
    instance.staged_at = instance.started_at = instance.started_uptime = None
    instance.kill_reason = None
    instance.terminated_uptime = None
    instance.stuck = False
    instance.health = {}
    instance.readiness = []

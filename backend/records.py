"""What the backend knows and keeps: apps, instances and deployments, as they stand in the store."""

from __future__ import annotations

import json
import uuid
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from pydantic import BaseModel, Field, PrivateAttr

from hubfleet.api.app import App
from hubfleet.api.status import Action, Deployment, HealthResult, ReadinessResult, Step, Task, TaskFailure
from hubfleet.api.wire import Timestamp, format_timestamp, now


class Condition(StrEnum):
    """Where an instance is in its life (``marathon-v2`` section 6, `instance_changed_event`)."""

    SCHEDULED = "Scheduled"
    PROVISIONED = "Provisioned"
    RUNNING = "Running"
    KILLING = "Killing"
    KILLED = "Killed"
    FINISHED = "Finished"
    FAILED = "Failed"
    ERROR = "Error"
    GONE = "Gone"


ENDED = frozenset({Condition.KILLED, Condition.FINISHED, Condition.FAILED, Condition.ERROR, Condition.GONE})

TASK_STATES = {
    Condition.PROVISIONED: "TASK_STAGING",
    Condition.RUNNING: "TASK_RUNNING",
    Condition.KILLING: "TASK_KILLING",
    Condition.KILLED: "TASK_KILLED",
    Condition.FINISHED: "TASK_FINISHED",
    Condition.FAILED: "TASK_FAILED",
    Condition.ERROR: "TASK_ERROR",
    Condition.GONE: "TASK_GONE",
}


class Goal(StrEnum):
    """What is to become of an instance."""

    RUNNING = "Running"
    STOPPED = "Stopped"


def _last_succeeded(health: dict[str, Any]) -> bool:
    success, failure = health["last_success"], health["last_failure"]
    return success is not None and (failure is None or success > failure)


class Health(BaseModel):
    """What one health check has seen of one task."""

    first_success: datetime | None = None
    last_success: datetime | None = None
    last_failure: datetime | None = None
    last_failure_cause: str | None = None
    consecutive_failures: int = 0
    alive: bool = Field(default_factory=_last_succeeded)
    """Whether the last success is newer than the last failure (``marathon-v2`` 2.4).

    Kept beside their times, of which the older one is the later one where the clock was set back.
    """


class Instance(BaseModel):
    """One place in an app's count. It keeps its id over restarts; each start is a new task of it."""

    id: str
    app_id: str
    version: Timestamp
    config_version: Timestamp
    first_version: Timestamp | None = None
    """The app's version when the instance was made: that of the deployment that started it."""
    checked: bool = False
    """Whether the definition has health checks by which the task is judged."""
    since: datetime
    incarnation: int = 1
    condition: Condition = Condition.SCHEDULED
    goal: Goal = Goal.RUNNING
    host: str = ""
    ports: list[int] = Field(default_factory=list)
    gpus: list[int] = Field(default_factory=list)
    """Which GPUs of its host the task has."""
    staged_at: datetime | None = None
    started_at: datetime | None = None
    started_uptime: float | None = None
    """When it became running, by `uptime`: its age must not depend on who sets the clock."""
    kill_reason: str | None = None
    terminated_uptime: float | None = None
    """When the task was sent SIGTERM, by `uptime`, from which its grace is counted."""
    stuck: bool = False
    """Whether so many kills have failed to end the task that it was reported."""
    health: dict[int, Health] = Field(default_factory=dict)
    readiness: list[ReadinessResult] = Field(default_factory=list)
    """What its readiness checks have said, while the deployment that launched it is under way."""

    @classmethod
    def scheduled(cls, app: App) -> Instance:
        """Return a new instance of an app, waiting for a place."""
        assert app.version is not None
        return cls(
            id=f"{app.id.strip('/').replace('/', '_')}.instance-{uuid.uuid1(node=_NODE)}",
            app_id=app.id,
            version=app.version,
            config_version=config_version(app),
            first_version=app.version,
            checked=bool(app.health_checks),
            since=now(),
        )

    def follow(self, app: App) -> None:
        """Let the next task be one of this definition."""
        assert app.version is not None
        self.version, self.config_version = app.version, config_version(app)
        self.checked = bool(app.health_checks)

    @property
    def task_id(self) -> str:
        """The id of the present task (Marathon 1.8 and later)."""
        return f"{self.id}._app.{self.incarnation}"

    @property
    def launched(self) -> bool:
        """Whether there is, or may be, a task of this instance on the engine."""
        return self.condition in (Condition.PROVISIONED, Condition.RUNNING, Condition.KILLING)

    @property
    def waits(self) -> bool:
        """Whether it is to have a task, and has no place for one yet."""
        return self.condition is Condition.SCHEDULED and self.goal is Goal.RUNNING

    @property
    def healthy(self) -> bool | None:
        """Whether all checks that have spoken say alive; None if none has."""
        return all(health.alive for health in self.health.values()) if self.health else None

    @property
    def serves(self) -> bool:
        """Whether the task runs, is to stay, and is healthy where it is checked."""
        if self.condition is not Condition.RUNNING or self.goal is not Goal.RUNNING:
            return False
        return not self.checked or self.healthy is True

    @property
    def ready(self) -> bool:
        """Whether a deployment may count this instance as done: it serves, and has said that it is ready."""
        return self.serves and all(result.ready for result in self.readiness)

    def to_task(self) -> Task:
        """Return the task as the API shows it."""
        return Task.model_validate(
            {
                "id": self.task_id,
                "app_id": self.app_id,
                "state": TASK_STATES[self.condition],
                "host": self.host,
                "slave_id": self.host,
                "ports": self.ports if self.launched else [],
                "ip_addresses": [{"ip_address": self.host}] if self.host else [],
                "staged_at": self.staged_at,
                "started_at": self.started_at,
                "version": self.version,
                "health_check_results": [
                    HealthResult(instance_id=self.id, **health.model_dump())
                    for health in self.health.values()
                ],
            }
        )


# Time-based ids as Marathon's, with a random node instead of this machine's network address.
_NODE = uuid.uuid4().int & 0xFFFFFFFFFFFF | 0x010000000000


class Backoff(BaseModel):
    """How long an app that keeps ending is held back (``marathon-v2`` 5.5). Seconds."""

    delay: float
    reference: datetime


class AppRecord(BaseModel):
    """An accepted app definition and what happened to it."""

    app: App
    backoff: Backoff | None = None
    last_task_failure: TaskFailure | None = None

    @property
    def id(self) -> str:
        """The app's id."""
        return self.app.id

    @cached_property
    def text(self) -> str:
        """The definition in JSON as the API shows it; worked out once, for it is most of many answers.

        From then on the app in this record stays: a changed one is another record's.
        """
        return self.app.to_text()

    @property
    def stored(self) -> str:
        """The whole record in JSON, as the store keeps it."""
        rest = self.model_dump_json(exclude={"app"})
        return f'{{"app":{self.text},{rest[1:]}'


class GroupRecord(BaseModel):
    """A group that was made by name; the root's id is empty."""

    id: str
    dependencies: list[str] = Field(default_factory=list)
    """Absolute ids of groups whose apps are there before those of this one."""


class DeploymentRecord(BaseModel):
    """A plan under way. Of an app in several steps the last one is where its tasks are touched."""

    id: str
    version: datetime
    steps: list[Step]
    current: int = -1
    """Index into the steps; -1 before the first one begins."""
    originals: dict[str, App | None] = Field(default_factory=dict)
    """The definitions before, for a cancellation that undoes."""
    original_groups: dict[str, GroupRecord | None] = Field(default_factory=dict)
    """The groups made by name before, of those that it makes, changes or ends."""
    share: str | None = None
    """Whose change it is; None is one that counts for nobody."""
    remaining: set[str] | None = Field(default=None, exclude=True)
    """The apps with which the current step is not done yet; None is not known, as after a restart."""
    _originals_text: str | None = PrivateAttr(None)

    @cached_property
    def _turns(self) -> dict[str, tuple[int, str]]:
        """In which step the turn of each app is, and what is done to it then."""
        return {
            action.app: (index, action.action)
            for index, step in enumerate(self.steps)
            for action in step.actions
            if action.app
        }

    @classmethod
    def of(cls, version: datetime, steps: list[Step], share: str | None = None) -> DeploymentRecord:
        """Return a new plan."""
        return cls(id=str(uuid.uuid4()), version=version, steps=steps, share=share)

    @property
    def affected_apps(self) -> list[str]:
        """The apps that some step touches, each once, in order."""
        return list(self._turns)

    @property
    def current_actions(self) -> list[Action]:
        """What is being done now; nothing before the first step."""
        return self.steps[self.current].actions if 0 <= self.current < len(self.steps) else []

    @property
    def stored(self) -> str:
        """The whole record in JSON, as the store keeps it at every step; what was before never changes."""
        deque(self.write_out(), maxlen=0)
        rest = self.model_dump_json(exclude={"originals"})
        return f'{{"originals":{self._originals_text},{rest[1:]}'

    def write_out(self) -> Iterator[None]:
        """Work out what never changes of what is `stored`, and yield after each part of it."""
        if self._originals_text is None:
            texts = []
            for app_id, app in self.originals.items():
                texts.append(f"{json.dumps(app_id)}:{'null' if app is None else app.to_text()}")
                yield
            self._originals_text = "{" + ",".join(texts) + "}"

    def holds(self, app_id: str) -> bool:
        """Whether an app stays as it was, since its turn has not come."""
        return app_id in self._turns and self.current < self._turns[app_id][0]

    def action_on(self, app_id: str) -> str | None:
        """Return what is being done to an app in the current step, or None if nothing is, or no more."""
        if app_id not in self._turns:
            return None
        turn, action = self._turns[app_id]
        under_way = self.remaining is None or app_id in self.remaining
        return action if turn == self.current and under_way else None

    def to_deployment(self) -> Deployment:
        """Return the plan as the API shows it."""
        return Deployment(
            id=self.id,
            version=self.version,
            affected_apps=self.affected_apps,
            steps=self.steps,
            current_actions=self.current_actions,
            current_step=min(self.current + 1, len(self.steps)),
            total_steps=len(self.steps),
        )

    @cached_property
    def plan(self) -> dict[str, Any]:
        """The plan as events carry it, at each step the same.

        The two empty groups are what the Python client 0.13.0 cannot do without
        (``marathon-v2`` 7.1); Marathon itself left them out from 1.8 on.
        """
        return {
            "id": self.id,
            "version": format_timestamp(self.version),
            "steps": [step.to_wire() for step in self.steps],
            "original": {"id": "/"},
            "target": {"id": "/"},
        }


def config_version(app: App) -> datetime:
    """Return when the app's configuration, not only its count, last changed."""
    assert app.version_info is not None
    assert app.version_info.last_config_change_at is not None
    return app.version_info.last_config_change_at

"""What a Marathon API answers about apps: tasks, deployments, the queue (``marathon-v2`` 1 to 3)."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import Field

from .app import App
from .wire import Timestamp, Wire

ENDED_STATES = frozenset(
    {"TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_GONE", "TASK_DROPPED", "TASK_LOST"}
)
"""States of tasks that are no more."""

FAILED_STATES = ENDED_STATES - {"TASK_KILLED"}
"""Those of which nobody wished the end; a kill is somebody's wish."""


class HealthResult(Wire):
    """What the health checks of one task have seen so far."""

    alive: bool
    consecutive_failures: int = 0
    instance_id: str | None = None
    first_success: Timestamp | None = None
    last_success: Timestamp | None = None
    last_failure: Timestamp | None = None
    last_failure_cause: str | None = None


class IPAddress(Wire):
    """An address of a task."""

    ip_address: str
    protocol: str = "IPv4"


class Task(Wire):
    """One running instance of an app."""

    id: str
    app_id: str
    state: str
    host: str = ""
    slave_id: str | None = None
    ports: list[int] = Field(default_factory=list)
    service_ports: list[int] = Field(default_factory=list)
    ip_addresses: list[IPAddress] = Field(default_factory=list)
    staged_at: Timestamp | None = None
    started_at: Timestamp | None = None
    version: Timestamp | None = None
    health_check_results: list[HealthResult] = Field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether the task's process runs and nobody has asked for its end."""
        return self.state == "TASK_RUNNING"


class TaskFailure(Wire):
    """The last bad end of a task of an app."""

    app_id: str
    task_id: str
    state: str
    message: str = ""
    host: str = ""
    timestamp: Timestamp | None = None
    version: Timestamp | None = None
    stderr: str | None = None
    """The end of what the task wrote to stderr; our backend's own, absent from Marathon's answers."""


class HistoryEvent(Wire):
    """Something that happened to an app, or to one of its tasks, as a sentence; our backend's own."""

    timestamp: Timestamp
    app_id: str
    task_id: str | None = None
    message: str


class EndedTask(Wire):
    """A task that has ended and whose output can still be read; our backend's own."""

    id: str
    app_id: str
    state: str
    message: str = ""
    timestamp: Timestamp
    """When it ended."""


class AppHistory(Wire):
    """What happened to an app and its tasks, and which ended ones can still be read; our backend's own."""

    history: list[HistoryEvent] = Field(default_factory=list)
    ended_tasks: list[EndedTask] = Field(default_factory=list)


class ReadinessResponse(Wire):
    """What a task answered to a readiness check; 504 where it did not answer."""

    status: int
    content_type: str = ""
    body: str = ""


class ReadinessResult(Wire):
    """What a readiness check has found of one task so far (``marathon-v2`` 2.5)."""

    name: str
    task_id: str
    ready: bool = False
    last_response: ReadinessResponse | None = None
    """Only where the check preserves it."""


class DeploymentRef(Wire):
    """The id of a deployment that holds an app."""

    id: str


class AppStatus(App):
    """An app with what becomes of it, as ``GET /v2/apps/{id}`` answers."""

    tasks_staged: int = 0
    tasks_running: int = 0
    tasks_healthy: int = 0
    tasks_unhealthy: int = 0
    tasks: list[Task] = Field(default_factory=list)
    deployments: list[DeploymentRef] = Field(default_factory=list)
    last_task_failure: TaskFailure | None = None


class DeploymentResult(Wire):
    """The answer to an accepted change."""

    version: Timestamp
    deployment_id: str


class Action(Wire):
    """One thing that a deployment does to one app."""

    action: str
    app: str | None = None


class Step(Wire):
    """Actions of a deployment that run side by side."""

    actions: list[Action] = Field(default_factory=list)


class Deployment(Wire):
    """The plan that brings apps to their definition, and how far it is."""

    id: str
    version: Timestamp
    affected_apps: list[str] = Field(default_factory=list)
    steps: list[Step] = Field(default_factory=list)
    current_actions: list[Action] = Field(default_factory=list)
    current_step: int = 0
    total_steps: int = 0


class Delay(Wire):
    """How long an app is held back. Seconds."""

    time_left_seconds: int = 0
    overdue: bool = True


class Reject(Wire):
    """Why places did not fit, and how many of them."""

    reason: str
    declined: int = 0
    processed: int = 0


class OffersSummary(Wire):
    """What came of the places that were tried for a waiting app."""

    processed_offers_count: int = 0
    unused_offers_count: int = 0
    last_unused_offer_at: Timestamp | None = None
    last_used_offer_at: Timestamp | None = None
    reject_summary_last_offers: list[Reject] = Field(default_factory=list)
    reject_summary_launch_attempt: list[Reject] = Field(default_factory=list)


class NumberRange(Wire):
    """Numbers, both ends among them."""

    begin: int
    end: int


class OfferResource(Wire):
    """How much of a resource is offered: a number, or ranges of ports. Memory and disk in MiB."""

    name: str
    role: str = "*"
    scalar: float | None = None
    ranges: list[NumberRange] | None = None


class AgentAttribute(Wire):
    """Something that a place is said to be."""

    name: str
    text: str


class Offer(Wire):
    """What of a place is free."""

    id: str
    hostname: str
    agent_id: str
    resources: list[OfferResource] = Field(default_factory=list)
    attributes: list[AgentAttribute] = Field(default_factory=list)


class UnusedOffer(Wire):
    """A place that did not do, and Marathon's codes of why not."""

    offer: Offer
    reason: list[str] = Field(default_factory=list)
    timestamp: Timestamp


class QueueItem(Wire):
    """An app some of whose instances wait, and why."""

    count: int
    delay: Delay = Field(default_factory=Delay)
    since: Timestamp | None = None
    processed_offers_summary: OffersSummary = Field(default_factory=OffersSummary)
    app: App | None = None
    last_unused_offers: list[UnusedOffer] | None = None
    """Told to those who ask for it by ``embed``."""
    explanation: str | None = None
    """Our backend's own sentence on what is missing; absent from Marathon's answers."""
    hopeless: bool | None = None
    """Our backend's own word on whether no place could ever do, whatever becomes free."""


class Event(Wire):
    """One event of the stream; the fields beyond these depend on the type (``marathon-v2`` 6)."""

    event_type: str
    timestamp: Timestamp | None = None

    def __getitem__(self, field: str) -> Any:
        return (self.model_extra or {}).get(field)

    @property
    def app_id(self) -> str | None:
        """The app that the event is about, when it is about one."""
        if self.event_type == "api_post_event":
            definition = self["appDefinition"]
            return definition.get("id") if isinstance(definition, dict) else None
        found = self["appId"] or self["runSpecId"]
        return found if isinstance(found, str) else None

    @cached_property
    def app_ids(self) -> set[str]:
        """Every app that the event is about."""
        plan = self["plan"]
        if isinstance(plan, dict):
            return {
                action["app"]
                for step in plan.get("steps", [])
                for action in step.get("actions", [])
                if action.get("app")
            }
        return {self.app_id} if self.app_id else set()

"""The JSON of requests and answers that has no model of its own in `hubfleet.api`.

Most of them only describe what the handlers make; that both agree is tested.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from hubfleet.api.app import App
from hubfleet.api.fields import PathId, Period
from hubfleet.api.status import (
    Action,
    AppStatus,
    Deployment,
    DeploymentRef,
    HistoryEvent,
    QueueItem,
    ReadinessResult,
    Step,
    Task,
)
from hubfleet.api.wire import Wire

from .. import group_update

# -- what is sent -------------------------------------------------------------------------------


def _of_a_new_app(schema: dict[str, Any]) -> None:
    for read_only in ("version", "versionInfo"):
        del schema["properties"][read_only]


def _of_an_update(schema: dict[str, Any]) -> None:
    del schema["properties"]["versionInfo"]
    for field in schema["properties"].values():
        field.pop("default", None)  # what is absent is kept


class NewApp(App):
    """A whole definition. What it leaves out, or gives as null, has its default."""

    model_config = ConfigDict(json_schema_extra=_of_a_new_app)


class AppUpdate(App):
    """What replaces fields of a definition, each as a whole; what is absent or null is kept.

    `version` goes back to that version, and may only come with `id`. An `id` has no effect where
    the path has one.
    """

    model_config = ConfigDict(json_schema_extra=_of_an_update)

    id: PathId | None = None  # type: ignore[assignment]  # a description: nobody makes one


class AppUpdateOf(AppUpdate):
    """An update that says which app it is of."""

    id: PathId


class TaskIds(Wire):
    """Tasks by their ids, in any of Marathon's forms; ids that are not there are passed over."""

    ids: list[Annotated[str, Field(pattern=r"^.+\.[^_.]+([._][^.]+(\.\d+)?)?$")]]


class GroupUpdate(group_update.GroupUpdate):
    """What a group is to become; or with nothing else a factor to scale it by, or a version to go back to."""

    apps: list[NewApp] | None = None
    groups: list[GroupUpdate] | None = None


class GroupRoles(Wire):
    """What a PATCH may say of a group; the rest of a group is changed by PUT, and passed over here."""

    enforce_role: bool | None = None


class LogLevel(Wire):
    """How much a logger of the backend logs, for a while or until the backend ends. Seconds."""

    logger: Annotated[str, Field(json_schema_extra={"pattern": r"^hubfleet(\..*)?$"})]
    level: Literal["trace", "debug", "info", "warn", "error", "off"]
    duration_seconds: Period | None = None


# -- what is answered ---------------------------------------------------------------------------


class TaskCounts(Wire):
    """How many tasks are in which state."""

    staged: int
    running: int
    healthy: int
    unhealthy: int


class LifeTime(Wire):
    """How long tasks have lived. Seconds."""

    average_seconds: float
    median_seconds: float


class TaskStatistics(Wire):
    """Counts and life times of tasks."""

    counts: TaskCounts
    life_time: LifeTime | None = None


class StatisticsOf(Wire):
    """Statistics of the tasks of some versions."""

    stats: TaskStatistics


class TasksStats(Wire):
    """Statistics of an app's tasks, by kinds of version; a kind without tasks is left out."""

    started_after_last_scaling: StatisticsOf | None = None
    with_latest_config: StatisticsOf | None = None
    with_outdated_config: StatisticsOf | None = None
    total_summary: StatisticsOf | None = None


class ShownApp(AppStatus):
    """An app with what `embed` asks for beside its definition."""

    tasks_stats: TasksStats | None = None
    readiness_check_results: list[ReadinessResult] | None = None


class OneApp(Wire):
    """One app."""

    app: ShownApp


class AppList(Wire):
    """Apps."""

    apps: list[ShownApp]


class AppsOfGroup(Wire):
    """All apps of a group, at any depth."""

    apps: list[ShownApp] = Field(alias="*")


class Versions(Wire):
    """The kept versions of an app, newest first."""

    versions: list[str]


class TaskList(Wire):
    """Tasks."""

    tasks: list[Task]


class OneTask(Wire):
    """A task."""

    task: Task


class TaskHistory(Wire):
    """What happened to a task, oldest first."""

    history: list[HistoryEvent]


class ActionUnderWay(Action):
    """What a deployment is doing to an app, and what its readiness checks say."""

    readiness_check_results: list[ReadinessResult]


class DeploymentUnderWay(Deployment):
    """A deployment that is not done yet."""

    affected_pods: list[str]
    current_actions: list[ActionUnderWay]  # type: ignore[assignment]  # a description: nobody makes one


class Queue(Wire):
    """What waits."""

    queue: list[QueueItem]


class Steps(Wire):
    """What would be done, and in which order."""

    steps: list[Step]


class Group(Wire):
    """A group of apps, and the groups in it."""

    id: str
    version: str
    dependencies: list[str]
    apps: list[ShownApp] | None = None
    groups: list[Group] | None = None
    pods: list[Any] | None = None


class Info(Wire):
    """What this is, in Marathon's shape."""

    name: str
    version: str
    buildref: str
    elected: bool
    leader: str
    marathon_config: dict[str, Any] = Field(alias="marathon_config")
    zookeeper_config: dict[str, Any] = Field(alias="zookeeper_config")
    http_config: dict[str, Any] = Field(alias="http_config")


class Leader(Wire):
    """The address of the leader."""

    leader: str


class Lease(Wire):
    """After how many seconds an app goes if nobody renews its lease; null where it has none."""

    seconds: int | None


class Plugins(Wire):
    """Marathon's plugins."""

    plugins: list[Any]


class Figures(Wire):
    """The figures in Dropwizard's form, as Marathon has them."""

    version: str
    gauges: dict[str, dict[str, float]]
    counters: dict[str, dict[str, float]]
    histograms: dict[str, dict[str, float]]
    meters: dict[str, Any]
    timers: dict[str, Any]


# -- refusals (``marathon-v2`` 0.1) ---------------------------------------------------------------


class Message(Wire):
    """Why a request is refused, or that something was done."""

    message: str


class NotUnderstood(Message):
    """Why a request cannot be read; `details` are the JSON parser's."""

    details: str | None = None


class Excess(Wire):
    """A limit that a change would exceed."""

    path: str
    errors: list[str]
    resource: str
    of: str
    most: float
    used: float
    asked: float
    apps: dict[str, float]
    fits: int | None = None


class NotAllowed(Message):
    """Why somebody may not do this; `details` where a quota says no."""

    details: list[Excess] | None = None


class Conflict(Message):
    """What is in the way; `deployments` are those that hold the app."""

    deployments: list[DeploymentRef] | None = None


class Problem(Wire):
    """What is wrong with one place of a body."""

    path: str
    errors: list[str]


class Invalid(Message):
    """Everything that is wrong with a body, or with a parameter."""

    details: list[Problem] | None = None

"""Every path of the API with its handler, and what is said of it: the one table of both.

The first pattern that matches has the request. A handler without its methods in this table, or
the other way round, is found by a test; so is an answer that is not as it says here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from hubfleet.api.quota import QuotaReport
from hubfleet.api.status import AppHistory, DeploymentResult

from . import parameters as q
from .apps import AppHandler, AppsHandler, RestartHandler
from .deployments import DeploymentHandler, DeploymentsHandler
from .description import DescriptionHandler
from .files import FileHandler
from .group_parts import (
    GroupAppsHandler,
    GroupVersionHandler,
    GroupVersionsHandler,
    RootVersionHandler,
)
from .groups import GroupHandler
from .history import AppHistoryHandler, TaskHistoryHandler
from .lease import LeaseHandler
from .metrics import MetricsHandler, PrometheusHandler
from .operations import Access, Answer, Operation, Route
from .queue import QueueDelayHandler, QueueHandler
from .quota import QuotaHandler
from .shapes import (
    AppList,
    AppsOfGroup,
    AppUpdate,
    AppUpdateOf,
    DeploymentUnderWay,
    Figures,
    Group,
    GroupRoles,
    GroupUpdate,
    Info,
    Leader,
    Lease,
    LogLevel,
    Message,
    NewApp,
    OneApp,
    OneTask,
    Plugins,
    Queue,
    ShownApp,
    Steps,
    TaskHistory,
    TaskIds,
    TaskList,
    Versions,
)
from .stream import EventsHandler
from .system import InfoHandler, LeaderHandler, LoggingHandler, PingHandler, PluginsHandler
from .tasks import AppTaskHandler, AppTasksHandler, KillTasksHandler, TasksHandler
from .versions import VersionHandler, VersionsHandler

_ID_OF_DEPLOYMENT = {"Marathon-Deployment-Id": "The deployment that brings the change about."}
_PLACE = {"Location": "The path of the app."}

_DEPLOYED = Answer("The change is accepted.", DeploymentResult, headers=_ID_OF_DEPLOYMENT)
_MADE = Answer("The app is made.", DeploymentResult, headers={**_ID_OF_DEPLOYMENT, **_PLACE})
_CHANGE = (404, 409)

PING = Operation(
    Access.EVERYBODY,
    {
        200: Answer("In quotes to those who prefer JSON.", str, {"text/plain": str}),
        204: Answer("The client takes neither."),
    },
)
OPENAPI = Operation(Access.EVERYBODY, {200: Answer("This description.", dict[str, object])}, refusals=(406,))

_APPS = {
    "GET": Operation(
        Access.KNOWN,
        {200: Answer("The apps that the caller sees.", AppList)},
        query=(*q.SELECTION, q.EMBED_APPS),
        refusals=(422,),
    ),
    "POST": Operation(
        Access.CHANGED,
        {201: Answer("As it was asked for.", ShownApp, headers={**_ID_OF_DEPLOYMENT, **_PLACE})},
        query=q.CHANGE,
        body=NewApp,
        refusals=(409,),
    ),
    "PUT": Operation(
        Access.CHANGED,
        {200: _DEPLOYED},
        query=(q.PARTIAL, *q.CHANGE),
        body=list[AppUpdateOf],
        refusals=_CHANGE,
    ),
    "PATCH": Operation(
        Access.CHANGED, {200: _DEPLOYED}, query=q.CHANGE, body=list[AppUpdateOf], refusals=_CHANGE
    ),
}
_APP = {
    "GET": Operation(
        Access.SEEN,
        {200: Answer("The app; of an id that ends in * all apps of the group.", OneApp | AppsOfGroup)},
        query=(q.EMBED_APPS,),
        refusals=(404,),
    ),
    "PUT": Operation(
        Access.CHANGED,
        {200: _DEPLOYED, 201: _MADE},
        query=(q.PARTIAL, *q.CHANGE),
        body=AppUpdate,
        refusals=_CHANGE,
    ),
    "PATCH": Operation(Access.CHANGED, {200: _DEPLOYED}, query=q.CHANGE, body=AppUpdate, refusals=_CHANGE),
    "DELETE": Operation(Access.CHANGED, {200: _DEPLOYED}, query=(q.FORCE_DELETE,), refusals=_CHANGE),
}
_KILLED = Answer(
    "The tasks that are killed; with scale, the deployment.",
    TaskList | DeploymentResult,
    headers={"Marathon-Deployment-Id": "With scale, the deployment."},
)
_TASKS_OF_APP = {
    "GET": Operation(Access.SEEN, {200: Answer("The tasks.", TaskList)}, refusals=(404,)),
    "DELETE": Operation(Access.CHANGED, {200: _KILLED}, query=(q.HOST, *q.KILL), refusals=(*_CHANGE, 422)),
}
_GROUP_MADE = Answer(
    "The group is made.",
    DeploymentResult,
    headers={**_ID_OF_DEPLOYMENT, "Location": "The path of the group."},
)
_GROUP = {
    "GET": Operation(
        Access.SEEN,
        {200: Answer("The group, with what of it the caller sees.", Group)},
        query=(q.EMBED_GROUPS,),
        refusals=(404,),
    ),
    "POST": Operation(
        Access.CHANGED, {201: _GROUP_MADE}, query=q.CHANGE, body=GroupUpdate, refusals=(409, 422)
    ),
    "PUT": Operation(
        Access.CHANGED,
        {200: Answer("The change is accepted; with dryRun, what it would be.", DeploymentResult | Steps)},
        query=(*q.CHANGE, q.DRY_RUN),
        body=GroupUpdate,
        refusals=_CHANGE,
    ),
    "PATCH": Operation(Access.CHANGED, {200: Answer("It is so.")}, body=GroupRoles, refusals=(404, 409, 422)),
    "DELETE": Operation(Access.CHANGED, {200: _DEPLOYED}, query=(q.FORCE,), refusals=(*_CHANGE, 422)),
}
_GROUP_APPS = {
    "GET": Operation(
        Access.SEEN,
        {200: Answer("The apps, at any depth.", list[ShownApp])},
        query=(q.EMBED_APPS,),
        refusals=(404,),
    )
}
_GROUP_VERSIONS = {
    "GET": Operation(Access.SEEN, {200: Answer("The versions, newest first.", list[str])}, refusals=(404,))
}
_GROUP_VERSION = {
    "GET": Operation(
        Access.SEEN,
        {200: Answer("The group of then.", Group)},
        query=(q.EMBED_GROUPS,),
        refusals=(404, 422),
    ),
    "PUT": Operation(
        Access.CHANGED,
        {200: Answer("The group becomes what it was; with dryRun, how.", DeploymentResult | Steps)},
        query=(*q.CHANGE, q.DRY_RUN),
        refusals=(404, 409, 422),
    ),
}


def _of_the_root(operations: Mapping[str, Operation]) -> Mapping[str, Operation]:
    """Return operations on a group as those on the root of all: who is told has to see all."""
    return {**operations, "GET": dataclasses.replace(operations["GET"], access=Access.OVERVIEW)}


ROUTES: Sequence[Route] = (
    Route("/ping", PingHandler, {"GET": PING}),
    Route("/openapi.json", DescriptionHandler, {"GET": OPENAPI}),
    Route(
        "/metrics",
        MetricsHandler,
        {"GET": Operation(Access.OVERVIEW, {200: Answer("The figures of this moment.", Figures)})},
    ),
    Route(
        "/metrics/prometheus",
        PrometheusHandler,
        {
            "GET": Operation(
                Access.OVERVIEW,
                {
                    200: Answer(
                        "In the newest text form that the scraper takes.",
                        media={"text/plain": str, "application/openmetrics-text": str},
                    )
                },
                negotiates=False,
            )
        },
    ),
    Route(
        "/logging",
        LoggingHandler,
        {
            "GET": Operation(Access.ADMINISTRATOR, {200: Answer("Levels by logger.", dict[str, str])}),
            "POST": Operation(Access.ADMINISTRATOR, {200: Answer("What was set.", LogLevel)}, body=LogLevel),
        },
    ),
    Route("/v2/info", InfoHandler, {"GET": Operation(Access.KNOWN, {200: Answer("What it is.", Info)})}),
    Route(
        "/v2/leader",
        LeaderHandler,
        {
            "GET": Operation(Access.KNOWN, {200: Answer("This backend.", Leader)}),
            "DELETE": Operation(
                Access.ADMINISTRATOR, {200: Answer("It ends.", Message)}, query=q.SAVING, refusals=(422,)
            ),
        },
    ),
    Route(
        "/v2/plugins",
        PluginsHandler,
        {"GET": Operation(Access.KNOWN, {200: Answer("There are none.", Plugins)})},
    ),
    Route("/v2/apps", AppsHandler, _APPS),
    Route(
        "/v2/apps/{id}/restart",
        RestartHandler,
        {"POST": Operation(Access.CHANGED, {200: _DEPLOYED}, query=q.CHANGE, refusals=(*_CHANGE, 422))},
    ),
    Route("/v2/apps/{id}/tasks", AppTasksHandler, _TASKS_OF_APP),
    Route(
        "/v2/apps/{id}/tasks/{taskId}",
        AppTaskHandler,
        {
            "DELETE": Operation(
                Access.CHANGED,
                {
                    200: Answer(
                        "The task that is killed; with scale, the deployment.",
                        OneTask | DeploymentResult,
                        headers=_KILLED.headers,
                    )
                },
                query=q.KILL,
                refusals=(*_CHANGE, 422),
            )
        },
    ),
    Route(
        "/v2/apps/{id}/versions",
        VersionsHandler,
        {"GET": Operation(Access.SEEN, {200: Answer("The versions.", Versions)}, refusals=(404,))},
    ),
    Route(
        "/v2/apps/{id}/versions/{version}",
        VersionHandler,
        {
            "GET": Operation(
                Access.SEEN, {200: Answer("The definition of then.", ShownApp)}, refusals=(404, 422)
            )
        },
    ),
    Route("/v2/apps/{id}", AppHandler, _APP),
    Route(
        "/v2/tasks",
        TasksHandler,
        {
            "GET": Operation(
                Access.KNOWN, {200: Answer("The tasks that the caller sees.", TaskList)}, query=(q.STATUS,)
            )
        },
    ),
    Route(
        "/v2/tasks/delete",
        KillTasksHandler,
        {"POST": Operation(Access.CHANGED, {200: _KILLED}, query=q.KILL, body=TaskIds, refusals=_CHANGE)},
    ),
    Route(
        "/v2/tasks/{taskId}/files/{file}",
        FileHandler,
        {
            "GET": Operation(
                Access.INSIDE,
                {
                    200: Answer(
                        "The bytes as the task wrote them.",
                        media={"text/plain": str},
                        headers={"Hubfleet-Offset": "Where in all that was written the answer begins."},
                    ),
                    206: Answer("The bytes that a Range header asked for.", media={"text/plain": str}),
                },
                query=q.PART,
                refusals=(404, 416),
                negotiates=False,
            )
        },
    ),
    Route(
        "/v2/tasks/{taskId}/history",
        TaskHistoryHandler,
        {"GET": Operation(Access.SEEN, {200: Answer("Oldest first.", TaskHistory)}, refusals=(404,))},
    ),
    Route(
        "/v2/history/apps/{id}",
        AppHistoryHandler,
        {"GET": Operation(Access.SEEN, {200: Answer("Oldest first.", AppHistory)}, refusals=(404,))},
    ),
    Route("/v2/groups", GroupHandler, _GROUP),
    Route("/v2/groups/apps", GroupAppsHandler, _GROUP_APPS),
    Route("/v2/groups/versions", GroupVersionsHandler, _of_the_root(_GROUP_VERSIONS)),
    Route("/v2/groups/versions/{version}", RootVersionHandler, _of_the_root(_GROUP_VERSION)),
    Route("/v2/groups/{groupId}/apps", GroupAppsHandler, _GROUP_APPS),
    Route("/v2/groups/{groupId}/versions", GroupVersionsHandler, _GROUP_VERSIONS),
    Route("/v2/groups/{groupId}/versions/{version}", GroupVersionHandler, _GROUP_VERSION),
    Route("/v2/groups/{groupId}", GroupHandler, _GROUP),
    Route(
        "/v2/deployments",
        DeploymentsHandler,
        {
            "GET": Operation(
                Access.KNOWN,
                {200: Answer("Those of the apps that the caller sees.", list[DeploymentUnderWay])},
            )
        },
    ),
    Route(
        "/v2/deployments/{deploymentId}",
        DeploymentHandler,
        {
            "DELETE": Operation(
                Access.CHANGED,
                {200: _DEPLOYED, 202: Answer("It is ended where it is.")},
                query=(q.CANCEL,),
                refusals=(*_CHANGE, 422),
            )
        },
    ),
    Route(
        "/v2/queue",
        QueueHandler,
        {"GET": Operation(Access.KNOWN, {200: Answer("What waits.", Queue)}, query=(q.EMBED_QUEUE,))},
    ),
    Route(
        "/v2/queue/{id}/delay",
        QueueDelayHandler,
        {"DELETE": Operation(Access.CHANGED, {204: Answer("It may start at once.")}, refusals=(404,))},
    ),
    Route(
        "/v2/events",
        EventsHandler,
        {
            "GET": Operation(
                Access.KNOWN,
                {200: Answer("Events as they happen, without end.", media={"text/event-stream": str})},
                query=(q.EVENT_TYPES,),
                refusals=(405,),
                negotiates=False,
            )
        },
    ),
    Route(
        "/hubfleet/leases/{id}",
        LeaseHandler,
        {
            "PUT": Operation(
                Access.CHANGED, {200: Answer("It is begun anew, if there is one.", Lease)}, refusals=(404,)
            )
        },
    ),
    Route(
        "/hubfleet/quota",
        QuotaHandler,
        {
            "GET": Operation(
                Access.OWN, {200: Answer("Limits, and what is in use.", QuotaReport)}, query=(q.USER,)
            )
        },
    ),
)

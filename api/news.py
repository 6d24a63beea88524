"""What an event says of an app, laid on what is known of it: pure, and so to be read and tested by itself.

A start sends a dozen events. Most of them say all there is to know, or what is known already, and cost no
request. Where one says less, `after` says so, and the app is asked for.
"""

from __future__ import annotations

from typing import Any

from .status import (
    ENDED_STATES,
    FAILED_STATES,
    AppStatus,
    DeploymentRef,
    Event,
    HealthResult,
    IPAddress,
    Task,
)
from .wire import parse_timestamp

FOLLOWED_EVENTS = (
    "api_post_event",
    "app_terminated_event",
    "deployment_failed",
    "deployment_info",
    "deployment_success",
    "failed_health_check_event",
    "health_status_changed_event",
    "instance_health_changed_event",
    "status_update_event",
)
"""The types that say something of an app; the others repeat them (``marathon-v2`` 6)."""

_OF_DEPLOYMENTS = frozenset({"deployment_failed", "deployment_info", "deployment_success"})


def after(app: AppStatus, event: Event) -> AppStatus | None:
    """Return the state of an app after an event; the same object if that changes nothing.

    None if the event does not say enough, so that the app has to be asked for. The removal of an app is
    not told here.
    """
    kind = event.event_type
    if kind == "status_update_event":
        return with_task_update(app, event)
    if kind in _OF_DEPLOYMENTS:
        plan = event["plan"]
        if not _is_known_definition(app, plan["version"]) and not stops(event, app.id):
            return None
        return _with_deployment(app, plan["id"], under_way=kind == "deployment_info")
    if kind == "api_post_event":
        return app if _is_known_definition(app, event["appDefinition"].get("version")) else None
    if kind in {"failed_health_check_event", "health_status_changed_event", "instance_health_changed_event"}:
        return _with_health(app, event)
    return None


def stops(event: Event, app_id: str) -> bool:
    """Whether an event is of a deployment that only removes an app, whose definition then stays as it was."""
    if event.event_type not in _OF_DEPLOYMENTS:
        return False
    actions = {
        action.get("action")
        for step in event["plan"].get("steps", [])
        for action in step.get("actions", [])
        if action.get("app") == app_id
    }
    return actions == {"StopApplication"}


def is_failure(event: Event) -> bool:
    """Whether an event is the end of a task that nobody wished, of which the app's own answer says more."""
    return event.event_type == "status_update_event" and event["taskStatus"] in FAILED_STATES


def _is_known_definition(app: AppStatus, version: Any) -> bool:
    """Whether the definition that an event is about is the one that is known."""
    return isinstance(version, str) and app.version == parse_timestamp(version)


def _with_deployment(app: AppStatus, deployment_id: str, under_way: bool) -> AppStatus:
    if any(known.id == deployment_id for known in app.deployments) == under_way:
        return app
    others = [known for known in app.deployments if known.id != deployment_id]
    known = [*others, DeploymentRef(id=deployment_id)] if under_way else others
    return app.model_copy(update={"deployments": known})


def _with_health(app: AppStatus, event: Event) -> AppStatus | None:
    instance = str(event["instanceId"] or event["taskId"])  # of a failed check it is called a task's
    task = next((task for task in app.tasks if _is_of_instance(task, instance)), None)
    if task is None:
        return app  # it has ended
    alive = {
        "failed_health_check_event": False,
        "health_status_changed_event": event["alive"],
        "instance_health_changed_event": event["healthy"],
    }[event.event_type]
    if task.health_check_results and all(result.alive for result in task.health_check_results) is alive:
        return app
    if event.event_type != "health_status_changed_event" or len(app.health_checks) != 1:
        return None  # which of several checks it was is not said
    result = HealthResult(alive=bool(alive), instance_id=instance)
    checked = task.model_copy(update={"health_check_results": [result]})
    return _with_tasks(app, [checked if other is task else other for other in app.tasks])


def _is_of_instance(task: Task, instance: str) -> bool:
    return task.id == instance or task.id.startswith(f"{instance}.")


def with_task_update(app: AppStatus, event: Event) -> AppStatus:
    """Return the state of an app after one ``status_update_event``."""
    others = [task for task in app.tasks if task.id != event["taskId"]]
    if event["taskStatus"] in ENDED_STATES:
        return _with_tasks(app, others)
    known = next((task for task in app.tasks if task.id == event["taskId"]), None)
    version = event["version"]
    changes: dict[str, Any] = {
        "id": event["taskId"],
        "app_id": app.id,
        "state": event["taskStatus"],
        "host": event["host"] or "",
        "slave_id": event["slaveId"],
        "ports": event["ports"] or [],
        "ip_addresses": [IPAddress.from_wire(address) for address in event["ipAddresses"] or []],
        "version": parse_timestamp(version) if version else None,
    }
    if known is None:
        changes["staged_at"] = event.timestamp
    if event["taskStatus"] == "TASK_RUNNING" and (known is None or known.started_at is None):
        changes["started_at"] = event.timestamp
    task = known.model_copy(update=changes) if known else Task.model_validate(changes)
    return _with_tasks(app, [*others, task])


def _with_tasks(app: AppStatus, tasks: list[Task]) -> AppStatus:
    """Return an app with other tasks, and with what is counted of them."""
    health = [
        all(result.alive for result in task.health_check_results)
        for task in tasks
        if task.health_check_results
    ]
    return app.model_copy(
        update={
            "tasks": tasks,
            "tasks_staged": sum(1 for task in tasks if task.state == "TASK_STAGING"),
            "tasks_running": sum(1 for task in tasks if task.running),
            "tasks_healthy": health.count(True),
            "tasks_unhealthy": health.count(False),
        }
    )

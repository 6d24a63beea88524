"""The events of the backend: what they hold (``marathon-v2`` section 6), and who hears them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from hubfleet.api.app import App, HealthCheck
from hubfleet.api.status import Event
from hubfleet.api.wire import format_timestamp, now

from .records import TASK_STATES, DeploymentRecord, Instance

BUFFERED_EVENTS = 1024
"""A reader that stays with more events before it than this is dropped (Marathon 1.8 and later)."""

PATIENCE_SECONDS = 5.0
"""How long a reader may have more: one change of a thousand apps is some thousands of events at once."""

MOST_EVENTS = 32_768
"""A reader with as many before it is dropped at once, so that what waits for it does not fill the memory."""

TAKEN_AT_ONCE = 256
"""Most events that are written to a reader before others have their turn."""


@dataclass(eq=False)
class Notice:
    """An event on its way to its readers."""

    event: Event
    texts: dict[object, bytes] = field(default_factory=dict)
    """What is written to whom: worked out once for all who are shown the same, not once for each."""


@dataclass(eq=False)
class Subscription:
    """One reader's queue of events.

    Parameters
    ----------
    wants
        Says which events are collected.
    overrun
        Called when the reader is too slow; nothing is collected from then on.
    patience
        How long it may have more than `BUFFERED_EVENTS` before it, in seconds.
    """

    wants: Callable[[Event], bool]
    overrun: Callable[[], None]
    patience: float = PATIENCE_SECONDS
    queue: asyncio.Queue[Notice] = field(default_factory=asyncio.Queue)
    _late: asyncio.TimerHandle | None = None
    _closed: bool = False

    def put(self, notice: Notice) -> None:
        """Collect an event, unless the reader was dropped."""
        if self._closed:
            return
        waiting = self.queue.qsize()
        if waiting >= MOST_EVENTS:
            self._drop()
            return
        self.queue.put_nowait(notice)
        if waiting >= BUFFERED_EVENTS and self._late is None:
            self._late = asyncio.get_running_loop().call_later(self.patience, self._drop)

    async def take(self, timeout: float) -> list[Notice]:
        """Return the next events, a few at a time, at the latest after `timeout` seconds."""
        found = []
        if self.queue.empty():
            try:
                async with asyncio.timeout(timeout):
                    found.append(await self.queue.get())
            except TimeoutError:
                return []
        while len(found) < TAKEN_AT_ONCE and not self.queue.empty():
            found.append(self.queue.get_nowait())
        if self.queue.qsize() <= BUFFERED_EVENTS:
            self._forgive()
        return found

    def close(self) -> None:
        """Stop collecting."""
        self._closed = True
        self._forgive()

    def _forgive(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _drop(self) -> None:
        self.close()
        self.overrun()


class EventBus:
    """Hands every event to every subscriber, never waiting for one."""

    def __init__(self) -> None:
        self._subscriptions: set[Subscription] = set()

    def subscribe(self, subscription: Subscription) -> None:
        """Begin to collect."""
        self._subscriptions.add(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Stop collecting."""
        self._subscriptions.discard(subscription)
        subscription.close()

    def publish(self, event: Event) -> None:
        """Give an event to all who want it."""
        notice = Notice(event)
        for subscription in list(self._subscriptions):
            if subscription.wants(event):
                subscription.put(notice)


def event(event_type: str, **fields: Any) -> Event:
    """Return an event of the present moment; the fields are JSON values, and None is told as null."""
    return Event.from_wire({"eventType": event_type, "timestamp": format_timestamp(now()), **fields})


def of_now(prepared: Event) -> Event:
    """Return an event that was made before it happens, as one of the present moment."""
    return prepared.model_copy(update={"timestamp": now()})


def body(event: Event) -> dict[str, Any]:
    """Return the JSON object of an event."""
    at = event.timestamp
    return {
        "eventType": event.event_type,
        "timestamp": format_timestamp(at) if at else None,
        **(event.model_extra or {}),
    }


def api_post(client_ip: str, uri: str, app: App) -> Event:
    """Return the event of an app accepted over the API."""
    return event("api_post_event", clientIp=client_ip, uri=uri, appDefinition=app.to_wire())


def status_update(instance: Instance, message: str = "") -> Event:
    """Return the event of a task in a new state."""
    task = instance.to_task()
    return event(
        "status_update_event",
        slaveId=instance.host,
        taskId=task.id,
        taskStatus=TASK_STATES[instance.condition],
        message=message,
        appId=instance.app_id,
        host=instance.host,
        ipAddresses=[address.to_wire() for address in task.ip_addresses],
        ports=instance.ports,
        version=format_timestamp(instance.version),
    )


def instance_changed(instance: Instance) -> Event:
    """Return the event of an instance in a new condition."""
    return event(
        "instance_changed_event",
        instanceId=instance.id,
        condition=instance.condition.value,
        runSpecId=instance.app_id,
        agentId=instance.host or None,
        host=instance.host or None,
        runSpecVersion=format_timestamp(instance.version),
    )


def health_changed(instance: Instance, alive: bool) -> list[Event]:
    """Return the events of a task that became alive, or ceased to be."""
    version = format_timestamp(instance.version)
    return [
        event(
            "health_status_changed_event",
            appId=instance.app_id,
            instanceId=instance.id,
            version=version,
            alive=alive,
        ),
        event(
            "instance_health_changed_event",
            instanceId=instance.id,
            runSpecId=instance.app_id,
            healthy=alive,
            runSpecVersion=version,
        ),
    ]


def checks_changed(old: App | None, new: App | None) -> list[Event]:
    """Return the events of the health checks that begin with a new version of an app, or end with it."""
    if new is None:
        return [event("remove_health_check_event", appId=old.id) for _ in old.health_checks] if old else []
    if new.version is None or (old is not None and old.version == new.version):
        return []
    version = format_timestamp(new.version)
    return [
        event("add_health_check_event", appId=new.id, healthCheck=check.to_wire(), version=version)
        for check in new.health_checks
    ]


def failed_health_check(instance: Instance, check: HealthCheck) -> Event:
    """Return the event of a probe that failed and counts."""
    return event(
        "failed_health_check_event",
        appId=instance.app_id,
        healthCheck=check.to_wire(),
        taskId=instance.id,
    )


def unhealthy_kill(instance: Instance, reason: str) -> Event:
    """Return the event of a task that is killed because its probes failed."""
    return event(
        "unhealthy_instance_kill_event",
        appId=instance.app_id,
        taskId=instance.task_id,
        instanceId=instance.id,
        version=format_timestamp(instance.version),
        reason=reason,
        host=instance.host,
        slaveId=instance.host,
    )


def deployment_progress(event_type: str, deployment: DeploymentRecord) -> Event:
    """Return a `deployment_info` or `deployment_step_…` event."""
    actions = [action.to_wire() for action in deployment.current_actions]
    return event(event_type, plan=deployment.plan, currentStep={"actions": actions})


def deployment_ended(deployment: DeploymentRecord, failure: str | None = None) -> Event:
    """Return the event of a deployment that is done, or was given up."""
    event_type = "deployment_success" if failure is None else "deployment_failed"
    reason = {} if failure is None else {"reason": failure}
    return event(event_type, id=deployment.id, plan=deployment.plan, **reason)


def deployment_cancelled(deployment: DeploymentRecord) -> list[Event]:
    """Return the events of a deployment that somebody stopped where it is."""
    failed = deployment_ended(deployment, "The upgrade has been cancelled")
    begun = deployment.current >= 0
    return [deployment_progress("deployment_step_failure", deployment), failed] if begun else [failed]


def group_change_success(group: str, version: datetime) -> Event:
    """Return the event of an accepted change in a group."""
    return event("group_change_success", groupId=group or "/", version=format_timestamp(version))


def group_change_failed(group: str, version: datetime, reason: str) -> Event:
    """Return the event of a change in a group that was refused."""
    told = format_timestamp(version)
    return event("group_change_failed", groupId=group or "/", version=told, reason=reason)


def unknown_terminated(task_id: str, condition: str) -> Event:
    """Return the event of the end of a task that no app here knows."""
    instance_id = task_id.rpartition("._app.")[0] or task_id
    path = instance_id.partition(".instance-")[0]
    return event(
        "unknown_instance_terminated_event",
        instanceId=instance_id,
        runSpecId="/" + path.replace("_", "/"),
        condition=condition,
    )


def app_terminated(app_id: str) -> Event:
    """Return the event of an app that is gone with all its tasks."""
    return event("app_terminated_event", appId=app_id)

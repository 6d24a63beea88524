"""Who is probed, and what follows from it for the instance: its health, the events, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from hubfleet.api.app import App, HealthCheck
from hubfleet.api.wire import now

from .. import events
from ..drivers import DriverError, TaskSpec
from ..events import EventBus
from ..records import Condition, Health, Instance
from ..state import State
from .background import Spawn
from .health import judge
from .probes import NoVerdict, probe, probe_for_ever


class Probing:
    """Keeps the health of the running tasks that have health checks.

    Parameters
    ----------
    spawn
        As `background.Background.spawn`.
    changed
        Called with the app id when a task became alive, or ceased to be.
    kill
        Called with an instance that is to end, and the reason.
    execute
        Runs a command beside a running task, as `Driver.execute`.
    """

    def __init__(
        self,
        state: State,
        bus: EventBus,
        spawn: Spawn,
        changed: Callable[[str], None],
        kill: Callable[[Instance, str], None],
        execute: Callable[[TaskSpec, Sequence[str], float], Awaitable[int | None]],
    ) -> None:
        self._state = state
        self._bus = bus
        self._spawn = spawn
        self._changed = changed
        self._kill = kill
        self._execute = execute
        self._probers: dict[str, list[asyncio.Task[None]]] = {}  # by task id

    def begin(self, instance: Instance, app: App, spec: TaskSpec) -> None:
        """Probe a running task by all checks of its definition."""
        self.stop(instance)
        self._probers[instance.task_id] = [
            self._spawn(
                probe_for_ever(
                    check, self._asking(instance, check, spec), self._callback(instance, check, index)
                )
            )
            for index, check in enumerate(app.health_checks)
        ]

    def _asking(
        self, instance: Instance, check: HealthCheck, spec: TaskSpec
    ) -> Callable[[], Awaitable[str | None]]:
        if check.protocol == "COMMAND":
            return lambda: self._command(check, spec)
        host, port = instance.host, _port(instance, check)
        return lambda: probe(check, host, port)

    async def _command(self, check: HealthCheck, spec: TaskSpec) -> str | None:
        """Ask a task by a command that runs beside it; what it writes is not kept."""
        assert check.command is not None
        try:
            code = await self._execute(spec, ("/bin/sh", "-c", check.command.value), check.timeout_seconds)
        except DriverError as error:
            raise NoVerdict from error
        if code is None:
            return f"no answer within {check.timeout_seconds} s"
        return None if code == 0 else f"Command exited with status {code}"

    def stop(self, instance: Instance) -> None:
        """Probe a task no more."""
        for prober in self._probers.pop(instance.task_id, ()):
            prober.cancel()

    def _callback(self, instance: Instance, check: HealthCheck, index: int) -> Callable[[str | None], None]:
        return lambda failure: self._probed(instance, check, index, failure)

    def _probed(self, instance: Instance, check: HealthCheck, index: int, failure: str | None) -> None:
        if instance.condition is not Condition.RUNNING:
            return
        former = instance.health.get(index)
        verdict = judge(former or Health(), check, failure, instance.started_at or now(), now())
        instance.health[index] = verdict.health
        alive = verdict.health.alive
        if former is None or alive != former.alive:
            self._state.put_instance(instance)
            if former is not None or alive:
                for event in events.health_changed(instance, alive):
                    self._bus.publish(event)
            self._changed(instance.app_id)
        elif verdict.counted and (check.max_consecutive_failures or verdict.kill):
            self._state.put_instance(instance)  # so that a new backend counts on
        if verdict.counted:
            self._bus.publish(events.failed_health_check(instance, check))
        if verdict.kill:
            reason = failure or "no answer"
            self._bus.publish(events.unhealthy_kill(instance, reason))
            self._kill(instance, f"Task was killed since health check failed. Reason: {reason}")


def _port(instance: Instance, check: HealthCheck) -> int:
    if check.port_index is not None:
        return instance.ports[check.port_index]
    return check.port or instance.ports[0]

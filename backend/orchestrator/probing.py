"""Who is probed, and what follows from it for the instance: its health, the events, its end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random

from hubfleet.api.app import App, HealthCheck
from hubfleet.api.wire import now

from .. import events
from ..drivers import DriverError, TaskSpec
from ..events import EventBus
from ..records import Condition, Health, Instance
from ..state import State
from ..uptime import age
from .background import Spawn
from .health import judge
from .probes import NoVerdict, first_probe_in, found_probe_in, probe, probe_for_ever
from .turns import Turns

MOST_COMMANDS, MOST_COMMANDS_OF_OWNER = 48, 12
"""Commands that run beside tasks at once: each is a process that the tasks have less."""


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
    turns
        Bounds how many tasks are asked at once over the network.
    """

    def __init__(
        self,
        state: State,
        bus: EventBus,
        spawn: Spawn,
        changed: Callable[[str], None],
        kill: Callable[[Instance, str], None],
        execute: Callable[[TaskSpec, Sequence[str], float], Awaitable[int | None]],
        turns: Turns,
    ) -> None:
        self._state = state
        self._bus = bus
        self._spawn = spawn
        self._changed = changed
        self._kill = kill
        self._execute = execute
        self._turns = turns
        self._command_turns = Turns(MOST_COMMANDS, MOST_COMMANDS_OF_OWNER)
        self._chance = Random()  # noqa: S311 - of when to ask, which is no secret
        self._probers: dict[str, list[asyncio.Task[None]]] = {}  # by task id

    def begin(self, instance: Instance, app: App, spec: TaskSpec, found: bool = False) -> None:
        """Probe a running task by all checks of its definition; `found`: it ran before the backend did."""
        self.stop(instance)
        self._probers[instance.task_id] = [
            self._spawn(
                probe_for_ever(
                    check,
                    self._found_in(instance, check, index) if found else first_probe_in(check),
                    self._asking(instance, check, spec),
                    self._callback(instance, check, index),
                )
            )
            for index, check in enumerate(app.health_checks)
        ]

    def _found_in(self, instance: Instance, check: HealthCheck, index: int) -> float:
        return found_probe_in(check, instance.health.get(index, Health()), self._chance)

    def _asking(
        self, instance: Instance, check: HealthCheck, spec: TaskSpec
    ) -> Callable[[], Awaitable[str | None]]:
        if check.protocol == "COMMAND":
            return lambda: self._command(instance, check, spec)
        host, port = instance.host, _port(instance, check)

        async def ask() -> str | None:
            async with self._turns.one(instance.app_id):
                return await probe(check, host, port)

        return ask

    async def _command(self, instance: Instance, check: HealthCheck, spec: TaskSpec) -> str | None:
        """Ask a task by a command that runs beside it; what it writes is not kept."""
        assert check.command is not None
        line = ("/bin/sh", "-c", check.command.value)
        try:
            async with self._command_turns.one(instance.app_id):
                code = await self._execute(spec, line, check.timeout_seconds)
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
        verdict = judge(former or Health(), check, failure, age(instance.started_uptime), now())
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

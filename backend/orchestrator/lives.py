"""The lives of instances: given a place, run, asked how they are, ended, and begun anew.

What should be is decided elsewhere (`orchestrator`); here it is done, each change stored
before anybody hears of it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from hubfleet.api.app import App
from hubfleet.api.wire import now

from .. import events
from ..drivers import Driver
from ..events import EventBus
from ..records import AppRecord, Backoff, Condition, Goal, Instance, config_version
from ..state import State
from ..uptime import uptime
from . import backoff, ends, recovery
from .background import Spawn
from .deployments import Deployments
from .ends import TaskEnd
from .history import History
from .limits import TaskLimits
from .placer import Allocation, Placer
from .probing import Probing
from .readiness import Readiness
from .remains import Remains
from .runner import Told
from .runners import Runners
from .sandbox import last_lines
from .scaling import Motion
from .turns import Turns

log = logging.getLogger("hubfleet.backend")


class Lives:
    """Carries out what becomes of instances; the only writer of how far they are.

    Parameters
    ----------
    state
        What is known.
    driver
        The engine.
    bus
        Who is told.
    deployments
        Say by which definition an ended task is started again.
    limits, sandboxes, base_environment
        As `Orchestrator`.
    spawn
        As `background.Background.spawn`.
    changed
        Called with the id of an app of which an instance has come further, or gone.
    """

    def __init__(
        self,
        state: State,
        driver: Driver,
        bus: EventBus,
        deployments: Deployments,
        limits: TaskLimits,
        sandboxes: Path,
        base_environment: Callable[[str | None], Mapping[str, str]],
        spawn: Spawn,
        changed: Callable[[str], None],
    ) -> None:
        self._state = state
        self._driver = driver
        self._bus = bus
        self._deployments = deployments
        self._limits = limits
        self._sandboxes = sandboxes
        self._spawn = spawn
        self._changed = changed
        self._history = History(state.archive)
        self.placer = Placer(state, driver, self._place, self._history.waits)
        turns = Turns()
        self._readiness = Readiness(state, self._history, spawn, turns, changed)
        self._probing = Probing(state, bus, spawn, changed, self.kill, driver.execute, turns)
        self._remains = Remains(driver, state.archive, limits, spawn)
        self._runners = Runners(
            state, driver, bus, self._history, self._remains, limits, sandboxes, base_environment, spawn
        )

    async def open(self) -> None:
        """Find the tasks of a former life of the backend again, and begin."""
        await self._recover()
        for coroutine in (self._runners.take_exits(), self.placer.run(), self._remains.run()):
            self._spawn(coroutine)

    async def _recover(self) -> None:
        """Match what the store says runs with what the engine says runs."""
        known = await self._driver.recover()
        found = recovery.compare(self._state.instances.values(), known)
        expected = {each.task_id for each in self._state.instances.values() if each.launched}
        for instance in found.running:
            self._run(instance, found_running=True)
            if instance.condition is Condition.PROVISIONED:
                self._started(instance)
            elif instance.condition is Condition.RUNNING:
                self._begin_asking(instance, found=True)
        for instance in found.unstarted:
            self._run(instance, resumed=True)
        for instance in (*found.running, *found.unstarted):
            if instance.condition is Condition.KILLING or instance.goal is Goal.STOPPED:
                self.end(instance)
        for instance, task_exit in found.ended:
            self._ended(instance, TaskEnd(task_exit))
        for instance in recovery.advance(self._state.instances.values(), known):
            self._state.put_instance(instance)
        strangers = self._state.strangers(found.unwanted)
        for task_id in strangers:
            log.warning("%s runs, but no app here knows it; it is left alone", task_id)
        for task_id in found.unwanted - strangers:
            log.warning("%s runs on the engine, but no app here wants it; it is ended", task_id)
            self._runners.end_unwanted(task_id)
        for task_id in found.left:
            self._remains.left(task_id)
        await self._remains.sweep(known.keys() | expected)

    def review(self, app_id: str) -> None:
        """Take note that the deployments of an app may be others than before."""
        self._readiness.review(app_id)

    def _place(self, instance: Instance, allocation: Allocation) -> None:
        """Give a waiting instance its place, and start its task."""
        record = self._state.apps[instance.app_id]
        instance.condition = Condition.PROVISIONED
        instance.host, instance.ports, instance.gpus = allocation.host, allocation.ports, allocation.gpus
        instance.staged_at = now()
        with self._state.transaction():
            self._state.put_instance(instance)
            held = backoff.kept(record.backoff, record.app, now(), backoff.CHECK_SECONDS)
            self._hold(record, backoff.advanced(held, now()))
            self._history.placed(instance)
        self._publish_state(instance)
        self._run(instance)

    def _run(self, instance: Instance, found_running: bool = False, resumed: bool = False) -> None:
        overdue = f"Task was killed since it was not running within {self._limits.launch_seconds:g} s"
        told = Told(
            ended=lambda end: self._ended(instance, end),
            started=lambda: self._started(instance),
            overdue=lambda: self.kill(instance, overdue),
        )
        app = self._definition(instance)
        self._runners.begin(instance, app, told, found_running=found_running, resumed=resumed)

    def _started(self, instance: Instance) -> None:
        instance.started_at, instance.started_uptime = now(), uptime()
        killing = instance.condition is Condition.KILLING
        if not killing:
            instance.condition = Condition.RUNNING
            self._readiness.expect(instance, self._definition(instance))
        record = self._state.apps.get(instance.app_id)
        with self._state.transaction():
            self._state.put_instance(instance)
            if record is not None and instance.config_version == config_version(record.app):
                self._hold(record, backoff.advanced(record.backoff, now()))
            self._history.note(instance, "Started")
        if not killing:
            self._publish_state(instance)
            self._begin_asking(instance)
        self._changed(instance.app_id)

    def _hold(self, record: AppRecord, held: Backoff | None) -> None:
        if held != record.backoff:
            record.backoff = held
            self._state.put_app(record)

    def kill(self, instance: Instance, reason: str | None = None, *, wipe: bool = False) -> None:
        """End an instance's task; unless its goal says otherwise another one follows.

        Parameters
        ----------
        reason
            Why, if it is not for somebody's asking.
        wipe
            Whether the instance goes too, so that what follows is another instance.
        """
        instance.kill_reason = instance.kill_reason or reason
        if wipe:
            instance.goal = Goal.STOPPED
            self._state.put_instance(instance)
            self._changed(instance.app_id)
        self.end(instance)

    def reset_delay(self, app_id: str) -> None:
        """Hold an app back no longer: what waits for its back-off may start."""
        self._hold(self._state.apps[app_id], None)
        self.placer.wake()

    def end(self, instance: Instance) -> None:
        """End an instance's task; to repeat it does no harm."""
        if instance.condition is Condition.SCHEDULED:
            if instance.goal is Goal.STOPPED:
                self._state.drop_instance(instance)
                instance.condition = Condition.KILLED
                self._bus.publish(events.instance_changed(instance))
                self._changed(instance.app_id)
            return
        if instance.condition is not Condition.KILLING:
            instance.condition = Condition.KILLING
            with self._state.transaction():
                self._state.put_instance(instance)
                self._history.killing(instance)
            self._ask_no_more(instance)
            self._publish_state(instance)
        self._runners.kill(instance)

    def _ended(self, instance: Instance, end: TaskEnd) -> None:
        """Take the end of a task: the instance goes, or waits for its next one."""
        task_id = instance.task_id
        condition, message = ends.outcome(instance, end)
        record = self._state.apps.get(instance.app_id)
        self._ask_no_more(instance)
        self._runners.forget(task_id)
        instance.condition = condition
        update, change = events.status_update(instance, message), events.instance_changed(instance)
        app = self._next_definition(instance)
        with self._state.transaction():
            self._history.ended(instance, message, end)
            if record is not None and app is not None:
                if ends.is_failure(instance):
                    self.placer.failed(instance)
                    stderr = last_lines(self._sandboxes / task_id / "stderr")
                    record.last_task_failure = ends.failure(instance, message, stderr)
                if condition is not Condition.KILLED:
                    record.backoff = backoff.after_end(record.backoff, record.app, now())
                self._state.put_app(record)
                self._history.restarting(instance, record.backoff, message)
                ends.schedule_again(instance, app)
                self._state.put_instance(instance)
            else:
                self._state.drop_instance(instance)
        self._bus.publish(update)
        self._bus.publish(change)
        if app is not None:
            self._bus.publish(events.instance_changed(instance))
        log.info("%s ended: %s", task_id, message)
        self._remains.left(task_id)
        self._changed(instance.app_id)
        self.placer.wake()

    def _next_definition(self, instance: Instance) -> App | None:
        """Return what an ended instance is started by next, or None if it is not."""
        if instance.goal is Goal.STOPPED:
            return None
        app = self._state.standing(instance.app_id)
        if app is not None and self._deployments.motion(app.id) is Motion.RESTART:
            return app if instance.config_version == config_version(app) else None
        return app

    def _begin_asking(self, instance: Instance, found: bool = False) -> None:
        app = self._definition(instance)
        self._probing.begin(instance, app, self._runners.spec(instance), found)
        self._readiness.begin(instance, app)

    def _ask_no_more(self, instance: Instance) -> None:
        self._probing.stop(instance)
        self._readiness.stop(instance)

    def _definition(self, instance: Instance) -> App:
        """Return the definition by which an instance was, or is to be, started."""
        app = self._state.definition(instance)
        assert app is not None, f"no definition of {instance.id}"
        return app

    def _publish_state(self, instance: Instance) -> None:
        self._bus.publish(events.status_update(instance))
        self._bus.publish(events.instance_changed(instance))

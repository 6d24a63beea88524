"""Moves every app, step by step, to its definition; the only writer of what becomes of instances.

One keyed queue of app ids: whatever happens puts the app into it, and `_reconcile`
does the next step and may safely be repeated. A restart puts all apps into it; there
is no other way of recovery.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.api.rules import Violation
from hubfleet.api.wire import now

from .. import events
from ..drivers import Driver, DriverError, Offer, Template, Usage
from ..events import EventBus
from ..records import AppRecord, Backoff, Condition, Goal, Instance, config_version
from ..state import State
from ..uptime import uptime
from . import backoff, ends, recovery, scaling
from .background import Background
from .changes import Changes
from .deployments import Deployments
from .ends import TaskEnd
from .history import History
from .limits import DeploymentLimits, TaskLimits
from .placer import Allocation, Placer
from .probing import Probing
from .readiness import Readiness
from .remains import Remains
from .runner import Told
from .runners import Runners
from .sandbox import last_lines
from .scaling import Motion
from .service_ports import RANGE
from .turns import Turns

log = logging.getLogger("hubfleet.backend")

_MOST_BORN_AT_ONCE = 200
_TURN_SECONDS = 0.02  # of reconciling at a stretch


class Orchestrator:
    """Keeps every app's tasks at its definition.

    Parameters
    ----------
    state
        What is known; nobody else changes its instances and deployments.
    driver
        The engine.
    bus
        Who is told.
    sandboxes
        Where the tasks' working directories are made.
    base_environment
        What the tasks of an account find in their environment, below what Marathon and
        their app set; None is the backend's own account.
    limits
        The bounds of every task.
    service_ports
        The first and the last service port that apps are given.
    deployment_limits
        How many deployments there may be at once.
    """

    def __init__(
        self,
        state: State,
        driver: Driver,
        bus: EventBus,
        sandboxes: Path,
        base_environment: Callable[[str | None], Mapping[str, str]],
        limits: TaskLimits | None = None,
        service_ports: tuple[int, int] = RANGE,
        deployment_limits: DeploymentLimits | None = None,
    ) -> None:
        self.state = state
        self.bus = bus
        self._driver = driver
        self._sandboxes = sandboxes
        self._limits = limits = limits or TaskLimits()
        self._background = Background()
        self.failed = self._background.failed
        """Done with an exception when the orchestrator cannot go on."""
        spawn = self._background.spawn
        self._history = History(state.archive)
        self.changes = Changes(state, bus, driver.offers, self._enqueue_all, service_ports, deployment_limits)
        self.placer = Placer(state, driver, self._place, self._history.waits)
        self.read_output = driver.read_output
        turns = Turns()
        self._readiness = Readiness(state, self._history, spawn, turns, self._enqueue)
        self._deployments = Deployments(state, bus, self._enqueue_all)
        self._probing = Probing(state, bus, spawn, self._enqueue, self.kill, driver.execute, turns)
        self._remains = Remains(driver, state.archive, limits, spawn)
        self._runners = Runners(
            state, driver, bus, self._history, self._remains, limits, sandboxes, base_environment, spawn
        )
        self._waiting_apps: OrderedDict[str, None] = OrderedDict()  # an ordered set
        self._wakeup = asyncio.Event()

    def cannot(self, app: App) -> list[Violation]:
        """Return what the engine cannot give an app."""
        return self._driver.cannot(app)

    # -- life ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Find the tasks of a former life again, and begin."""
        await self._driver.open()
        await self._recover()
        for coroutine in (
            self._runners.take_exits(),
            self._reconcile_for_ever(),
            self.placer.run(),
            self._remains.run(),
        ):
            self._background.spawn(coroutine)
        for record in list(self.state.apps.values()):
            owner = record.app.labels.get(labels.OWNER)
            if owner is not None and owner not in self.state.apps and record.id in self.state.apps:
                self.changes.remove(record.id)
        self._enqueue_all(self.state.apps)
        self._enqueue_all(instance.app_id for instance in self.state.instances.values())
        for deployment in self.state.deployments.values():
            self._enqueue_all(deployment.affected_apps)

    async def close(self) -> None:
        """Let go; the tasks keep running."""
        await self._background.close()
        await self._driver.close()

    def offers(self) -> Sequence[Offer]:
        """Return the places there are."""
        return self._driver.offers()

    async def usage(self) -> Mapping[str, Usage] | None:
        """Return what each running task uses, by task id; None if the engine does not say now."""
        try:
            return await self._driver.stats()
        except DriverError as error:
            log.warning("cannot tell what the tasks use: %s", error)
            return None

    async def templates(self) -> Sequence[Template]:
        """Return what there is of the engine's templates; nothing if it does not say now."""
        try:
            return await self._driver.templates()
        except DriverError as error:
            log.warning("cannot tell what there is of templates: %s", error)
            return []

    async def _recover(self) -> None:
        """Match what the store says runs with what the engine says runs."""
        known = await self._driver.recover()
        found = recovery.compare(self.state.instances.values(), known)
        expected = {each.task_id for each in self.state.instances.values() if each.launched}
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
                self._kill(instance)
        for instance, task_exit in found.ended:
            self._ended(instance, TaskEnd(task_exit))
        strangers = self.state.strangers(found.unwanted)
        for task_id in strangers:
            log.warning("%s runs, but no app here knows it; it is left alone", task_id)
        for task_id in found.unwanted - strangers:
            log.warning("%s runs on the engine, but no app here wants it; it is ended", task_id)
            self._runners.end_unwanted(task_id)
        for task_id in found.left:
            self._remains.left(task_id)
        await self._remains.sweep(known.keys() | expected)

    # -- the queue ----------------------------------------------------------------------

    def _enqueue(self, app_id: str) -> None:
        self._waiting_apps[app_id] = None
        self._wakeup.set()

    def _enqueue_all(self, app_ids: Iterable[str]) -> None:
        for app_id in app_ids:
            self._enqueue(app_id)

    async def _reconcile_for_ever(self) -> None:
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            while self._waiting_apps:
                # Requests are answered between two turns. One app a turn would be too few: each turn
                # may bring as many changes as there are connections. Only our own work counts: on a
                # machine that is busy with something else a turn would else be over when it begins.
                turn_ends = time.thread_time() + _TURN_SECONDS
                while self._waiting_apps and time.thread_time() < turn_ends:
                    app_id, _ = self._waiting_apps.popitem(last=False)
                    self._reconcile(app_id)
                await asyncio.sleep(0)

    def _reconcile(self, app_id: str) -> None:
        """Do the next step of one app."""
        self._deployments.begin(app_id)
        # What has begun goes on at once.
        self._waiting_apps.pop(app_id, None)
        self._readiness.review(app_id)
        app, motion = self.state.standing(app_id), self._deployments.motion(app_id)
        decision = scaling.decide(app, self.state.instances_of(app_id), motion, self._driver.offers())
        with self.state.transaction():
            if app is not None and motion is not Motion.RESTART:
                self._follow(app)
            for instance in decision.kill:
                instance.goal = Goal.STOPPED
                self.state.put_instance(instance)
            # A few at a time, so that requests are answered in between.
            count = min(decision.start, _MOST_BORN_AT_ONCE)
            born = [Instance.scheduled(app) for _ in range(count)] if app else []
            for instance in born:
                self.state.put_instance(instance)
        for instance in born:
            self.bus.publish(events.instance_changed(instance))
        if decision.start > len(born):
            self._enqueue(app_id)
        for instance in self.state.instances_of(app_id):
            if instance.goal is Goal.STOPPED:
                self._kill(instance)
        left = self.state.instances_of(app_id)
        if any(instance.condition is Condition.SCHEDULED for instance in left):
            self.placer.wake()
        self._deployments.settle(app_id)
        if app_id not in self.state.apps and not left:
            self.state.forget_versions(app_id)

    def _follow(self, app: App) -> None:
        """Let what waits be started by the definition that stands now."""
        for instance in self.state.instances_of(app.id):
            waits = instance.condition is Condition.SCHEDULED and instance.goal is Goal.RUNNING
            if waits and instance.config_version != config_version(app):
                instance.follow(app)
                self.state.put_instance(instance)

    # -- instances ----------------------------------------------------------------------

    def _place(self, instance: Instance, allocation: Allocation) -> None:
        """Give a waiting instance its place, and start its task."""
        record = self.state.apps[instance.app_id]
        instance.condition = Condition.PROVISIONED
        instance.host, instance.ports, instance.gpus = allocation.host, allocation.ports, allocation.gpus
        instance.staged_at = now()
        with self.state.transaction():
            self.state.put_instance(instance)
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
        record = self.state.apps.get(instance.app_id)
        with self.state.transaction():
            self.state.put_instance(instance)
            if record is not None and instance.config_version == config_version(record.app):
                self._hold(record, backoff.advanced(record.backoff, now()))
            self._history.note(instance, "Started")
        if not killing:
            self._publish_state(instance)
            self._begin_asking(instance)
        self._enqueue(instance.app_id)

    def _hold(self, record: AppRecord, held: Backoff | None) -> None:
        if held != record.backoff:
            record.backoff = held
            self.state.put_app(record)

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
            self.state.put_instance(instance)
            self._enqueue(instance.app_id)
        self._kill(instance)

    def reset_delay(self, app_id: str) -> None:
        """Hold an app back no longer: what waits for its back-off may start."""
        self._hold(self.state.apps[app_id], None)
        self.placer.wake()

    def _kill(self, instance: Instance) -> None:
        """End an instance's task; to repeat it does no harm."""
        if instance.condition is Condition.SCHEDULED:
            if instance.goal is Goal.STOPPED:
                self.state.drop_instance(instance)
                instance.condition = Condition.KILLED
                self.bus.publish(events.instance_changed(instance))
                self._enqueue(instance.app_id)
            return
        if instance.condition is not Condition.KILLING:
            instance.condition = Condition.KILLING
            with self.state.transaction():
                self.state.put_instance(instance)
                self._history.killing(instance)
            self._ask_no_more(instance)
            self._publish_state(instance)
        self._runners.kill(instance)

    def _ended(self, instance: Instance, end: TaskEnd) -> None:
        """Take the end of a task: the instance goes, or waits for its next one."""
        task_id = instance.task_id
        condition, message = ends.outcome(instance, end)
        record = self.state.apps.get(instance.app_id)
        self._ask_no_more(instance)
        self._runners.forget(task_id)
        instance.condition = condition
        update, change = events.status_update(instance, message), events.instance_changed(instance)
        app = self._next_definition(instance)
        with self.state.transaction():
            self._history.ended(instance, message, end)
            if record is not None and app is not None:
                if ends.is_failure(instance):
                    self.placer.failed(instance)
                    stderr = last_lines(self._sandboxes / task_id / "stderr")
                    record.last_task_failure = ends.failure(instance, message, stderr)
                if condition is not Condition.KILLED:
                    record.backoff = backoff.after_end(record.backoff, record.app, now())
                self.state.put_app(record)
                self._history.restarting(instance, record.backoff, message)
                ends.schedule_again(instance, app)
                self.state.put_instance(instance)
            else:
                self.state.drop_instance(instance)
        self.bus.publish(update)
        self.bus.publish(change)
        if app is not None:
            self.bus.publish(events.instance_changed(instance))
        log.info("%s ended: %s", task_id, message)
        self._remains.left(task_id)
        self._enqueue(instance.app_id)
        self.placer.wake()

    def _next_definition(self, instance: Instance) -> App | None:
        """Return what an ended instance is started by next, or None if it is not."""
        if instance.goal is Goal.STOPPED:
            return None
        app = self.state.standing(instance.app_id)
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
        app = self.state.definition(instance)
        assert app is not None, f"no definition of {instance.id}"
        return app

    def _publish_state(self, instance: Instance) -> None:
        self.bus.publish(events.status_update(instance))
        self.bus.publish(events.instance_changed(instance))

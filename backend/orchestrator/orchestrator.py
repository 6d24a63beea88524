"""Moves every app, step by step, to its definition: says how many instances there are to be, and which go.

One keyed queue of app ids: whatever happens puts the app into it, and `_reconcile`
does the next step and may safely be repeated. A restart puts all apps into it; there
is no other way of recovery.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.api.rules import Violation

from .. import events
from ..drivers import Driver, DriverError, Offer, Template, Usage
from ..events import EventBus
from ..records import Condition, Goal, Instance, config_version
from ..state import State
from . import scaling
from .background import Background
from .changes import Changes
from .deployments import Deployments
from .leases import Leases
from .limits import DeploymentLimits, TaskLimits
from .lives import Lives
from .scaling import Motion
from .service_ports import RANGE

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
        self._background = Background()
        self.failed = self._background.failed
        """Done with an exception when the orchestrator cannot go on."""
        self.changes = Changes(state, bus, driver.offers, self._accepted, service_ports, deployment_limits)
        self.leases = Leases(state, self.changes.remove)
        self._deployments = Deployments(state, bus, self._enqueue_all)
        self._lives = Lives(
            state,
            driver,
            bus,
            self._deployments,
            limits or TaskLimits(),
            sandboxes,
            base_environment,
            self._background.spawn,
            self._enqueue,
        )
        self.placer = self._lives.placer
        self.kill, self.reset_delay = self._lives.kill, self._lives.reset_delay
        self.read_output = driver.read_output
        self._waiting_apps: OrderedDict[str, None] = OrderedDict()  # an ordered set
        self._wakeup = asyncio.Event()

    def cannot(self, app: App) -> list[Violation]:
        """Return what the engine cannot give an app."""
        return self._driver.cannot(app)

    # -- life ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Find the tasks of a former life again, and begin."""
        await self._driver.open()
        await self._lives.open()
        self._background.spawn(self._reconcile_for_ever())
        self._background.spawn(self.leases.watch())
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

    # -- the queue ----------------------------------------------------------------------

    def _accepted(self, app_ids: Collection[str]) -> None:
        self.leases.forget_former(app_ids)
        self._enqueue_all(app_ids)

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
        self._lives.review(app_id)
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
                self._lives.end(instance)
        left = self.state.instances_of(app_id)
        if any(instance.condition is Condition.SCHEDULED for instance in left):
            self.placer.wake()
        self._deployments.settle(app_id)
        if app_id not in self.state.apps and not left:
            self.state.forget_versions(app_id)

    def _follow(self, app: App) -> None:
        """Let what waits be started by the definition that stands now."""
        for instance in self.state.instances_of(app.id):
            if instance.waits and instance.config_version != config_version(app):
                instance.follow(app)
                self.state.put_instance(instance)

"""Gives waiting instances their places: the one writer of reservations, so nothing is overcommitted."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from hubfleet.api.app import App
from hubfleet.api.rules import port_count
from hubfleet.api.wire import now

from ..drivers import Driver, DriverError
from ..records import Condition, Goal, Instance, config_version
from ..state import State
from . import backoff
from .placement import Place, Reason, choose, no_ports

log = logging.getLogger("hubfleet.backend.placer")

_IDLE_SECONDS = 30.0  # how often the waiting are looked at although nothing happened
_ENGINE_PAUSE_SECONDS = 1.0


class Placer:
    """Looks for places whenever something waits and something may have changed.

    Parameters
    ----------
    place
        Called for each instance that gets a place, with the host and its ports;
        when it returns the reservation must be in the state.
    """

    def __init__(
        self, state: State, driver: Driver, place: Callable[[Instance, str, list[int]], None]
    ) -> None:
        self._state = state
        self._driver = driver
        self._place = place
        self._wakeup = asyncio.Event()
        self.reasons: dict[str, list[Reason]] = {}
        """Why the waiting instances of an app have no place, by app id."""

    def wake(self) -> None:
        """Say that something waits, or that something became free."""
        self._wakeup.set()

    async def run(self) -> None:
        """Place instances for ever."""
        pause = _IDLE_SECONDS
        while True:
            try:
                await asyncio.wait_for(self._wakeup.wait(), pause)
            except TimeoutError:
                pass
            self._wakeup.clear()
            try:
                pause = await self._place_all()
            except DriverError as error:
                log.warning("cannot place tasks now: %s", error)
                pause = _ENGINE_PAUSE_SECONDS

    async def _place_all(self) -> float:
        """Place what fits, and return after how many seconds to look again."""
        waiting: dict[str, list[Instance]] = {}
        for instance in self._state.instances.values():
            if instance.condition is Condition.SCHEDULED and instance.goal is Goal.RUNNING:
                waiting.setdefault(instance.app_id, []).append(instance)
        self.reasons = {app_id: reasons for app_id, reasons in self.reasons.items() if app_id in waiting}
        pause = _IDLE_SECONDS
        # While the engine is asked for ports others may end, but only this coroutine reserves,
        # so what was counted at the start is never too little.
        places = self._places()
        for app_id in sorted(waiting, key=lambda app_id: min(each.since for each in waiting[app_id])):
            launch_at = self._launch_at(app_id)
            if launch_at is not None and launch_at > now():
                pause = min(pause, (launch_at - now()).total_seconds() + 0.001)
                continue
            await self._place_app(app_id, waiting[app_id], places)
        return pause

    def _launch_at(self, app_id: str) -> datetime | None:
        record = self._state.apps.get(app_id)
        if record is None:
            return None
        record.backoff = backoff.counted_from_now(record.backoff, now())
        return backoff.launch_at(record.backoff)

    async def _place_app(self, app_id: str, instances: list[Instance], places: list[Place]) -> None:
        """Place the waiting instances of one app, which are all alike, until one does not fit."""
        for instance in instances:
            app = self._state.standing(app_id)
            if app is None or not self._still_waits(instance, app):
                continue
            found = choose(app, places)
            if isinstance(found, list):
                self.reasons[app_id] = found
                return
            ports = await self._ports(app, found.offer.host)
            if len(ports) < port_count(app):
                self.reasons[app_id] = [no_ports(app, len(ports))]
                return
            if self._still_waits(instance, app):
                self.reasons.pop(app_id, None)
                found.reserve(app)
                self._place(instance, found.offer.host, ports)

    async def _ports(self, app: App, host: str) -> list[int]:
        count = port_count(app)
        if count == 0:
            return []
        reserved = frozenset(
            port
            for instance in self._state.instances.values()
            if instance.launched and instance.host == host
            for port in instance.ports
        )
        return await self._driver.free_ports(host, count, reserved)

    def _still_waits(self, instance: Instance, app: App) -> bool:
        """Whether an instance waits, and for a task of just this definition."""
        standing = self._state.standing(instance.app_id)
        return (
            instance.condition is Condition.SCHEDULED
            and instance.goal is Goal.RUNNING
            and self._state.instances.get(instance.id) is instance
            and standing is not None
            and standing.version == app.version
            and instance.config_version == config_version(app)
        )

    def _places(self) -> list[Place]:
        places = {offer.host: Place(offer) for offer in self._driver.offers()}
        for instance in self._state.instances.values():
            if instance.launched and instance.host in places:
                app = self._state.definition(instance)
                if app is not None:
                    places[instance.host].reserve(app)
        return list(places.values())

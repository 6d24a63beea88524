"""Gives waiting instances their places: the one writer of reservations, so nothing is overcommitted.

A round looks at everything that waits, decides for all of it, asks the engine for the
ports, and only then commits, each decision checked again against what is by then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from hubfleet.api.app import App
from hubfleet.api.status import UnusedOffer
from hubfleet.api.wire import now

from ..drivers import Driver, DriverError
from ..records import Instance, config_version
from ..state import State
from . import backoff
from .debounce import Debounce
from .failures import Failures
from .placement import (
    Places,
    Reason,
    chosen_ports,
    required_ports,
    taken_ports,
    too_few_ports,
    with_required_ports,
)
from .unused import offer_of
from .waiting import Tally

log = logging.getLogger("hubfleet.backend.placer")

_IDLE_SECONDS = 30.0  # how often the waiting are looked at although nothing happened
_ENGINE_PAUSE_SECONDS = 1.0
_PORTS_SECONDS = 2.0  # ports are given up by others than our tasks, of whom we hear nothing
_MOST_AT_ONCE = 50  # instances placed in one round, so that requests are answered in between


@dataclass(frozen=True)
class Allocation:
    """What an instance gets of a place."""

    host: str
    ports: list[int]
    gpus: list[int]


@dataclass(frozen=True)
class _Group:
    """Instances of one app that wait, all alike."""

    app: App
    instances: list[Instance]


@dataclass(frozen=True)
class _Decision:
    """Where an instance is to go, unless something has changed by then."""

    instance: Instance
    app: App
    host: str


class Placer:
    """Looks for places whenever something waits and something may have changed.

    Parameters
    ----------
    place
        Called for each instance that gets a place, with what it gets there; when it
        returns the reservation must be in the state.
    waits
        Called with the id of an app that waits and a sentence on why, once for each kind of reason.
    """

    def __init__(
        self,
        state: State,
        driver: Driver,
        place: Callable[[Instance, Allocation], None],
        waits: Callable[[str, str], None],
    ) -> None:
        self._state = state
        self._driver = driver
        self._place = place
        self._waits = waits
        self._changes = Debounce()
        self._failures = Failures()
        self._tallies: dict[str, Tally] = {}

    def wake(self) -> None:
        """Say that something waits, or that something became free."""
        self._changes.change()

    def failed(self, instance: Instance) -> None:
        """Take note that a task ended badly where it was."""
        at = asyncio.get_running_loop().time()
        self._failures.note(instance.app_id, instance.config_version, instance.host, at)

    def tally(self, app_id: str) -> Tally:
        """Return what came of the places tried for a waiting app."""
        return self._tallies.get(app_id) or Tally()

    def unused(self, apps: Iterable[App]) -> dict[str, list[UnusedOffer]]:
        """Return, of each app that waits, the places that it was not given, with what is free there now."""
        places = self._places()
        offers = {host: offer_of(place) for host, place in places.by_host.items()}
        found: dict[str, list[UnusedOffer]] = {}
        for app in apps:
            tally = self.tally(app.id)
            found[app.id] = []
            if tally.last_unused_at is None:
                continue
            for host, place in places.by_host.items():
                lacking = places.why_not(app, place)
                # Of what only the engine knew, such as a port that others hold, the last word counts.
                codes = [lacking.code] if lacking else list({reason.code for reason in tally.reasons})
                offer = UnusedOffer(offer=offers[host], reason=codes, timestamp=tally.last_unused_at)
                found[app.id].append(offer)
        return found

    def missing(self, more: Mapping[str, tuple[App, int]]) -> tuple[str, list[Reason]] | None:
        """Return which of some apps would have to wait with so many more instances, and why.

        None is none: there is room for all of them together. What waits already has its place
        before them. Ports that others than our tasks hold are not known here, so that an
        instance may still have to wait for one.
        """
        places = self._places()
        for group in self._groups():
            for _ in group.instances:
                found = places.choose(group.app)
                if isinstance(found, list):
                    break
                places.reserve(group.app, found.offer.host, required_ports(group.app))
        for app_id, (app, instances) in more.items():
            for _ in range(instances):
                found = places.choose(app)
                if isinstance(found, list):
                    none = Reason("InsufficientCpus", "there is no place at all now", True)
                    return app_id, found or [none]
                places.reserve(app, found.offer.host, required_ports(app))
        return None

    async def run(self) -> None:
        """Place instances for ever."""
        pause = _IDLE_SECONDS
        while True:
            if pause > 0:
                await self._changes.wait(pause)
            else:
                await asyncio.sleep(0)
            try:
                pause = await self.round()
            except DriverError as error:
                log.warning("cannot place tasks now: %s", error)
                pause = _ENGINE_PAUSE_SECONDS

    async def round(self) -> float:
        """Place what fits, and return after how many seconds to look again."""
        groups = self._groups()
        waiting = {group.app.id for group in groups}
        self._tallies = {app_id: tally for app_id, tally in self._tallies.items() if app_id in waiting}
        if not groups:
            return _IDLE_SECONDS
        pause, due = _IDLE_SECONDS, []
        for group in groups:
            launch_at = self._launch_at(group.app)
            if launch_at is not None and launch_at > now():
                pause = min(pause, (launch_at - now()).total_seconds() + 0.001)
            else:
                due.append(group)
        with self._state.transaction():
            decisions = self._decide(due)
        ports = await self._ask_for_ports(decisions)
        again_in = self._commit(decisions, ports)
        self._changes.acted()
        return 0 if len(decisions) == _MOST_AT_ONCE else min(pause, again_in)

    # -- look ---------------------------------------------------------------------------

    def _groups(self) -> list[_Group]:
        """Return what waits, the longest waiting first."""
        waiting: dict[str, list[Instance]] = {}
        for instance in self._state.waiting.values():
            waiting.setdefault(instance.app_id, []).append(instance)
        groups = []
        for app_id, instances in waiting.items():
            app = self._state.standing(app_id)
            if app is None:
                continue
            alike = [each for each in instances if each.config_version == config_version(app)]
            if alike:
                groups.append(_Group(app, alike))
        return sorted(groups, key=lambda group: min(each.since for each in group.instances))

    def _launch_at(self, app: App) -> datetime | None:
        record = self._state.apps.get(app.id)
        if record is None:
            return None
        record.backoff = backoff.counted_from_now(record.backoff, now())
        return backoff.launch_at(record.backoff)

    def _places(self) -> Places:
        """Return all places with what is reserved of them by now."""
        return Places(self._driver.offers(), self._state.reservations)

    # -- decide -------------------------------------------------------------------------

    def _decide(self, groups: Sequence[_Group]) -> list[_Decision]:
        """Decide for each group until one of it does not fit: those after it would not either."""
        places = self._places()
        at = asyncio.get_running_loop().time()
        decisions: list[_Decision] = []
        # What one app did not get no other app gets that asks for the same.
        refused: dict[tuple[float, ...], Sequence[Reason]] = {}
        for group in groups:
            app, alike = group.app, _alike(group.app)
            if alike is not None and alike in refused:
                self._declined(app.id, refused[alike])
                continue
            last = self._failures.last(app.id, config_version(app), list(places.by_host), at)
            for instance in group.instances:
                if len(decisions) == _MOST_AT_ONCE:
                    return decisions
                found = places.choose(app, last)
                if isinstance(found, list):
                    self._declined(app.id, found)
                    if alike is not None:
                        refused[alike] = found
                    break
                places.reserve(app, found.offer.host, required_ports(app))
                decisions.append(_Decision(instance, app, found.offer.host))
        return decisions

    def _declined(self, app_id: str, reasons: Sequence[Reason]) -> None:
        sentence = self._tallies.setdefault(app_id, Tally()).note_declined(reasons, now())
        if sentence is not None:
            self._waits(app_id, sentence)

    # -- ask ----------------------------------------------------------------------------

    async def _ask_for_ports(self, decisions: Sequence[_Decision]) -> dict[str, _Ports]:
        """Return what the engine says of the ports of each host, asked once for all."""
        found = {}
        for host in {decision.host for decision in decisions}:
            apps = [decision.app for decision in decisions if decision.host == host]
            required = sorted({port for app in apps for port in required_ports(app)})
            count = sum(chosen_ports(app) for app in apps)
            taken = await self._driver.taken_ports(host, required) if required else set()
            held = self._state.reservations.hosts.get(host)
            reserved = frozenset(required).union(held.ports if held else ())
            free = await self._driver.free_ports(host, count, reserved) if count else []
            found[host] = _Ports(free, taken)
        return found

    # -- commit -------------------------------------------------------------------------

    def _commit(self, decisions: Sequence[_Decision], ports: dict[str, _Ports]) -> float:
        """Carry out what still holds, and return after how many seconds to try the rest again."""
        newest = self._places()
        again_in = _IDLE_SECONDS
        for decision in decisions:
            app, place = decision.app, newest.by_host.get(decision.host)
            waits = self._still_waits(decision.instance, app)
            if place is None or not waits or newest.why_not(app, place) is not None:
                again_in = 0  # what changed meanwhile may go elsewhere, or in another shape
                continue
            asked = ports[decision.host]
            free = [port for port in asked.free if port not in place.ports][: chosen_ports(app)]
            reason = taken_ports(asked.taken.intersection(required_ports(app)))
            if reason is None and len(free) < chosen_ports(app):
                reason = too_few_ports(app, len(free))
            if reason is not None:
                self._declined(app.id, [reason])
                again_in = min(again_in, _PORTS_SECONDS)
                continue
            allocation = Allocation(decision.host, with_required_ports(app, free), place.free_gpus(app.gpus))
            newest.reserve(app, decision.host, allocation.ports, allocation.gpus)
            self._tallies.setdefault(app.id, Tally()).note_used(now())
            self._place(decision.instance, allocation)
        return again_in

    def _still_waits(self, instance: Instance, app: App) -> bool:
        """Whether an instance waits, and for a task of just this definition."""
        standing = self._state.standing(instance.app_id)
        return (
            instance.waits
            and self._state.instances.get(instance.id) is instance
            and standing is not None
            and standing.version == app.version
            and instance.config_version == config_version(app)
        )


@dataclass(frozen=True)
class _Ports:
    """What the engine says of the ports of a host."""

    free: list[int]
    """Some that may be given out."""
    taken: set[int]
    """Those of the required ones that somebody holds."""


def _alike(app: App) -> tuple[float, ...] | None:
    """Return all that a place is chosen by, or None where also the app itself matters."""
    if app.constraints or app.require_ports:
        return None
    return app.cpus, app.mem, app.disk, app.gpus, chosen_ports(app)

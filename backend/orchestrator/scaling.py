"""How many instances to start and which to kill, so that an app moves one step to its definition. Pure.

Asked again after every change, so nothing about the way there needs to be remembered but
what is being done to the app (``marathon-v2`` 4.6 and 4.7).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto

from hubfleet.api.app import App

from ..drivers import Offer
from ..records import Condition, Goal, Instance, config_version
from .constraints import group_of

_Groups = tuple[tuple[str, str | None], ...]  # fields, and their values where an instance is; empty: nowhere

# Cheapest to lose first: what is dying or has not begun, then what has not got far.
_KILL_ORDER = (Condition.KILLING, Condition.SCHEDULED, Condition.PROVISIONED, Condition.RUNNING)


class Motion(Enum):
    """What is being done to an app."""

    HOLD = auto()
    """It stays as it was before its deployment: its turn has not come."""
    SCALE = auto()
    """The count is brought to the definition; what is too much is gone before anything is started."""
    RESTART = auto()
    """All tasks of former configurations are replaced."""
    KEEP = auto()
    """Nothing but the count is looked after, as by Marathon's periodic scale check."""


@dataclass(frozen=True)
class Decision:
    """What is to be done to an app now."""

    start: int = 0
    kill: list[Instance] = field(default_factory=list)


def decide(
    app: App | None, instances: Sequence[Instance], motion: Motion, offers: Sequence[Offer] = ()
) -> Decision:
    """Return the next step of an app.

    Parameters
    ----------
    app
        The definition that stands now: None if the app is to go, or held back before it begins.
    instances
        All instances of the app, whatever becomes of them.
    motion
        What is being done to it.
    offers
        The places there are, by whose fields what is left can be kept spread.
    """
    wanted = [instance for instance in instances if instance.goal is Goal.RUNNING]
    if app is None:
        return Decision() if motion is Motion.HOLD else Decision(kill=wanted)
    if motion is Motion.RESTART:
        # Also while the last of the old ones are only dying: they still take up capacity.
        version = config_version(app)
        if any(instance.config_version != version for instance in instances):
            return _replace(app, instances, wanted, offers)
    ending = any(instance.goal is Goal.STOPPED for instance in instances)
    waits = ending and (motion is Motion.SCALE or is_single(app))
    choose = _least_ready if motion is Motion.RESTART else _victims
    return Decision(
        start=0 if waits else max(0, app.instances - len(wanted)),
        kill=choose(app, wanted, len(wanted) - app.instances, offers),
    )


def is_single(app: App) -> bool:
    """Whether there must never be two tasks of an app, not even while one ends."""
    return app.labels.get("MARATHON_SINGLE_INSTANCE_APP") == "true"


def _is_resident(app: App) -> bool:
    """Whether an app's tasks keep their place, because their volumes are there."""
    return app.container is not None and any(volume.persistent for volume in app.container.volumes)


def bounds(app: App) -> tuple[int, int]:
    """Return how many instances must serve, and how many there may be, while an app is replaced."""
    floor = math.ceil(_exact(app.instances * app.upgrade_strategy.minimum_health_capacity))
    ceiling = math.floor(_exact(app.instances * (1 + app.upgrade_strategy.maximum_over_capacity)))
    return floor, ceiling


def _exact(product: float) -> float:
    """Take off what floats add: ten instances at 1.1 are eleven, and 0.07 of a hundred are seven."""
    return round(product, 9)


def _replace(
    app: App, instances: Sequence[Instance], wanted: Sequence[Instance], offers: Sequence[Offer]
) -> Decision:
    """Return the next step of a rolling restart, within the bounds of the upgrade strategy."""
    version = config_version(app)
    current = [instance for instance in wanted if instance.config_version == version]
    outdated = [instance for instance in wanted if instance.config_version != version]
    floor, ceiling = bounds(app)
    surplus = _least_ready(app, current, len(current) - app.instances, offers)
    # Former tasks have been ready, if that was ever asked of them: readiness is the new ones' matter.
    serving = [instance for instance in outdated if instance.serves]
    useless = [instance for instance in outdated if not instance.serves]
    going = {instance.id for instance in surplus}
    ready = len(serving) + sum(1 for each in current if each.ready and each.id not in going)
    if floor == ceiling and ready >= floor:
        # Nothing could ever move otherwise.
        if _is_resident(app):
            floor -= 1
        else:
            ceiling += 1
    spare = min(max(0, ready - floor), len(serving))
    there = sum(1 for instance in instances if instance.launched) + sum(
        1 for instance in current if instance.condition is Condition.SCHEDULED
    )
    return Decision(
        start=max(0, min(app.instances - len(current), ceiling - there)),
        kill=[*surplus, *useless, *_victims(app, serving, spare, offers)],
    )


def _least_ready(
    app: App, candidates: Sequence[Instance], count: int, offers: Sequence[Offer]
) -> list[Instance]:
    """Return the `count` instances that an app in a restart misses least.

    Those first that are not ready, however the others are spread: these may be just enough.
    """
    victims = _victims(app, [each for each in candidates if not each.ready], count, offers)
    return victims + _victims(app, [each for each in candidates if each.ready], count - len(victims), offers)


def _victims(app: App, candidates: Sequence[Instance], count: int, offers: Sequence[Offer]) -> list[Instance]:
    """Return the `count` instances that an app misses least (``marathon-v2`` 4.6).

    What has no place yet goes first; then what keeps the groups even over which the app is to
    be spread; of those that run the ones that are not ready, so that a surplus never costs
    what is needed.
    """

    def cost(instance: Instance) -> tuple[int, bool, float]:
        begun = (instance.started_at or instance.staged_at or instance.since).timestamp()
        age_order = begun if app.kill_selection == "OLDEST_FIRST" else -begun
        return _KILL_ORDER.index(instance.condition), instance.ready, age_order

    ordered = sorted(candidates, key=cost)
    fields = [constraint[0] for constraint in app.constraints if constraint[1].upper() == "GROUP_BY"]
    if not fields or count >= len(ordered):
        return ordered[: max(0, count)]
    return _evenly(ordered, count, fields, {offer.host: offer for offer in offers})


def _evenly(
    ordered: Sequence[Instance], count: int, fields: Sequence[str], offers: Mapping[str, Offer]
) -> list[Instance]:
    """Return `count` of the instances such that those left are spread; of equal ones the first.

    The next to go is the one whose groups, one for each field, are the largest together.
    """
    alike: dict[_Groups, deque[tuple[int, Instance]]] = {}
    for rank, instance in enumerate(ordered):
        groups = tuple((field, group_of(instance.host, field, offers)) for field in fields)
        alike.setdefault(groups if instance.host else (), deque()).append((rank, instance))
    sizes = Counter(group for groups, found in alike.items() for group in groups for _ in found)

    def next_cost(groups: _Groups) -> tuple[float, int]:
        together = sum(sizes[group] for group in groups) if groups else math.inf
        return -together, alike[groups][0][0]

    victims: list[Instance] = []
    while alike and len(victims) < count:
        groups = min(alike, key=next_cost)
        victims.append(alike[groups].popleft()[1])
        sizes.subtract(groups)
        if not alike[groups]:
            del alike[groups]
    return victims


def settled(app: App | None, instances: Sequence[Instance], motion: Motion, since: datetime) -> bool:
    """Whether what is being done to an app is done.

    Parameters
    ----------
    app
        The definition it is brought to, or None if it goes.
    instances
        All instances of the app, whatever becomes of them.
    motion
        What is being done.
    since
        The version of the deployment: a scaling waits only for what itself has started.
    """
    if app is None:
        return not instances
    if len(instances) != app.instances or any(each.goal is Goal.STOPPED for each in instances):
        return False
    if motion is Motion.RESTART:
        version = config_version(app)
        return all(each.ready and each.config_version == version for each in instances)
    return all(each.ready for each in instances if each.first_version == since)

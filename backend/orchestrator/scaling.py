"""How many instances to start and which to kill, so that an app moves one step to its definition. Pure.

Asked again after every change, so nothing about the way there needs to be remembered
(``marathon-v2`` 4.6 and 4.7).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from hubfleet.api.app import App

from ..records import Condition, Goal, Instance, config_version

# Cheapest to lose first: what is dying or has not begun, then what has not got far.
_KILL_ORDER = (Condition.KILLING, Condition.SCHEDULED, Condition.PROVISIONED, Condition.RUNNING)


@dataclass(frozen=True)
class Decision:
    """What is to be done to an app now."""

    start: int = 0
    kill: list[Instance] = field(default_factory=list)


def decide(app: App | None, instances: Sequence[Instance]) -> Decision:
    """Return the next step of an app.

    Parameters
    ----------
    app
        The definition, or None if the app is to go.
    instances
        All instances of the app, whatever becomes of them.
    """
    wanted = [instance for instance in instances if instance.goal is Goal.RUNNING]
    if app is None or app.instances == 0:
        return Decision(kill=wanted)
    version = config_version(app)
    current = [instance for instance in wanted if instance.config_version == version]
    outdated = [instance for instance in wanted if instance.config_version != version]
    # Also while the last of the old ones are only dying: they still take up capacity.
    if any(instance.config_version != version for instance in instances):
        return _replace(app, instances, current, outdated)
    return Decision(
        start=max(0, app.instances - len(current)),
        kill=_victims(app, current, len(current) - app.instances),
    )


def bounds(app: App) -> tuple[int, int]:
    """Return how many instances must serve, and how many there may be, while an app is replaced."""
    floor = math.ceil(_exact(app.instances * app.upgrade_strategy.minimum_health_capacity))
    ceiling = math.floor(_exact(app.instances * (1 + app.upgrade_strategy.maximum_over_capacity)))
    return floor, ceiling


def _exact(product: float) -> float:
    """Take off what floats add: ten instances at 1.1 are eleven, and 0.07 of a hundred are seven."""
    return round(product, 9)


def _replace(
    app: App, instances: Sequence[Instance], current: list[Instance], outdated: list[Instance]
) -> Decision:
    """Return the next step of a rolling restart, within the bounds of the upgrade strategy."""
    floor, ceiling = bounds(app)
    surplus = _victims(app, current, len(current) - app.instances)
    serving = [instance for instance in outdated if instance.ready]
    useless = [instance for instance in outdated if not instance.ready]
    going = {instance.id for instance in surplus}
    ready = len(serving) + sum(1 for each in current if each.ready and each.id not in going)
    if floor == ceiling and ready >= floor:
        ceiling += 1  # nothing could ever move otherwise
    spare = min(max(0, ready - floor), len(serving))
    there = sum(1 for instance in instances if instance.launched) + sum(
        1 for instance in current if instance.condition is Condition.SCHEDULED
    )
    return Decision(
        start=max(0, min(app.instances - len(current), ceiling - there)),
        kill=[*surplus, *useless, *_victims(app, serving, spare)],
    )


def _victims(app: App, candidates: Sequence[Instance], count: int) -> list[Instance]:
    """Return the `count` instances that an app misses least (``marathon-v2`` 4.6).

    Of those that run the ones that do not serve go first, so that a surplus never costs
    what is needed.
    """

    def cost(instance: Instance) -> tuple[int, bool, float]:
        begun = (instance.started_at or instance.staged_at or instance.since).timestamp()
        age_order = begun if app.kill_selection == "OLDEST_FIRST" else -begun
        return _KILL_ORDER.index(instance.condition), instance.ready, age_order

    return sorted(candidates, key=cost)[: max(0, count)]


def settled(app: App | None, instances: Sequence[Instance]) -> bool:
    """Whether nothing is left to do: the deployment that brought the app here is done."""
    if app is None:
        return not instances
    if any(instance.goal is Goal.STOPPED for instance in instances):
        return False
    version = config_version(app)
    return len(instances) == app.instances and all(
        instance.config_version == version and instance.ready for instance in instances
    )

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
    if app is None:
        return Decision(kill=wanted)
    current = [instance for instance in wanted if instance.config_version == config_version(app)]
    outdated = [instance for instance in wanted if instance.config_version != config_version(app)]
    if not outdated or app.instances == 0:
        surplus = len(wanted) - app.instances
        kill = _victims(app, outdated, len(outdated)) if app.instances == 0 else []
        if surplus - len(kill) > 0:
            kill = [*kill, *_victims(app, current, surplus - len(kill))]
        return Decision(start=max(0, -surplus), kill=kill)
    return _replace(app, instances, current, outdated)


def _replace(
    app: App, instances: Sequence[Instance], current: list[Instance], outdated: list[Instance]
) -> Decision:
    """Return the next step of a rolling restart, within the bounds of the upgrade strategy."""
    wanted = app.instances
    floor = math.ceil(wanted * app.upgrade_strategy.minimum_health_capacity)
    ceiling = math.floor(wanted * (1 + app.upgrade_strategy.maximum_over_capacity))
    useless = [instance for instance in outdated if instance.condition is Condition.SCHEDULED]
    serving = [instance for instance in outdated if instance.ready(app)]
    broken = [instance for instance in outdated if instance not in useless and instance not in serving]
    if floor == ceiling and len(serving) >= floor:
        ceiling += 1  # nothing could ever move otherwise
    ready = len(serving) + sum(1 for instance in current if instance.ready(app))
    spare = max(0, ready - floor)
    kill = [*useless, *broken, *_victims(app, serving, min(spare, len(serving)))]
    surplus = len(current) - wanted
    if surplus > 0:
        kill.extend(_victims(app, current, surplus))
    occupied = sum(1 for instance in instances if instance.launched) + sum(
        1 for instance in current if instance.condition is Condition.SCHEDULED
    )
    return Decision(start=max(0, min(wanted - len(current), ceiling - occupied)), kill=kill)


def _victims(app: App, candidates: Sequence[Instance], count: int) -> list[Instance]:
    """Return the `count` instances that an app misses least (``marathon-v2`` 4.6)."""

    def cost(instance: Instance) -> tuple[int, float]:
        begun = (instance.started_at or instance.staged_at or instance.since).timestamp()
        age_order = begun if app.kill_selection == "OLDEST_FIRST" else -begun
        return _KILL_ORDER.index(instance.condition), age_order

    return sorted(candidates, key=cost)[: max(0, count)]


def settled(app: App | None, instances: Sequence[Instance]) -> bool:
    """Whether nothing is left to do: the deployment that brought the app here is done."""
    if app is None:
        return not instances
    if any(instance.goal is Goal.STOPPED for instance in instances):
        return False
    version = config_version(app)
    return len(instances) == app.instances and all(
        instance.config_version == version and instance.ready(app) for instance in instances
    )

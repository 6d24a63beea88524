"""How much of the machine one user, and one app of a user's, may have. Pure.

A user's use is that of all their apps, the hub's servers too. What an app uses is what it
may come to take at once: its instances, those that still end, and while its tasks are
replaced the surplus that its upgrade strategy allows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from hubfleet.api.app import App

from .orchestrator import plans, scaling

RESOURCES = ("instances", "cpus", "mem", "gpus")
"""What is limited: a number, cpus, MiB of memory, a number."""

_CLOSE = 1e-6  # what floats add

Amounts = Mapping[str, float]
"""So much of each resource; of limits one that is absent, or None in a configuration, is no limit."""


@dataclass(frozen=True)
class Quota:
    """What one user may have: in all, and in any one app."""

    user: Amounts = field(default_factory=dict)
    app: Amounts = field(default_factory=dict)


@dataclass(frozen=True)
class QuotaRules:
    """Who may have how much; each part is as the configuration gives it.

    Parameters
    ----------
    user, app
        The limits of everybody, by resource.
    of_groups, of_users
        Other limits, by the name of a group or a user, under "user" and "app".
    """

    user: Mapping[str, float | None] = field(default_factory=dict)
    app: Mapping[str, float | None] = field(default_factory=dict)
    of_groups: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)
    of_users: Mapping[str, Mapping[str, Mapping[str, float | None]]] = field(default_factory=dict)

    def of(self, user: str, groups: Collection[str]) -> Quota:
        """Return the quota of a user.

        For each resource the user's own word counts, else that of the most generous of the
        user's groups that have one, else everybody's.
        """
        return Quota(
            user=self._limits("user", self.user, user, groups),
            app=self._limits("app", self.app, user, groups),
        )

    def _limits(
        self, kind: str, default: Mapping[str, float | None], user: str, groups: Collection[str]
    ) -> Amounts:
        found: dict[str, float] = {}
        own = self.of_users.get(user, {}).get(kind, {})
        theirs = [self.of_groups.get(group, {}).get(kind, {}) for group in groups]
        for resource in RESOURCES:
            words = [limits[resource] for limits in theirs if resource in limits]
            if resource in own or not words:
                words = [own.get(resource, default.get(resource))]
            limits = [word for word in words if word is not None]
            if len(limits) == len(words):  # None is no limit, and nothing is more generous
                found[resource] = max(limits)
        return found


@dataclass(frozen=True)
class Generation:
    """The tasks of an app that were made by one definition: so many to stay, so many that still end."""

    app: App
    staying: int
    ending: int


@dataclass(frozen=True)
class Held:
    """What there is of an app: its definition, and its tasks by the definitions that made them."""

    app: App | None = None
    generations: Sequence[Generation] = ()


@dataclass(frozen=True)
class Excess:
    """One limit that a change would exceed.

    Parameters
    ----------
    resource
        One of `RESOURCES`.
    of
        Whose limit: "user", or the id of an app.
    most, used, asked
        What is allowed, what is in use now, and what it would be.
    """

    resource: str
    of: str
    most: float
    used: float
    asked: float


def times(app: App, count: float) -> Amounts:
    """Return what so many instances of an app take."""
    return {"instances": count, "cpus": app.cpus * count, "mem": app.mem * count, "gpus": app.gpus * count}


def total(parts: Iterable[Amounts]) -> Amounts:
    """Return the sum of some amounts."""
    found = dict.fromkeys(RESOURCES, 0.0)
    for part in parts:
        for resource in RESOURCES:
            found[resource] += part[resource]
    return found


def use(held: Held, target: App | None, restarted: bool = False) -> Amounts:
    """Return what an app may come to take at once, on its way to a definition.

    Parameters
    ----------
    target
        The definition to come, or None if the app is to go.
    restarted
        Whether all tasks are replaced although the configuration stays.
    """
    ending = total(times(each.app, each.ending) for each in held.generations)
    staying = total(times(each.app, each.staying) for each in held.generations)
    if target is None:
        return total([ending, staying])
    replaced = total(
        times(each.app, each.staying)
        for each in held.generations
        if restarted or (each.app is not target and not plans.same_configuration(each.app, target))
    )
    fresh = target.instances
    if replaced["instances"]:
        floor, ceiling = scaling.bounds(target)
        ceiling += floor == ceiling  # as the rolling restart itself has it
        fresh = min(fresh, max(0, ceiling - int(replaced["instances"])))
    # What is scaled down runs until it is chosen and killed.
    ways = total([replaced, times(target, fresh)]), times(target, target.instances), staying
    most = {resource: max(way[resource] for way in ways) for resource in RESOURCES}
    return total([most, ending])


def excesses(
    quota: Quota,
    held: Mapping[str, Held],
    targets: Mapping[str, App | None],
    restarted: Collection[str] = (),
) -> list[Excess]:
    """Return every limit that a change of a user's apps would exceed.

    A change that takes no more than there is in use already exceeds none: going down is
    always allowed, also to who is above a limit that was lowered.

    Parameters
    ----------
    held
        All apps of the user.
    targets
        What some of them are to become.
    """
    now = {app_id: use(each, each.app) for app_id, each in held.items()}
    then = {
        app_id: use(held.get(app_id, Held()), app, app_id in restarted) for app_id, app in targets.items()
    }
    found = _over("user", quota.user, total(now.values()), total({**now, **then}.values()))
    for app_id, app in targets.items():
        old = held[app_id].app if app_id in held else None
        had, asked = (times(each, each.instances) if each else total([]) for each in (old, app))
        found += _over(app_id, quota.app, had, asked)
    return found


def _over(of: str, limits: Amounts, used: Amounts, asked: Amounts) -> list[Excess]:
    return [
        Excess(resource, of, most, used[resource], asked[resource])
        for resource, most in limits.items()
        if asked[resource] > most + _CLOSE and asked[resource] > used[resource] + _CLOSE
    ]


def fitting(quota: Quota, held: Mapping[str, Held], app: App, restarted: Collection[str] = ()) -> int:
    """Return the most instances, fewer than it asks for, with which an app would not be refused."""
    fits, too_many = 0, app.instances
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        smaller = app.model_copy(update={"instances": middle})
        if excesses(quota, held, {app.id: smaller}, restarted):
            too_many = middle
        else:
            fits = middle
    return fits

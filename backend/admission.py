"""Whether there is room for what somebody asks: quotas and the number of apps, at acceptance.

It is asked synchronously, between the last check of a change and its being stored, so that
requests that come at once cannot exceed a limit together.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from hubfleet.api.app import App
from hubfleet.api.ids import user_path

from .access import Caller
from .bounded import Remembered
from .orchestrator.refusals import ChangeRefused
from .orchestrator.terms import Permit
from .quotas import RESOURCES, Amounts, Excess, Generation, Held, QuotaRules, excesses, fitting, total, use
from .records import Goal
from .state import State

_MOST_NAMED = 5
_WORDS = {"instances": "instances", "cpus": "cpus", "mem": "MiB of memory", "gpus": "GPUs"}
_ONE = {"instances": "instance", "cpus": "cpu", "gpus": "GPU"}


class QuotaExceeded(ChangeRefused):
    """A user would have more than is allowed (403).

    Parameters
    ----------
    name
        Who asks.
    exceeded
        The limits.
    by_app
        What each app of the user has.
    fits
        How many instances of the app would have been accepted, where it was one app.
    """

    def __init__(
        self, name: str, exceeded: Sequence[Excess], by_app: Mapping[str, Amounts], fits: int | None
    ) -> None:
        sentences = [_sentence(name, excess, by_app, fits) for excess in exceeded]
        super().__init__(". ".join(sentences))
        self.details = [
            {
                "path": f"/{excess.resource}",
                "errors": [sentence],
                **dataclasses.asdict(excess),
                "apps": {app_id: part[excess.resource] for app_id, part in by_app.items()},
                "fits": fits,
            }
            for excess, sentence in zip(exceeded, sentences, strict=True)
        ]


class TooMuch(ChangeRefused):
    """There would be more apps, or more in an app, than the backend takes (403)."""


@dataclass(frozen=True)
class Limits:
    """How many there may be: apps in all and of one user, and in an app labels, variables and constraints."""

    apps: int = 20_000
    apps_of_user: int = 200
    labels: int = 500
    variables: int = 1000
    constraints: int = 100


class Admission:
    """Says whether there is room.

    Parameters
    ----------
    state
        What there is.
    rules
        Who may have how much.
    prefix
        The group of the hub's apps.
    """

    def __init__(
        self,
        state: State,
        rules: QuotaRules | None = None,
        limits: Limits | None = None,
        prefix: str = "jupyter",
    ) -> None:
        self._state = state
        self._rules = rules or QuotaRules()
        self._limits = limits or Limits()
        self._prefix = prefix
        # The hub tells a user's groups with the user's own token only; administrators ask without it.
        self._groups: Remembered[frozenset[str]] = Remembered(10_000, 24 * 3600.0)

    def permit(self, caller: Caller, restarted: Collection[str] = ()) -> Permit:
        """Return what is asked about a caller's change.

        Parameters
        ----------
        restarted
            Apps whose tasks are replaced although their configuration stays.
        """
        return partial(self._check, caller, frozenset(restarted))

    def report(self, user: str, caller: Caller) -> dict[str, Any]:
        """Return what a user may have and has, as the JSON object of ``/hubfleet/quota``."""
        groups = caller.groups if caller.user == user else self._groups.get(user)
        quota = self._rules.of(user, groups or ())
        by_app = _by_app(self._held(user))
        used = total(by_app.values())
        return {
            "user": user,
            "groups": None if groups is None else sorted(groups),
            "limits": {
                "user": {resource: quota.user.get(resource) for resource in RESOURCES},
                "app": {resource: quota.app.get(resource) for resource in RESOURCES},
            },
            "used": used,
            "left": {
                resource: max(0, quota.user[resource] - used[resource]) if resource in quota.user else None
                for resource in RESOURCES
            },
            "apps": by_app,
        }

    def _check(
        self,
        caller: Caller,
        restarted: frozenset[str],
        targets: Mapping[str, App | None],
        groups: Collection[str],
    ) -> None:
        self._check_numbers(caller, targets)
        self._check_groups(caller, groups)
        if caller.user is None or caller.trusted:
            return
        self._groups.put(caller.user, caller.groups)
        quota = self._rules.of(caller.user, caller.groups)
        if not quota.user and not quota.app:
            return
        held = self._held(caller.user)
        exceeded = excesses(quota, held, targets, restarted)
        if not exceeded:
            return
        fits = None
        if len(targets) == 1 and (app := next(iter(targets.values()))) is not None:
            fits = fitting(quota, held, app, restarted)
        raise QuotaExceeded(caller.name, exceeded, _by_app(held), fits)

    def _check_numbers(self, caller: Caller, targets: Mapping[str, App | None]) -> None:
        new = {
            app_id for app_id, app in targets.items() if app is not None and app_id not in self._state.apps
        }
        gone = sum(app is None and app_id in self._state.apps for app_id, app in targets.items())
        more = len(new) - gone
        if more > 0 and len(self._state.apps) + more > self._limits.apps:
            raise TooMuch(f"there may be {self._limits.apps} apps here; end some that are not needed")
        if more > 0 and caller.user_group is not None and not caller.trusted:
            own = sum(1 for _ in self._state.apps_within(caller.user_group))
            if own + more > self._limits.apps_of_user:
                raise TooMuch(
                    f"{caller.name} may have {self._limits.apps_of_user} apps and has {own}; "
                    "end some that are not needed"
                )
        for app_id, app in targets.items():
            if app is None:
                continue
            for what, found, most in (
                ("labels", len(app.labels), self._limits.labels),
                ("variables in its environment", len(app.env), self._limits.variables),
                ("constraints", len(app.constraints), self._limits.constraints),
            ):
                if found > most:
                    raise TooMuch(f"an app may have {most} {what}, and {app_id} would have {found}")

    def _check_groups(self, caller: Caller, new: Collection[str]) -> None:
        """Refuse more groups made by name than there may be: as many as apps, since each could hold one."""
        known = self._state.groups
        if new and len(known.records) + len(new) > self._limits.apps:
            raise TooMuch(f"there may be {self._limits.apps} groups here; end some that are not needed")
        if new and caller.user_group is not None and not caller.trusted:
            own = sum(1 for _ in known.within(caller.user_group))
            if own + len(new) > self._limits.apps_of_user:
                raise TooMuch(
                    f"{caller.name} may make {self._limits.apps_of_user} groups and has {own}; "
                    "end some that are not needed"
                )

    def _held(self, user: str) -> dict[str, Held]:
        """Return what there is of each app of a user, also of those that are only ending."""
        group = user_path(self._prefix, user)
        return {app_id: self._held_of(app_id) for app_id in self._state.known_within(group)}

    def _held_of(self, app_id: str) -> Held:
        made_by: dict[datetime, App] = {}
        staying: Counter[datetime] = Counter()
        ending: Counter[datetime] = Counter()
        for instance in self._state.instances_of(app_id):
            definition = self._state.definition(instance) if instance.launched else None
            if definition is not None:
                made_by[instance.version] = definition
                (ending if instance.goal is Goal.STOPPED else staying)[instance.version] += 1
        record = self._state.apps.get(app_id)
        return Held(
            record.app if record else None,
            [Generation(app, staying[version], ending[version]) for version, app in made_by.items()],
        )


def _by_app(held: Mapping[str, Held]) -> dict[str, Amounts]:
    return {app_id: use(each, each.app) for app_id, each in held.items()}


def _sentence(name: str, excess: Excess, by_app: Mapping[str, Amounts], fits: int | None) -> str:
    words = {**_WORDS, **_ONE} if excess.most == 1 else _WORDS
    most = f"{excess.most:g} {words[excess.resource]}"
    if excess.of == "user":
        users = sorted(
            ((part[excess.resource], app_id) for app_id, part in by_app.items() if part[excess.resource]),
            key=lambda item: (-item[0], item[1]),
        )
        named = [f"{amount:g} by {app_id}" for amount, app_id in users[:_MOST_NAMED]]
        if more := users[_MOST_NAMED:]:
            named.append(f"{sum(amount for amount, _ in more):g} by {len(more)} others")
        using = f"{excess.used:g} are in use ({', '.join(named)})" if named else "none is in use"
        sentence = f"{name} may have {most} in all; {using}, and this would make it {excess.asked:g}"
    else:
        sentence = f"one app of {name} may have {most}, and {excess.of} would have {excess.asked:g}"
    if fits is not None:
        sentence += f"; {fits} {'instance' if fits == 1 else 'instances'} would fit"
    return sentence

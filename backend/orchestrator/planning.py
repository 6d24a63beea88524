"""From what somebody asks for to the plan that leads there, or all that is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.api.rules import CYCLIC, Violation
from hubfleet.api.status import Step

from ..drivers import Offer
from ..groups import ROOT
from ..records import GroupRecord
from ..state import State
from ..tree import groups_of
from . import dependencies, plans
from .leases import term_of
from .placement import impossible
from .service_ports import ServicePorts

SAME_NAME = "Groups and Applications may not have the same identifier."
"""Marathon's sentence, which is also said where the other one's id may not be told."""

Targets = Mapping[str, App | None]
"""What apps are to become, by id; None is one that goes."""

GroupTargets = Mapping[str, GroupRecord | None]
"""What groups made by name are to become; None is one that goes."""


@dataclass(frozen=True)
class Plan:
    """What a change leads to.

    Parameters
    ----------
    before, targets
        What the apps are, and what they are to become.
    groups_before, groups
        The same of the groups made by name that change.
    steps
        The way there.
    broken
        Why not.
    """

    before: dict[str, App | None]
    targets: dict[str, App | None]
    groups_before: dict[str, GroupRecord | None]
    groups: dict[str, GroupRecord | None]
    steps: list[Step]
    broken: list[Violation]


class Planner:
    """Makes plans of changes to what there is.

    Parameters
    ----------
    state
        What there is.
    offers
        Returns the places there are.
    service_ports
        Numbers the ports of new apps.
    """

    def __init__(
        self, state: State, offers: Callable[[], Sequence[Offer]], service_ports: ServicePorts
    ) -> None:
        self._state = state
        self._offers = offers
        self._service_ports = service_ports

    def plan(
        self,
        asked: Targets,
        groups: GroupTargets,
        restarted: Collection[str],
        sees: Callable[[str], bool],
    ) -> Plan:
        """Return the plan of a change.

        Parameters
        ----------
        restarted
            Apps whose tasks are replaced although their configuration stays.
        sees
            Says which apps may be named to who asks.
        """
        targets = self._with_owned(asked)
        before = {app_id: self._definition(app_id) for app_id in targets}
        targets = self._service_ports.assigned(before, targets)
        records = self._state.groups.records
        after = {**self._replaced(targets, before), **groups}
        after = {group: record for group, record in after.items() if records.get(group) != record}
        levels, circular = self._levels(targets, after)
        return Plan(
            before,
            targets,
            {group: records.get(group) for group in after},
            after,
            plans.steps(before, targets, restarted, levels),
            [*self._misplaced(targets, groups, sees), *circular, *self._too_large(before, targets)],
        )

    def _with_owned(self, targets: Targets) -> dict[str, App | None]:
        """Return the targets and, with each app that goes, those that have no reason to be without it."""
        owned = {
            record.id: None
            for app_id, app in targets.items()
            if app is None
            for record in self._state.owned_by(app_id)
        }
        return {**owned, **targets}

    def _definition(self, app_id: str) -> App | None:
        record = self._state.apps.get(app_id)
        return record.app if record else None

    def _replaced(self, targets: Targets, before: Targets) -> dict[str, None]:
        """Return the groups made by name in whose place a new app is: those that hold none go for it."""
        known = self._state.groups
        new = [app_id for app_id, app in targets.items() if app is not None and before[app_id] is None]
        return {
            group: None
            for app_id in new
            for group in (app_id, *(record.id for record in known.within(app_id)))
            if group in known.records
        }

    def _levels(self, targets: Targets, groups: GroupTargets) -> tuple[dict[str, int], list[Violation]]:
        """Return how far the new definitions are from those that depend on nothing, and what is wrong."""
        known = self._state.groups.records

        def above(path: str) -> Iterator[GroupRecord]:
            for group in (ROOT, *groups_of(path)):
                record = groups[group] if group in groups else known.get(group)
                if record is not None and record.dependencies:
                    yield record

        wanted = [app_id for app_id, app in targets.items() if app is not None]
        dependent = [record.id for record in groups.values() if record is not None and record.dependencies]
        none = not any(app.dependencies for app in targets.values() if app is not None)
        if none and not dependent and not any(True for app_id in wanted for _ in above(app_id)):
            return {}, []  # nothing to order, nothing circular: most changes need not look at all apps
        after = {record.id: record.app for record in self._state.apps.values() if record.id not in targets}
        after.update({app_id: app for app_id, app in targets.items() if app is not None})
        of_groups = {
            record.id
            for group in dependent
            for record in self._state.apps_within(group)
            if record.id in after
        }
        try:
            return dependencies.levels(after, [*wanted, *of_groups.difference(wanted)], above), []
        except dependencies.Cycle:
            return {}, [Violation("/", CYCLIC)]

    def _misplaced(
        self, targets: Targets, groups: GroupTargets, sees: Callable[[str], bool]
    ) -> Iterator[Violation]:
        """Yield where an app or a group would be in another one's place, or an app lacks a reason to be."""
        # What a new app would be the group of, of those that come with it.
        holding = {
            group: app_id for app_id, app in targets.items() if app is not None for group in groups_of(app_id)
        }
        made = [group for group, record in groups.items() if record is not None and group != ROOT]
        holding.update({group: each for each in made for group in (*groups_of(each), each)})

        def stays(app_id: str) -> bool:
            return targets[app_id] is not None if app_id in targets else app_id in self._state.apps

        def held_by(path: str, kind: str) -> Iterator[Violation]:
            holder = next(filter(stays, groups_of(path)), None)
            if holder is not None:
                known = sees(holder)
                sentence = f"{holder} is an app, so it cannot hold the {kind} {path}" if known else SAME_NAME
                yield Violation("/id", sentence)

        for app_id, app in targets.items():
            if app is None:
                continue
            yield from held_by(app_id, "app")
            held = holding.get(app_id) or next(filter(stays, self._state.known_within(app_id)), None)
            if held == app_id:
                yield Violation("/", SAME_NAME)
            elif held:
                known = sees(held)
                sentence = f"{app_id} is the group of {held}; an app cannot be both" if known else SAME_NAME
                yield Violation("/id", sentence)
            owner = app.labels.get(labels.OWNER)
            if owner is not None and not stays(owner):
                yield Violation(
                    f"/labels/{labels.OWNER}",
                    f"the app {owner} that is to own this one is not there, or is ending",
                )
            try:
                term_of(app)
            except ValueError as error:
                yield Violation(f"/labels/{labels.LEASE}", str(error))
        for group in made:
            yield from held_by(group, "group")
            if stays(group) and group not in targets:
                yield Violation("/", SAME_NAME)

    def _too_large(self, before: Targets, targets: Targets) -> Iterator[Violation]:
        """Yield why a task of a new configuration would never find a place."""
        offers = self._offers()
        for app_id, app in targets.items():
            old = before[app_id]
            if app is not None and (old is None or not plans.same_configuration(old, app)):
                yield from impossible(app, offers)


def seen_steps(steps: Iterable[Step], sees: Callable[[str], bool]) -> list[Step]:
    """Return steps without what is done to apps that do not exist for who asks."""
    found = [
        step.model_copy(update={"actions": [each for each in step.actions if sees(each.app or "")]})
        for step in steps
    ]
    return [step for step in found if step.actions]

"""Takes changes to what should be: each is checked, versioned, stored and made a deployment, at once.

Nothing here waits, so two changes never interleave. What follows from an accepted change
is the orchestrator's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from hubfleet.api import labels
from hubfleet.api.app import App, VersionInfo
from hubfleet.api.rules import CYCLIC, Violation
from hubfleet.api.status import Action, Step

from .. import events
from ..drivers import Offer
from ..events import EventBus
from ..records import AppRecord, DeploymentRecord, Goal, Instance
from ..state import State
from ..tree import groups_of
from . import dependencies, plans
from .limits import DeploymentLimits
from .placement import impossible
from .refusals import (
    AppExists,
    Locked,
    NoSuchApp,
    NoSuchDeployment,
    NoSuchPath,
    NotValid,
    TooManyDeployments,
    TooManyOfShare,
)
from .service_ports import RANGE, ServicePorts

Permit = Callable[[Mapping[str, App | None]], None]
"""Is told what each app is to become, None for one that goes, and raises to refuse; it must not wait."""


class Changes:
    """The gate through which every change to apps passes.

    Methods that take a change also take `permit`, which has the last word before anything
    is stored, and `share`: whose change it is, for the number of deployments that one may
    have under way. Without a share there is only the limit for all.

    Parameters
    ----------
    state
        What is known.
    bus
        Who is told.
    offers
        Returns the places there are.
    accepted
        Called with the ids of the apps of each accepted change, after it is stored.
    service_ports
        The first and the last service port that apps are given.
    limits
        How many deployments there may be at once.
    """

    def __init__(
        self,
        state: State,
        bus: EventBus,
        offers: Callable[[], Sequence[Offer]],
        accepted: Callable[[Iterable[str]], None],
        service_ports: tuple[int, int] = RANGE,
        limits: DeploymentLimits | None = None,
    ) -> None:
        self._state = state
        self._limits = limits or DeploymentLimits()
        self._bus = bus
        self._offers = offers
        self._accepted = accepted
        self.service_ports = ServicePorts(service_ports, (record.app for record in state.apps.values()))

    def create(
        self, app: App, force: bool = False, *, permit: Permit | None = None, share: str | None = None
    ) -> DeploymentRecord:
        """Take a new app.

        Raises
        ------
        ChangeRefused
            There is one of this id, its place is a group's, or others are changing it.
        """
        if app.id in self._state.apps:
            raise AppExists(app.id)
        return self._deploy({app.id: app}, force, permit, share)

    def put(
        self, app: App, force: bool = False, *, permit: Permit | None = None, share: str | None = None
    ) -> DeploymentRecord:
        """Take a definition as a whole, in place of the former one if there is one."""
        return self._deploy({app.id: app}, force, permit, share)

    def put_all(
        self,
        apps: Iterable[App],
        force: bool = False,
        *,
        permit: Permit | None = None,
        share: str | None = None,
    ) -> DeploymentRecord:
        """Take several definitions as wholes, in one deployment; of two of one id the last counts."""
        return self._deploy({app.id: app for app in apps}, force, permit, share)

    def remove(
        self, app_id: str, force: bool = True, *, permit: Permit | None = None, share: str | None = None
    ) -> DeploymentRecord:
        """End an app, and those that it owns."""
        if app_id not in self._state.apps:
            raise NoSuchApp(app_id)
        return self._deploy({app_id: None}, force, permit, share)

    def remove_all(
        self, app_ids: Iterable[str], force: bool = False, *, share: str | None = None
    ) -> DeploymentRecord:
        """End several apps, and those that they own, in one deployment."""
        return self._deploy(dict.fromkeys(app_ids), force, None, share)

    def restart(
        self, app_id: str, force: bool = False, *, permit: Permit | None = None, share: str | None = None
    ) -> DeploymentRecord:
        """Replace all tasks of an app, whose definition stays but for its version."""
        record = self._state.apps.get(app_id)
        if record is None:
            raise NoSuchApp(app_id)
        return self._deploy({app_id: record.app}, force, permit, share, restarted=frozenset({app_id}))

    def kill_and_scale(
        self,
        victims: Sequence[Instance],
        force: bool = False,
        *,
        permit: Permit | None = None,
        share: str | None = None,
    ) -> DeploymentRecord:
        """End exactly these instances, and lower their apps' counts by as many.

        Those that are to end already are not counted again.

        Raises
        ------
        ChangeRefused
            An app is gone already, or others are changing it.
        """
        for instance in victims:
            if instance.app_id not in self._state.apps:
                raise NoSuchPath(instance.app_id)
        doomed = [instance for instance in victims if instance.goal is Goal.RUNNING]
        targets: dict[str, App | None] = {}
        for app_id, count in Counter(instance.app_id for instance in doomed).items():
            app = self._state.apps[app_id].app
            targets[app_id] = app.model_copy(update={"instances": max(0, app.instances - count)})
        return self._deploy(targets, force, permit, share, victims=doomed)

    def cancel(self, deployment_id: str) -> None:
        """Stop a deployment where it is; the definitions stay as they are."""
        deployment = self._deployment(deployment_id)
        with self._state.transaction():
            self._state.drop_deployment(deployment)
        for event in events.deployment_cancelled(deployment):
            self._bus.publish(event)
        self._accepted(deployment.affected_apps)

    def revert(
        self, deployment_id: str, *, permit: Permit | None = None, share: str | None = None
    ) -> DeploymentRecord:
        """Deploy what was before a deployment that is under way."""
        deployment = self._deployment(deployment_id)
        return self._deploy(deployment.originals, True, permit, share, restoring=True)

    def _deployment(self, deployment_id: str) -> DeploymentRecord:
        deployment = self._state.deployments.get(deployment_id)
        if deployment is None:
            raise NoSuchDeployment(deployment_id)
        return deployment

    def _deploy(
        self,
        targets: Mapping[str, App | None],
        force: bool,
        permit: Permit | None,
        share: str | None,
        *,
        victims: Sequence[Instance] = (),
        restarted: frozenset[str] = frozenset(),
        restoring: bool = False,
    ) -> DeploymentRecord:
        """Check, version and store new definitions, with the deployment that leads there.

        Parameters
        ----------
        permit
            Has the last word on the targets.
        share
            Whose change it is.
        restarted
            Apps whose tasks are replaced although their configuration stays.
        victims
            Instances that are to end with it.
        restoring
            Whether the configurations are former ones, whose tasks may still be there and
            are then good as they are.
        """
        targets = self._with_owned(targets)
        before = {app_id: self._definition(app_id) for app_id in targets}
        targets = self.service_ports.assigned(before, targets)
        levels, circular = self._levels(targets)
        steps = plans.steps(before, targets, restarted, levels)
        if victims and not steps:
            steps = [Step(actions=[Action(action="ScaleApplication", app=app_id) for app_id in targets])]
        conflicts = self._conflicts(plans.affected(steps), targets, force, share)
        broken = [*self._misplaced(targets), *circular, *self._too_large(before, targets)]
        if broken:
            raise NotValid(broken)
        if permit is not None:
            permit(targets)
        deployment = DeploymentRecord.of(self._state.next_version(), steps, share)
        deployment.originals = before
        with self._state.transaction():
            for conflict in conflicts:
                self._state.drop_deployment(conflict)
            for app_id, app in targets.items():
                self._store_target(
                    app_id, before[app_id], app, deployment.version, restoring, app_id in restarted
                )
            # An app made anew under the same id must not take the old one's tasks for its own.
            ending = [
                instance
                for app_id, app in targets.items()
                if app is None
                for instance in self._state.instances_of(app_id)
            ]
            for instance in [*victims, *ending]:
                instance.goal = Goal.STOPPED
                self._state.put_instance(instance)
            if deployment.steps:
                self._state.put_deployment(deployment)
        for app_id, app in targets.items():
            self.service_ports.moved(before[app_id], app)
        self._announce(deployment, conflicts)
        self._accepted([*targets, *(app_id for conflict in conflicts for app_id in conflict.affected_apps)])
        return deployment

    def _with_owned(self, targets: Mapping[str, App | None]) -> dict[str, App | None]:
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

    def _conflicts(
        self,
        affected: Collection[str],
        targets: Mapping[str, App | None],
        force: bool,
        share: str | None,
    ) -> list[DeploymentRecord]:
        """Return the deployments that are in the way of a plan, which are cancelled for it."""
        found = {
            deployment.id: deployment
            for app_id in affected
            for deployment in self._state.deployments_of(app_id)
        }
        if found and not force:
            raise Locked(list(found))
        # What ends apps is always taken: it is the way out when too much is under way.
        if not all(app is None for app in targets.values()):
            self._check_room(found, share)
        return list(found.values())

    def _levels(self, targets: Mapping[str, App | None]) -> tuple[dict[str, int], list[Violation]]:
        """Return how far the new definitions are from those that depend on nothing, and what is wrong."""
        wanted = [app_id for app_id, app in targets.items() if app is not None]
        if not any(app.dependencies for app in targets.values() if app is not None):
            return {}, []  # nothing to order, nothing circular: most changes need not look at all apps
        after = {record.id: record.app for record in self._state.apps.values() if record.id not in targets}
        after.update({app_id: app for app_id, app in targets.items() if app is not None})
        try:
            return dependencies.levels(after, wanted), []
        except dependencies.Cycle:
            return {}, [Violation("/", CYCLIC)]

    def _check_room(self, replaced: Mapping[str, DeploymentRecord], share: str | None) -> None:
        """Refuse one deployment more than may be under way, beside those that it replaces."""
        staying = [each for each in self._state.deployments.values() if each.id not in replaced]
        limits = self._limits
        if share is not None and sum(each.share == share for each in staying) >= limits.of_share:
            raise TooManyOfShare(share, limits.of_share)
        most = limits.in_all if share is None else limits.of_shares
        if len(staying) >= most:
            raise TooManyDeployments(most)

    def _misplaced(self, targets: Mapping[str, App | None]) -> Iterator[Violation]:
        """Yield where an app would be in another one's place, or without its owner."""
        # What a new app would be the group of, of those that come with it.
        groups = {
            group: app_id for app_id, app in targets.items() if app is not None for group in groups_of(app_id)
        }

        def stays(app_id: str) -> bool:
            return targets[app_id] is not None if app_id in targets else app_id in self._state.apps

        for app_id, app in targets.items():
            if app is None:
                continue
            if holder := next(filter(stays, groups_of(app_id)), None):
                yield Violation("/id", f"{holder} is an app, so it cannot hold the app {app_id}")
            held = groups.get(app_id) or next(filter(stays, self._state.known_within(app_id)), None)
            if held:
                yield Violation("/id", f"{app_id} is the group of {held}; an app cannot be both")
            owner = app.labels.get(labels.OWNER)
            if owner is not None and not stays(owner):
                yield Violation(
                    f"/labels/{labels.OWNER}",
                    f"the app {owner} that is to own this one is not there, or is ending",
                )

    def _too_large(
        self, before: Mapping[str, App | None], targets: Mapping[str, App | None]
    ) -> Iterator[Violation]:
        """Yield why a task of a new configuration would never find a place."""
        offers = self._offers()
        for app_id, app in targets.items():
            old = before[app_id]
            if app is not None and (old is None or not plans.same_configuration(old, app)):
                yield from impossible(app, offers)

    def _store_target(
        self,
        app_id: str,
        old: App | None,
        new: App | None,
        version: datetime,
        restoring: bool,
        restarted: bool,
    ) -> None:
        if new is None:
            self._state.drop_app(app_id)
            return
        same = old is not None and plans.same_configuration(old, new) and not restarted
        if old is not None and same and old.instances == new.instances:
            return
        info = VersionInfo(last_scaling_at=version, last_config_change_at=version)
        if old is not None and (same or restoring):
            of_configuration = old.version_info if same else new.version_info
            assert of_configuration is not None
            info = of_configuration.model_copy(update={"last_scaling_at": version})
        app = new.model_copy(update={"version": version, "version_info": info})
        former = self._state.apps.get(app_id)
        kept: dict[str, Any] = {}
        if former is not None:
            kept["last_task_failure"] = former.last_task_failure
            if same:
                kept["backoff"] = former.backoff
        self._state.define_app(AppRecord(app=app, **kept))

    def _announce(self, deployment: DeploymentRecord, conflicts: Iterable[DeploymentRecord]) -> None:
        for conflict in conflicts:
            for event in events.deployment_cancelled(conflict):
                self._bus.publish(event)
        for event in events.groups_changed(deployment):
            self._bus.publish(event)
        for app_id, old in deployment.originals.items():
            record = self._state.apps.get(app_id)
            for event in events.checks_changed(old, record.app if record else None):
                self._bus.publish(event)
        if not deployment.steps:
            self._bus.publish(events.deployment_ended(deployment))

"""Takes changes to what should be: each is checked, versioned, stored and made a deployment, at once.

Nothing here waits, so two changes never interleave. What follows from an accepted change
is the orchestrator's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hubfleet.api.app import App, VersionInfo
from hubfleet.api.status import Action, Step

from .. import events
from ..drivers import Offer
from ..events import EventBus
from ..groups import ROOT
from ..records import AppRecord, DeploymentRecord, Goal, Instance
from ..state import State
from . import plans
from .limits import DeploymentLimits
from .planning import GroupTargets, Plan, Planner, Targets, seen_steps
from .refusals import (
    AppExists,
    ChangeRefused,
    Locked,
    NoSuchApp,
    NoSuchDeployment,
    NoSuchPath,
    NotValid,
    TooManyDeployments,
    TooManyOfShare,
)
from .service_ports import RANGE, ServicePorts
from .terms import OPEN, Terms


class Changes:
    """The gate through which every change to apps and groups passes.

    Methods that take a change say with `force` whether the deployments that are in its way are
    cancelled for it, and with `terms` who asks.

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
        self._accepted = accepted
        self.service_ports = ServicePorts(service_ports, (record.app for record in state.apps.values()))
        self._planner = Planner(state, offers, self.service_ports)

    def create(self, app: App, force: bool = False, terms: Terms = OPEN) -> DeploymentRecord:
        """Take a new app.

        Raises
        ------
        ChangeRefused
            There is one of this id, its place is a group's, or others are changing it.
        """
        if app.id in self._state.apps:
            raise AppExists(app.id)
        return self._deploy({app.id: app}, _group_of(app.id), force, terms)

    def put(self, app: App, force: bool = False, terms: Terms = OPEN) -> DeploymentRecord:
        """Take a definition as a whole, in place of the former one if there is one."""
        return self._deploy({app.id: app}, _group_of(app.id), force, terms)

    def put_all(self, apps: Iterable[App], force: bool = False, terms: Terms = OPEN) -> DeploymentRecord:
        """Take several definitions as wholes, in one deployment; of two of one id the last counts."""
        return self._deploy({app.id: app for app in apps}, ROOT, force, terms)

    def put_group(
        self, group: str, apps: Targets, groups: GroupTargets, force: bool = False, terms: Terms = OPEN
    ) -> DeploymentRecord:
        """Take what becomes of a group: of apps and of groups made by name, all in one deployment."""
        return self._deploy(apps, _group_of(group), force, terms, groups=groups)

    def steps_of_group(self, apps: Targets, groups: GroupTargets, terms: Terms = OPEN) -> list[Step]:
        """Return the steps that such a change would take, as far as who asks may know them."""
        plan = self._planner.plan(apps, groups, (), terms.sees)
        if plan.broken:
            raise NotValid(plan.broken)
        self._permit(plan, terms)
        return seen_steps(plan.steps, terms.sees)

    def remove(self, app_id: str, force: bool = True, terms: Terms = OPEN) -> DeploymentRecord:
        """End an app, and those that it owns."""
        if app_id not in self._state.apps:
            raise NoSuchApp(app_id)
        return self._deploy({app_id: None}, _group_of(app_id), force, terms)

    def restart(self, app_id: str, force: bool = False, terms: Terms = OPEN) -> DeploymentRecord:
        """Replace all tasks of an app, whose definition stays but for its version."""
        record = self._state.apps.get(app_id)
        if record is None:
            raise NoSuchApp(app_id)
        restarted = frozenset({app_id})
        return self._deploy({app_id: record.app}, _group_of(app_id), force, terms, restarted=restarted)

    def kill_and_scale(
        self, victims: Sequence[Instance], force: bool = False, terms: Terms = OPEN
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
        return self._deploy(targets, ROOT, force, terms, victims=doomed)

    def cancel(self, deployment_id: str) -> None:
        """Stop a deployment where it is; the definitions stay as they are."""
        deployment = self._deployment(deployment_id)
        with self._state.transaction():
            self._state.drop_deployment(deployment)
        for event in events.deployment_cancelled(deployment):
            self._bus.publish(event)
        self._accepted(deployment.affected_apps)

    def revert(self, deployment_id: str, terms: Terms = OPEN) -> DeploymentRecord:
        """Deploy what was before a deployment that is under way."""
        deployment = self._deployment(deployment_id)
        groups = deployment.original_groups
        return self._deploy(deployment.originals, ROOT, True, terms, groups=groups, restoring=True)

    def _deployment(self, deployment_id: str) -> DeploymentRecord:
        deployment = self._state.deployments.get(deployment_id)
        if deployment is None:
            raise NoSuchDeployment(deployment_id)
        return deployment

    def _deploy(
        self,
        asked: Targets,
        group: str,
        force: bool,
        terms: Terms,
        *,
        groups: GroupTargets | None = None,
        victims: Sequence[Instance] = (),
        restarted: frozenset[str] = frozenset(),
        restoring: bool = False,
    ) -> DeploymentRecord:
        """Check, version and store new definitions, with the deployment that leads there.

        Parameters
        ----------
        group
            Whose change is told to those who listen; ``marathon-v2`` 4.11 has the group that holds
            what was asked to be changed.
        restarted
            Apps whose tasks are replaced although their configuration stays.
        victims
            Instances that are to end with it.
        restoring
            Whether the configurations are former ones, whose tasks may still be there and
            are then good as they are.
        """
        plan = self._planner.plan(asked, groups or {}, restarted, terms.sees)
        steps = plan.steps
        if victims and not steps:
            actions = [Action(action="ScaleApplication", app=app_id) for app_id in plan.targets]
            steps = [Step(actions=actions)]
        try:
            conflicts = self._conflicts(plans.affected(steps), plan.targets, force, terms.share)
            if plan.broken:
                raise NotValid(plan.broken)
        except ChangeRefused as refusal:
            self._bus.publish(events.group_change_failed(group, self._state.next_version(), str(refusal)))
            raise
        self._permit(plan, terms)
        deployment = DeploymentRecord.of(self._state.next_version(), steps, terms.share)
        deployment.originals, deployment.original_groups = plan.before, plan.groups_before
        with self._state.transaction():
            for conflict in conflicts:
                self._state.drop_deployment(conflict)
            self._store(plan, deployment.version, restoring, restarted)
            # An app made anew under the same id must not take the old one's tasks for its own.
            ending = [
                instance
                for app_id, app in plan.targets.items()
                if app is None
                for instance in self._state.instances_of(app_id)
            ]
            for instance in [*victims, *ending]:
                instance.goal = Goal.STOPPED
                self._state.put_instance(instance)
            if deployment.steps:
                self._state.put_deployment(deployment)
        for app_id, app in plan.targets.items():
            self.service_ports.moved(plan.before[app_id], app)
        self._announce(deployment, group, conflicts)
        affected = (app_id for conflict in conflicts for app_id in conflict.affected_apps)
        self._accepted([*plan.targets, *affected])
        return deployment

    def _permit(self, plan: Plan, terms: Terms) -> None:
        if terms.permit is not None:
            made = [group for group, record in plan.groups.items() if record is not None]
            terms.permit(plan.targets, [group for group in made if plan.groups_before[group] is None])

    def _conflicts(
        self, affected: Collection[str], targets: Targets, force: bool, share: str | None
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

    def _check_room(self, replaced: Mapping[str, DeploymentRecord], share: str | None) -> None:
        """Refuse one deployment more than may be under way, beside those that it replaces."""
        staying = [each for each in self._state.deployments.values() if each.id not in replaced]
        limits = self._limits
        if share is not None and sum(each.share == share for each in staying) >= limits.of_share:
            raise TooManyOfShare(share, limits.of_share)
        most = limits.in_all if share is None else limits.of_shares
        if len(staying) >= most:
            raise TooManyDeployments(most)

    def _store(self, plan: Plan, version: datetime, restoring: bool, restarted: Collection[str]) -> None:
        """Write what a plan makes of apps and groups."""
        changed: dict[str, AppRecord | None] = {}
        for app_id, app in plan.targets.items():
            old = plan.before[app_id]
            if app is None:
                self._state.drop_app(app_id)
                if old is not None:
                    changed[app_id] = None
                continue
            record = self._versioned(old, app, version, restoring, app_id in restarted)
            if record is not None:
                self._state.define_app(record)
                changed[app_id] = record
        self._state.groups.change(version, changed, plan.groups)

    def _versioned(
        self, old: App | None, new: App, version: datetime, restoring: bool, restarted: bool
    ) -> AppRecord | None:
        """Return what is to be kept of a new definition, or None if nothing changes."""
        same = old is not None and plans.same_configuration(old, new) and not restarted
        if old is not None and same and old.instances == new.instances:
            return None
        info = VersionInfo(last_scaling_at=version, last_config_change_at=version)
        if old is not None and (same or restoring):
            of_configuration = old.version_info if same else new.version_info
            assert of_configuration is not None
            info = of_configuration.model_copy(update={"last_scaling_at": version})
        app = new.model_copy(update={"version": version, "version_info": info})
        former = self._state.apps.get(new.id)
        kept: dict[str, Any] = {}
        if former is not None:
            kept["last_task_failure"] = former.last_task_failure
            if same:
                kept["backoff"] = former.backoff
        return AppRecord(app=app, **kept)

    def _announce(
        self, deployment: DeploymentRecord, group: str, conflicts: Iterable[DeploymentRecord]
    ) -> None:
        for conflict in conflicts:
            for event in events.deployment_cancelled(conflict):
                self._bus.publish(event)
        self._bus.publish(events.group_change_success(group, deployment.version))
        for app_id, old in deployment.originals.items():
            record = self._state.apps.get(app_id)
            for event in events.checks_changed(old, record.app if record else None):
                self._bus.publish(event)
        if not deployment.steps:
            self._bus.publish(events.deployment_ended(deployment))


def _group_of(path: str) -> str:
    """Return the group that an app or a group lies in; the root lies in itself."""
    return path.rpartition("/")[0]

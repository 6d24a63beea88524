"""Takes changes to what should be: each is checked, versioned, stored and made a deployment, at once.

Nothing here waits, so two changes never interleave. What follows from an accepted change
is the orchestrator's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from hubfleet.api.app import App, VersionInfo
from hubfleet.api.status import Action, Step

from .. import events
from ..drivers import Offer
from ..events import EventBus
from ..groups import ROOT
from ..records import AppRecord, DeploymentRecord, Goal, Instance, config_version
from ..state import State
from . import plans
from .drafts import Asked, Draft
from .limits import DeploymentLimits
from .planning import GroupTargets, Planner, Targets, seen_steps
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
        accepted: Callable[[Collection[str]], None],
        service_ports: tuple[int, int] = RANGE,
        limits: DeploymentLimits | None = None,
    ) -> None:
        self._state = state
        self._limits = limits or DeploymentLimits()
        self._bus = bus
        self._accepted = accepted
        self.service_ports = ServicePorts(service_ports, (record.app for record in state.apps.values()))
        self._planner = Planner(state, offers, self.service_ports)
        self._taken = 0

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

    def draft(self, group: str, apps: Targets, groups: GroupTargets, terms: Terms = OPEN) -> Draft:
        """Return what becomes of a group: of apps and of groups made by name, in one deployment.

        Before it is taken one goes `through` it, which may be done in turns.
        """
        return self._draft(Asked(apps, _group_of(group), terms, groups=groups))

    def through(self, draft: Draft) -> Iterator[None]:
        """Work out what there is to write of a draft, and yield after each part."""
        for app_id, app in draft.plan.targets.items():
            old = draft.plan.before[app_id]
            if app is not None:
                record = self._versioned(old, app, draft.deployment.version, draft.asked)
                if record is not None:
                    _ = record.text
                    draft.records[app_id] = record
                    draft.told.extend(events.checks_changed(old, record.app))
            elif old is not None:
                draft.records[app_id] = None
                draft.told.extend(events.checks_changed(old, None))
            yield
        yield from draft.deployment.write_out()

    def is_stale(self, draft: Draft) -> bool:
        """Whether another change was taken since a draft was made, so that it must be made anew."""
        return draft.number != self._taken

    def steps_of(self, draft: Draft) -> list[Step]:
        """Return the steps that a draft would take, as far as who asks may know them.

        Raises
        ------
        ChangeRefused
            It would be refused, even if nothing else was under way.
        """
        if draft.plan.broken:
            raise NotValid(draft.plan.broken)
        self._permit(draft)
        return seen_steps(draft.plan.steps, draft.asked.terms.sees)

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
        self, targets: Targets, group: str, force: bool, terms: Terms, **more: Any
    ) -> DeploymentRecord:
        draft = self._draft(Asked(targets, group, terms, **more))
        deque(self.through(draft), maxlen=0)
        return self.take(draft, force)

    def _draft(self, asked: Asked) -> Draft:
        """Look at what is asked for, and version what it leads to; nothing changes yet."""
        plan = self._planner.plan(asked.targets, asked.groups, asked.restarted, asked.terms.sees)
        steps = plan.steps
        if asked.victims and not steps:
            actions = [Action(action="ScaleApplication", app=app_id) for app_id in plan.targets]
            steps = [Step(actions=actions)]
        deployment = DeploymentRecord.of(self._state.next_version(), steps, asked.terms.share)
        deployment.originals, deployment.original_groups = plan.before, plan.groups_before
        return Draft(asked, plan, deployment, self._taken)

    def _versioned(self, old: App | None, new: App, version: datetime, asked: Asked) -> AppRecord | None:
        """Return what is to be kept of a new definition, or None if nothing changes."""
        same = old is not None and new.id not in asked.restarted and plans.same_configuration(old, new)
        if old is not None and same and old.instances == new.instances:
            return None
        info = VersionInfo(last_scaling_at=version, last_config_change_at=version)
        if old is not None and (same or asked.restoring):
            of_configuration = old.version_info if same else new.version_info
            assert of_configuration is not None
            info = of_configuration.model_copy(update={"last_scaling_at": version})
        return AppRecord(app=new.model_copy(update={"version": version, "version_info": info}))

    def take(self, draft: Draft, force: bool = False) -> DeploymentRecord:
        """Store what a draft makes of apps and groups, with the deployment that leads there.

        Raises
        ------
        ChangeRefused
            Something is wrong with it, others are changing the same, or it is not permitted.
        """
        assert not self.is_stale(draft)
        asked, plan, deployment = draft.asked, draft.plan, draft.deployment
        affected = plans.affected(deployment.steps)
        try:
            conflicts = self._conflicts(affected, plan.targets, force, asked.terms.share)
            if plan.broken:
                raise NotValid(plan.broken)
        except ChangeRefused as refusal:
            self._bus.publish(events.group_change_failed(asked.group, deployment.version, str(refusal)))
            raise
        self._permit(draft)
        with self._state.transaction():
            for conflict in conflicts:
                self._state.drop_deployment(conflict)
            self._store(draft)
            # An app made anew under the same id must not take the old one's tasks for its own.
            ending = [
                instance
                for app_id, app in plan.targets.items()
                if app is None
                for instance in self._state.instances_of(app_id)
            ]
            for instance in [*asked.victims, *ending]:
                instance.goal = Goal.STOPPED
                self._state.put_instance(instance)
            if deployment.steps:
                self._state.put_deployment(deployment)
        self._taken += 1
        for app_id, app in plan.targets.items():
            self.service_ports.moved(plan.before[app_id], app)
        self._announce(draft, conflicts)
        cancelled = (app_id for conflict in conflicts for app_id in conflict.affected_apps)
        self._accepted([*plan.targets, *cancelled])
        return deployment

    def _permit(self, draft: Draft) -> None:
        plan, permit = draft.plan, draft.asked.terms.permit
        if permit is not None:
            made = [group for group, record in plan.groups.items() if record is not None]
            permit(plan.targets, [group for group in made if plan.groups_before[group] is None])

    def _store(self, draft: Draft) -> None:
        """Write what a draft makes of apps and groups."""
        for app_id, app in draft.plan.targets.items():
            if app is None:
                self._state.drop_app(app_id)
        kept = [record for record in draft.records.values() if record is not None]
        for record in kept:
            if former := self._state.apps.get(record.id):
                record.last_task_failure = former.last_task_failure
                if config_version(former.app) == config_version(record.app):
                    record.backoff = former.backoff
        self._state.define_apps(kept, draft.deployment.version)
        self._state.groups.change(draft.deployment.version, draft.records, draft.plan.groups)

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

    def _announce(self, draft: Draft, conflicts: Iterable[DeploymentRecord]) -> None:
        for conflict in conflicts:
            for event in events.deployment_cancelled(conflict):
                self._bus.publish(event)
        self._bus.publish(events.group_change_success(draft.asked.group, draft.deployment.version))
        for event in draft.told:
            self._bus.publish(events.of_now(event))
        if not draft.deployment.steps:
            self._bus.publish(events.deployment_ended(draft.deployment))


def _group_of(path: str) -> str:
    """Return the group that an app or a group lies in; the root lies in itself."""
    return path.rpartition("/")[0]

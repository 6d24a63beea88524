"""Takes changes to what should be: each is checked, versioned, stored and made a deployment, at once.

Nothing here waits, so two changes never interleave. What follows from an accepted change
is the orchestrator's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from hubfleet.api import labels
from hubfleet.api.app import App, VersionInfo
from hubfleet.api.rules import Violation
from hubfleet.api.status import Action, Step
from hubfleet.api.wire import format_timestamp

from .. import events
from ..events import EventBus
from ..records import AppRecord, DeploymentRecord, Goal, Instance
from ..state import State
from . import plans
from .refusals import AppExists, Locked, NoSuchApp, NoSuchDeployment, NotValid, TooManyDeployments

MAX_DEPLOYMENTS = 100
"""Most deployments at once, as Marathon's ``--max_running_deployments``."""


class Changes:
    """The gate through which every change to apps passes.

    Parameters
    ----------
    state
        What is known.
    bus
        Who is told.
    accepted
        Called with the ids of the apps of each accepted change, after it is stored.
    """

    def __init__(self, state: State, bus: EventBus, accepted: Callable[[Iterable[str]], None]) -> None:
        self._state = state
        self._bus = bus
        self._accepted = accepted

    def create(self, app: App, force: bool = False) -> DeploymentRecord:
        """Take a new app.

        Raises
        ------
        ChangeRefused
            There is one of this id, its place is a group's, or others are changing it.
        """
        if app.id in self._state.apps:
            raise AppExists(app.id)
        return self._deploy({app.id: app}, force)

    def put(self, app: App, force: bool = False) -> DeploymentRecord:
        """Take a definition as a whole, in place of the former one if there is one."""
        return self._deploy({app.id: app}, force)

    def remove(self, app_id: str, force: bool = True) -> DeploymentRecord:
        """End an app, and those that it owns."""
        if app_id not in self._state.apps:
            raise NoSuchApp(app_id)
        going = [app_id, *(record.id for record in self._state.owned_by(app_id))]
        return self._deploy(dict.fromkeys(going), force)

    def kill_and_scale(self, victims: Sequence[Instance], force: bool = False) -> DeploymentRecord:
        """End exactly these instances, and lower their apps' counts by as many."""
        lost: dict[str, int] = {}
        for instance in victims:
            if instance.goal is Goal.RUNNING:
                lost[instance.app_id] = lost.get(instance.app_id, 0) + 1
        targets: dict[str, App | None] = {}
        for app_id, count in lost.items():
            app = self._state.apps[app_id].app
            targets[app_id] = app.model_copy(update={"instances": max(0, app.instances - count)})
        return self._deploy(targets, force, victims)

    def cancel(self, deployment_id: str) -> None:
        """Stop a deployment where it is; the definitions stay as they are."""
        deployment = self._deployment(deployment_id)
        with self._state.transaction():
            self._state.drop_deployment(deployment)
        self._bus.publish(events.deployment_ended(deployment, "The upgrade has been cancelled"))

    def revert(self, deployment_id: str) -> DeploymentRecord:
        """Deploy what was before a deployment that is under way."""
        deployment = self._deployment(deployment_id)
        return self._deploy(dict(deployment.originals), force=True)

    def _deployment(self, deployment_id: str) -> DeploymentRecord:
        deployment = self._state.deployments.get(deployment_id)
        if deployment is None:
            raise NoSuchDeployment(deployment_id)
        return deployment

    def _deploy(
        self, targets: Mapping[str, App | None], force: bool, victims: Sequence[Instance] = ()
    ) -> DeploymentRecord:
        """Check, version and store new definitions, with the deployment that leads there."""
        conflicts = self._conflicts(targets, force)
        for app_id, app in targets.items():
            if app is not None:
                self._check_place(
                    app_id, app, removed=[key for key, value in targets.items() if value is None]
                )
        before = {app_id: self._definition(app_id) for app_id in targets}
        deployment = DeploymentRecord.of(self._state.next_version(), plans.steps(before, targets))
        deployment.originals = before
        if victims and not deployment.steps:
            deployment.steps = [
                Step(actions=[Action(action="ScaleApplication", app=app_id) for app_id in targets])
            ]
        with self._state.transaction():
            for conflict in conflicts:
                self._state.drop_deployment(conflict)
            for app_id, app in targets.items():
                self._store_target(app_id, before[app_id], app, deployment.version)
            for instance in victims:
                instance.goal = Goal.STOPPED
                self._state.put_instance(instance)
            if deployment.steps:
                self._state.put_deployment(deployment)
        self._announce(deployment, conflicts)
        self._accepted(targets)
        return deployment

    def _definition(self, app_id: str) -> App | None:
        record = self._state.apps.get(app_id)
        return record.app if record else None

    def _conflicts(self, targets: Iterable[str], force: bool) -> list[DeploymentRecord]:
        found = {
            deployment.id: deployment
            for app_id in targets
            for deployment in self._state.deployments_of(app_id)
        }
        if found and not force:
            raise Locked(list(found))
        if len(self._state.deployments) - len(found) >= MAX_DEPLOYMENTS:
            raise TooManyDeployments(MAX_DEPLOYMENTS)
        return list(found.values())

    def _check_place(self, app_id: str, app: App, removed: Sequence[str]) -> None:
        violations = []
        for other in self._state.apps:
            if other.startswith(f"{app_id}/") and other not in removed:
                violations.append(
                    Violation("/id", f"{app_id} is the group of {other}; an app cannot be both")
                )
            elif app_id.startswith(f"{other}/") and other not in removed:
                violations.append(Violation("/id", f"{other} is an app, so it cannot hold the app {app_id}"))
        owner = app.labels.get(labels.OWNER)
        if owner is not None and (owner not in self._state.apps or owner in removed):
            violations.append(
                Violation(
                    f"/labels/{labels.OWNER}",
                    f"the app {owner} that is to own this one is not there, or is ending",
                )
            )
        if violations:
            raise NotValid(violations[:3])

    def _store_target(self, app_id: str, old: App | None, new: App | None, version: datetime) -> None:
        if new is None:
            self._state.drop_app(app_id)
            return
        if old is None:
            info = VersionInfo(last_scaling_at=version, last_config_change_at=version)
        elif plans.same_configuration(old, new):
            if old.instances == new.instances:
                return
            assert old.version_info is not None
            info = old.version_info.model_copy(update={"last_scaling_at": version})
        else:
            info = VersionInfo(last_scaling_at=version, last_config_change_at=version)
        app = new.model_copy(update={"version": version, "version_info": info})
        former = self._state.apps.get(app_id)
        kept: dict[str, Any] = {}
        if former is not None and old is not None:
            kept["last_task_failure"] = former.last_task_failure
            if plans.same_configuration(old, new):
                kept["backoff"] = former.backoff
        self._state.put_app(AppRecord(app=app, **kept))

    def _announce(self, deployment: DeploymentRecord, conflicts: Iterable[DeploymentRecord]) -> None:
        for conflict in conflicts:
            self._bus.publish(events.deployment_ended(conflict, "The upgrade has been cancelled"))
        for app_id in deployment.affected_apps:
            self._bus.publish(events.group_changed(app_id, format_timestamp(deployment.version)))
        if deployment.steps:
            self._bus.publish(events.deployment_progress("deployment_info", deployment))
        else:
            self._bus.publish(events.deployment_ended(deployment))

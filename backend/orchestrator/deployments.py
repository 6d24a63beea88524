"""Leads deployments through their steps, each of which is a gate for the next (``marathon-v2`` section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .. import events
from ..events import EventBus
from ..records import DeploymentRecord
from ..state import State
from .scaling import Motion, settled

_MOTIONS = {"RestartApplication": Motion.RESTART, "ScaleApplication": Motion.SCALE}


class Deployments:
    """Says which way each app moves, and when a step is done.

    Parameters
    ----------
    enqueue
        Called with the ids of the apps whose turn has come.
    """

    def __init__(self, state: State, bus: EventBus, enqueue: Callable[[Iterable[str]], None]) -> None:
        self._state = state
        self._bus = bus
        self._enqueue = enqueue

    def motion(self, app_id: str) -> Motion:
        """Return how an app is to be moved now."""
        for deployment in self._state.deployments_of(app_id):
            if deployment.holds(app_id):
                return Motion.HOLD
            if action := deployment.action_on(app_id):
                # What is left of a former app of the same id holds up no new one.
                is_new = deployment.originals.get(app_id) is None
                return Motion.KEEP if is_new else _MOTIONS.get(action, Motion.KEEP)
        return Motion.KEEP

    def begin(self, app_id: str) -> None:
        """Begin the first step of what was accepted for an app."""
        for deployment in self._state.deployments_of(app_id):
            if deployment.current < 0:
                self._next_step(deployment)

    def settle(self, app_id: str) -> None:
        """Go on with the deployments for which this app was the last to wait for."""
        for deployment in self._state.deployments_of(app_id):
            remaining = self._remaining(deployment)
            if app_id in remaining and self._is_done(deployment, app_id):
                remaining.discard(app_id)
            if not remaining:
                self._step_done(deployment)
                self._next_step(deployment)

    def _remaining(self, deployment: DeploymentRecord) -> set[str]:
        if deployment.remaining is None:
            # An app that is started is one with no instances yet, which is what it has already.
            deployment.remaining = {
                action.app
                for action in deployment.current_actions
                if action.app and action.action != "StartApplication"
            }
        return deployment.remaining

    def _is_done(self, deployment: DeploymentRecord, app_id: str) -> bool:
        record = self._state.apps.get(app_id)
        return settled(
            record.app if record else None,
            self._state.instances_of(app_id),
            self.motion(app_id),
            deployment.version,
        )

    def _step_done(self, deployment: DeploymentRecord) -> None:
        for action in deployment.current_actions:
            if action.action == "StopApplication" and action.app:
                self._bus.publish(events.app_terminated(action.app))
        self._bus.publish(events.deployment_progress("deployment_step_success", deployment))

    def _next_step(self, deployment: DeploymentRecord) -> None:
        """Begin the next step, and those after it as long as there is nothing to wait for."""
        while True:
            deployment.current += 1
            deployment.remaining = None
            if deployment.current >= len(deployment.steps):
                self._state.drop_deployment(deployment)
                self._bus.publish(events.deployment_ended(deployment))
                return
            waited_for = self._remaining(deployment)
            if waited_for:
                # A step that is done at once need not be remembered: after a restart it is so again.
                with self._state.transaction():
                    self._state.put_deployment(deployment)
                    self._reset_delays(deployment)
            self._bus.publish(events.deployment_progress("deployment_info", deployment))
            if waited_for:
                self._enqueue(waited_for)
                return
            self._step_done(deployment)

    def _reset_delays(self, deployment: DeploymentRecord) -> None:
        """Let the apps that are restarted now not wait for what their former tasks did."""
        for action in deployment.current_actions:
            if action.action == "RestartApplication" and action.app:
                record = self._state.apps[action.app]
                if record.backoff is not None:
                    record.backoff = None
                    self._state.put_app(record)

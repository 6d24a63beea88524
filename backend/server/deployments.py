"""``/v2/deployments``: what is under way, and its cancellation (``marathon-v2`` 1.2)."""

from __future__ import annotations

from typing import Any

from ..records import DeploymentRecord
from ..state import State
from .answers import NotFoundHere
from .appinfo import readiness_results
from .base import ApiHandler


class DeploymentsHandler(ApiHandler):
    """The deployments under way."""

    def get(self) -> None:
        """List the deployments of the apps that the caller sees."""
        self.write_json(
            [
                shown(deployment, self.orchestrator.state)
                for deployment in self.orchestrator.state.deployments.values()
                if self.sees_deployment(deployment.id)
            ]
        )


def shown(deployment: DeploymentRecord, state: State) -> dict[str, Any]:
    """Return a deployment as it is listed."""
    body = deployment.to_deployment().to_wire()
    body["affectedPods"] = []
    for action in body["currentActions"]:
        action["readinessCheckResults"] = readiness_results(deployment, state, action["app"])
    return body


class DeploymentHandler(ApiHandler):
    """One deployment."""

    def delete(self, deployment_id: str) -> None:
        """Cancel a deployment: with ``force`` where it is, else by going back."""
        deployment = self.orchestrator.state.deployments.get(deployment_id)
        if deployment is None or not self.sees_deployment(deployment_id):
            raise NotFoundHere(f"DeploymentPlan {deployment_id} does not exist")
        for app_id in deployment.affected_apps:
            self.caller.require_change(app_id)
        if self.flag("force"):
            self.orchestrator.changes.cancel(deployment_id)
            self.set_status(202)
            self.finish()
        else:
            self.write_deployment(self.orchestrator.changes.revert(deployment_id, self.terms()))

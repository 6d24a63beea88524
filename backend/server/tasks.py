"""``/v2/tasks/delete``, ``/v2/deployments`` and ``/v2/queue`` (``marathon-v2`` 1.2)."""

from __future__ import annotations

import math
import re
from collections import Counter
from datetime import datetime
from typing import Any

from hubfleet.api.status import Delay, OffersSummary, QueueItem, Reject
from hubfleet.api.wire import now

from ..definition import WrongShape
from ..orchestrator import backoff
from ..orchestrator.placement import Reason
from ..records import Backoff, Condition, Goal, Instance
from .answers import BadRequest, NotFoundHere
from .apps import asked_embeds
from .base import ApiHandler

# Both forms of task id (``marathon-v2`` section 3).
_TASK_ID = re.compile(r"(.+)\.(instance-|marathon-)?([^_.]+)([._][^.]+(\.\d+)?)?")


class KillTasksHandler(ApiHandler):
    """Tasks that are to end."""

    def post(self) -> None:
        """Kill tasks by id, and with ``scale`` lower their apps' counts by as many."""
        scale, wipe = self.flag("scale"), self.flag("wipe")
        if scale and wipe:
            raise BadRequest("You cannot use scale and wipe at the same time.")
        victims = self._victims(self.json_body())
        for instance in victims:
            self.caller.require_change(instance.app_id)
        if scale:
            self.write_deployment(
                self.orchestrator.changes.kill_and_scale(
                    victims, self.flag("force"), permit=self.permit(), share=self.caller.share
                )
            )
            return
        for instance in victims:
            self.orchestrator.kill(instance)
        self.write_json({"tasks": [instance.to_task().to_wire() for instance in victims]})

    def _victims(self, body: Any) -> list[Instance]:
        ids = body.get("ids") if isinstance(body, dict) else None
        if not isinstance(ids, list):
            raise WrongShape([{"path": "/ids", "errors": ["error.expected.jsarray"]}])
        running = {
            instance.task_id: instance
            for instance in self.orchestrator.state.instances.values()
            if instance.launched and self.caller.sees(instance.app_id)
        }
        for task_id in ids:
            if not isinstance(task_id, str) or not _TASK_ID.fullmatch(task_id):
                raise BadRequest(
                    f"Invalid task id '{task_id}'. [A task id ends in .instance-<uuid>._app.<n>]"
                )
        # Each once, in the order given; an id that is not there, or no more, is passed over.
        return [running[task_id] for task_id in dict.fromkeys(ids) if task_id in running]


class DeploymentsHandler(ApiHandler):
    """The deployments under way."""

    def get(self) -> None:
        """List the deployments of the apps that the caller sees."""
        self.write_json(
            [
                deployment.to_deployment().to_wire()
                for deployment in self.orchestrator.state.deployments.values()
                if self.sees_deployment(deployment.id)
            ]
        )


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
            self.write_deployment(
                self.orchestrator.changes.revert(deployment_id, permit=self.permit(), share=self.caller.share)
            )


class QueueHandler(ApiHandler):
    """What waits."""

    def get(self) -> None:
        """List the apps some of whose instances wait, and why."""
        waiting: dict[str, list[Instance]] = {}
        for instance in self.orchestrator.state.instances.values():
            if instance.condition is Condition.SCHEDULED and instance.goal is Goal.RUNNING:
                waiting.setdefault(instance.app_id, []).append(instance)
        embeds = asked_embeds(self)
        items = [
            self._item(app_id, instances)
            for app_id, instances in waiting.items()
            if self.caller.sees(app_id) and app_id in self.orchestrator.state.apps
        ]
        if "explanation" not in embeds:
            # Our own, and only for those who ask: the client 0.13.0 takes no field that it does not know.
            items = [item.model_copy(update={"explanation": None}) for item in items]
        self.write_json({"queue": [item.to_wire() for item in items]})

    def _item(self, app_id: str, instances: list[Instance]) -> QueueItem:
        record = self.orchestrator.state.apps[app_id]
        reasons = self.orchestrator.placer.reasons.get(app_id, [])
        rejects = [
            Reject(reason=code, declined=count, processed=len(reasons))
            for code, count in Counter(reason.code for reason in reasons).items()
        ]
        return QueueItem(
            count=len(instances),
            since=min(instance.since for instance in instances),
            delay=queue_delay(record.backoff, now()),
            processed_offers_summary=OffersSummary(
                processed_offers_count=len(reasons),
                unused_offers_count=len(reasons),
                reject_summary_last_offers=rejects,
                reject_summary_launch_attempt=rejects,
            ),
            app=record.app,
            explanation=explanation(reasons, record.backoff, now()),
        )


def queue_delay(held: Backoff | None, at: datetime) -> Delay:
    """Return how long an app is still held back."""
    launch_at = backoff.launch_at(held)
    left = 0.0 if launch_at is None else (launch_at - at).total_seconds()
    return Delay(time_left_seconds=max(0, math.ceil(left)), overdue=left <= -1 or launch_at is None)


def explanation(reasons: list[Reason], held: Backoff | None, at: datetime) -> str | None:
    """Return why an app waits, as a sentence that somebody can act on."""
    launch_at = backoff.launch_at(held)
    if launch_at is not None and launch_at > at:
        return f"its last task ended; the next one is started in {(launch_at - at).total_seconds():.1f} s"
    # What might become free says more than what never fits, where there is both.
    ordered = sorted(reasons, key=lambda reason: not reason.ever)
    return ordered[0].sentence if ordered else None

"""``/v2/queue``: what waits for a place or for its back-off, and why (``marathon-v2`` 1.2)."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime

from hubfleet.api.ids import canonical
from hubfleet.api.status import Delay, OffersSummary, QueueItem, Reject
from hubfleet.api.wire import now

from ..orchestrator import backoff
from ..orchestrator.placement import Reason
from ..records import Backoff, Condition, Goal, Instance
from .answers import NotFoundHere
from .base import ApiHandler


class QueueHandler(ApiHandler):
    """What waits."""

    def get(self) -> None:
        """List the apps some of whose instances wait, and why."""
        waiting: dict[str, list[Instance]] = {}
        for instance in self.orchestrator.state.instances.values():
            if instance.condition is Condition.SCHEDULED and instance.goal is Goal.RUNNING:
                waiting.setdefault(instance.app_id, []).append(instance)
        embeds = self.get_query_arguments("embed")
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


class QueueDelayHandler(ApiHandler):
    """How long a waiting app is held back."""

    def delete(self, path: str) -> None:
        """Let a waiting app start at once."""
        app_id = canonical(path)
        waits = any(
            instance.condition is Condition.SCHEDULED and instance.goal is Goal.RUNNING
            for instance in self.orchestrator.state.instances_of(app_id)
        )
        if not waits or app_id not in self.orchestrator.state.apps or not self.caller.sees(app_id):
            raise NotFoundHere(f"Application {app_id} not found in tasks queue.")
        self.caller.require_change(app_id)
        self.orchestrator.reset_delay(app_id)
        self.set_status(204)
        self.finish()


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

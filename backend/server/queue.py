"""``/v2/queue``: what waits for a place or for its back-off, and why (``marathon-v2`` 1.2)."""

from __future__ import annotations

from hubfleet.api.ids import canonical
from hubfleet.api.status import QueueItem, UnusedOffer
from hubfleet.api.wire import now

from ..orchestrator import waiting
from ..records import Instance
from .answers import NotFoundHere
from .base import ApiHandler


class QueueHandler(ApiHandler):
    """What waits."""

    def get(self) -> None:
        """List the apps some of whose instances wait, and why."""
        queued: dict[str, list[Instance]] = {}
        state = self.orchestrator.state
        for instance in state.waiting.values():
            queued.setdefault(instance.app_id, []).append(instance)
        waits = [app_id for app_id in queued if self.caller.sees(app_id) and app_id in state.apps]
        embeds = self.get_query_arguments("embed")
        unused: dict[str, list[UnusedOffer]] = {}
        if "lastUnusedOffers" in embeds:
            unused = self.orchestrator.placer.unused(state.apps[app_id].app for app_id in waits)
        # The explanation and `hopeless` are our own, and only for those who ask: the client 0.13.0 takes
        # no field that it does not know.
        explained = "explanation" in embeds
        items = [self._item(app_id, queued[app_id], unused.get(app_id), explained) for app_id in waits]
        self.write_json({"queue": [item.to_wire() for item in items]})

    def _item(
        self, app_id: str, instances: list[Instance], unused: list[UnusedOffer] | None, explained: bool
    ) -> QueueItem:
        record = self.orchestrator.state.apps[app_id]
        tally, at = self.orchestrator.placer.tally(app_id), now()
        return QueueItem(
            count=len(instances),
            since=min(instance.since for instance in instances),
            delay=waiting.queue_delay(record.backoff, at),
            processed_offers_summary=tally.summary(),
            app=record.app,
            last_unused_offers=unused,
            explanation=waiting.explanation(tally.reasons, record.backoff, at) if explained else None,
            hopeless=waiting.is_hopeless(tally, record.app.version) if explained else None,
        )


class QueueDelayHandler(ApiHandler):
    """How long a waiting app is held back."""

    def delete(self, path: str) -> None:
        """Let a waiting app start at once."""
        app_id = canonical(path)
        waits = any(instance.waits for instance in self.orchestrator.state.instances_of(app_id))
        if not waits or app_id not in self.orchestrator.state.apps or not self.caller.sees(app_id):
            raise NotFoundHere(f"Application {app_id} not found in tasks queue.")
        self.caller.require_change(app_id)
        self.orchestrator.reset_delay(app_id)
        self.set_status(204)
        self.finish()

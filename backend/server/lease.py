"""``/hubfleet/leases``: says that an app is still needed. Our own: Marathon knows no leases."""

from __future__ import annotations

from ..access import HubUnreachable
from .base import ApiHandler


class LeaseHandler(ApiHandler):
    """The lease of one app."""

    async def identify(self) -> None:
        """Find out who asks; while the hub does not say it, no lease runs out."""
        try:
            await super().identify()
        except HubUnreachable:
            self.orchestrator.leases.renew_all()
            raise

    def put(self, path: str) -> None:
        """Begin the lease anew."""
        record = self.visible_app(path)
        self.caller.require_change(record.id)
        self.write_json({"seconds": self.orchestrator.leases.renew(record.id)})

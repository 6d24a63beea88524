"""``/hubfleet/quota``: what a user may have, and has. Our own: Marathon knows no quotas."""

from __future__ import annotations

from ..access import Forbidden
from .answers import BadRequest
from .base import ApiHandler


class QuotaHandler(ApiHandler):
    """The quota of one user."""

    def get(self) -> None:
        """Show limits, what is in use and by which apps: the caller's own, or of the ``user`` asked for."""
        asked = self.get_query_argument("user", None)
        user = asked or self.caller.user
        if asked is not None and not self.caller.trusted and asked != self.caller.user:
            raise Forbidden(f"{self.caller.name} may see no other quota than their own")
        if user is None:
            raise BadRequest("Say whose quota: /hubfleet/quota?user=<name>")
        self.write_json(self.services.admission.report(user, self.caller))

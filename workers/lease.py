"""Says to the backend, again and again, that an app is still needed, for as long as this process lives.

A process that is killed removes nothing; neither does one whose credential has expired. Our backend
then removes its app when the lease is over (``hubfleet.backend.orchestrator.leases``). A Marathon
knows no leases: there the workers look for a scheduler until somebody removes the app.
"""

from __future__ import annotations

import logging
import threading
import time

from hubfleet.api.errors import BackendUnreachable, NotFound, RequestRefused
from hubfleet.api.transport import Transport

log = logging.getLogger("hubfleet.workers")

LEASE_SECONDS = 30
"""With the 30 s for which the backend remembers a good credential, nothing is left after a minute."""

LEAST_SECONDS, MOST_SECONDS = 2, 86400  # the backend's bounds
_RENEWALS = 6  # in each term, so that lost requests or a pause end nothing


class Lease:
    """The lease of one app.

    Its thread is its own: an event loop is held up by what a notebook computes on it, and one
    backend that does not answer must not end what is on another.

    Parameters
    ----------
    app_id
        The app.
    transport
        How the backend is reached.
    seconds
        The term.
    """

    def __init__(self, app_id: str, transport: Transport, seconds: float) -> None:
        self._app_id = app_id
        self._transport = transport
        self._seconds = seconds
        self._ended = threading.Event()
        # A fork has no such thread, so a child of this process keeps nothing alive.
        threading.Thread(target=self._renew, name="hubfleet-lease", daemon=True).start()

    def end(self) -> None:
        """Renew no more."""
        self._ended.set()

    def _renew(self) -> None:
        accepted = time.monotonic()
        while not self._ended.wait(self._seconds / _RENEWALS):
            try:
                self._transport.renew_lease(self._app_id)
            except NotFound:
                return  # it is gone, or this is a Marathon
            except BackendUnreachable as error:
                # While the backend is away no lease runs out.
                log.debug("the lease of %s is not renewed: %s", self._app_id, error)
                accepted = time.monotonic()
            except RequestRefused as refusal:
                if time.monotonic() - accepted > self._seconds:
                    log.warning("the backend keeps %s no longer for this process: %s", self._app_id, refusal)
                    return
            else:
                accepted = time.monotonic()

"""What happens to apps that nobody has closed when the interpreter ends: they are removed.

By then the event loops are dead and thread pools take no more work, so this speaks over the
blocking transport, from the thread that ends the interpreter.
"""

from __future__ import annotations

import atexit
import logging
import os

from hubfleet.api.errors import BackendError, NotFound
from hubfleet.api.transport import Transport

log = logging.getLogger("hubfleet.workers")

_left: dict[str, tuple[int, Transport]] = {}


def remove_at_exit(app_id: str, transport: Transport) -> None:
    """See to it that an app ends with this process."""
    # A forked child inherits this table, but not the right to end its parent's workers.
    _left[app_id] = (os.getpid(), transport)


def forget(app_id: str) -> None:
    """Leave an app alone at the end: it is gone already, or was never ours."""
    _left.pop(app_id, None)


@atexit.register
def _remove_left() -> None:
    for app_id, (process, transport) in list(_left.items()):
        if process != os.getpid():
            continue
        try:
            transport.delete_app(app_id.strip("/"), force=True)
        except NotFound:
            pass
        except BackendError as error:
            # No warning: whether they were ever made is not known either, and without a scheduler
            # workers end by themselves.
            log.info("the Dask workers %s could not be removed: %s", app_id, error)
        forget(app_id)

"""Keeps what `MarathonWorkers` by itself knows of its app true; in a cluster `following.py` does.

It knows the scheduler by its address alone, so it cannot tell workers that never arrive from those that do.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from hubfleet.api.client import Client
from hubfleet.api.errors import BackendUnreachable, NotFound, RequestRefused
from hubfleet.api.status import AppStatus
from hubfleet.api.watcher import Watcher

from .counting import Count
from .trouble import Trouble, replaced

_PAUSE = 2.0  # seconds between questions while no events tell, or while instances wait


class Listener(Protocol):
    """The workers, as what listens for them sees them."""

    app_id: str
    marathon: Client
    count: Count
    tell: Callable[[str], None]

    def hear(self, app: AppStatus | None) -> None:
        """Take what the backend's events tell of the app."""

    async def refresh(self) -> Count:
        """Read the count anew."""

    async def look_why(self) -> None:
        """Find out what the instances wait for that have no task."""

    def removed(self) -> NotFound:
        """Return the error that says that the app is gone."""


async def listen(workers: Listener) -> None:
    """Follow an app until cancelled, or until it is gone, and tell of what its owner should know."""
    watcher = Watcher(workers.marathon, workers.app_id.rpartition("/")[0], log_level=logging.DEBUG)
    changed = asyncio.Event()
    watcher.observe(lambda app_id, event: changed.set() if app_id == workers.app_id else None)
    watcher.start()
    trouble = Trouble(workers.tell)
    try:
        while not workers.count.gone:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE):
                    await changed.wait()
            changed.clear()
            await _look(workers, watcher, trouble)
        trouble.say("gone", str(workers.removed()))
    finally:
        await watcher.close()


async def _look(workers: Listener, watcher: Watcher, trouble: Trouble) -> None:
    try:
        app = watcher.lookup(workers.app_id) if watcher.sighted else None
        if app is None:
            await workers.refresh()
        else:
            workers.hear(app)
        await workers.look_why()
    except BackendUnreachable as error:
        trouble.say("away", f"the workers there are work on, scaling waits: {error}")
    except RequestRefused as refusal:
        trouble.say_new("refused", str(refusal))
    else:
        trouble.over("away")
    if workers.count.failure is not None:
        trouble.say_new("failure", replaced(workers.count.failure))

"""Waits until the backend has done what it took note of, and asks why it has not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection

from hubfleet.api.client import Client
from hubfleet.api.errors import BackendUnreachable

_LOOK_SECONDS = 0.2


async def until_over(marathon: Client, deployments: Collection[str], seconds: float) -> bool:
    """Wait until deployments have come to their ends; return whether they have, within so many seconds.

    Raises
    ------
    hubfleet.api.errors.RequestRefused
        The backend does not tell.
    """
    left = set(deployments)
    try:
        async with asyncio.timeout(seconds):
            while left:
                with contextlib.suppress(BackendUnreachable):
                    left &= {entry.id for entry in await marathon.list_deployments()}
                if left:
                    await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        return False
    return True


async def reason_to_wait(marathon: Client, app_id: str) -> str:
    """Return what those instances of an app wait for that have no task; empty where nothing is known.

    Raises
    ------
    BackendUnreachable
        The backend did not answer.
    """
    for item in await marathon.list_queue():
        if item.app is not None and item.app.id == app_id:
            rejects = item.processed_offers_summary.reject_summary_last_offers
            said = [reject.reason for reject in rejects if reject.declined]
            return item.explanation or ", ".join(said)
    return ""

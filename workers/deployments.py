"""Waits until the backend has done what it took note of."""

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

"""Apps that are watched in tests, and how their watcher is seen to see them."""

from __future__ import annotations

import asyncio

from hubfleet.api.app import App
from hubfleet.api.status import AppStatus
from hubfleet.api.watcher import Watcher


def small(app_id: str, **fields: object) -> App:
    return App.model_validate({"id": app_id, "cmd": "exec sleep 600", "cpus": 0.01, "mem": 1, **fields})


def gone(app: AppStatus | None) -> bool:
    return app is None


async def heard(watcher: Watcher, app_id: str, event_type: str) -> None:
    async with asyncio.timeout(60):
        async for event in watcher.events(app_id):
            if event.event_type == event_type:
                return


async def always(watcher: Watcher, *app_ids: str, there: bool) -> None:
    """Look at every turn of the loop for a while."""
    end = asyncio.get_running_loop().time() + 0.3
    while asyncio.get_running_loop().time() < end:
        assert {watcher.lookup(app_id) is not None for app_id in app_ids} == {there}
        await asyncio.sleep(0)

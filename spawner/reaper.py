"""Deletes apps until they are gone, however long the backend cannot be reached.

JupyterHub forgets a server when a stop was asked for, whatever came of it
(``user.py``, ``User.stop``). So a delete must not be one attempt of somebody who may be
cancelled: it is handed over here, and whoever likes may wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from hubfleet.api.client import Client
from hubfleet.api.errors import BackendError, NotFound

log = logging.getLogger("hubfleet.spawner.reaper")

_RETRY_FIRST, _RETRY_MOST = 0.25, 30.0  # seconds
_AT_ONCE = 4  # deletes on their way at the same time, so that others' calls still find a thread


@dataclass
class _Doomed:
    task: asyncio.Task[str | None]
    spared: asyncio.Event = field(default_factory=asyncio.Event)


class Reaper:
    """The apps that must go, and the tasks that see to it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._doomed: dict[str, _Doomed] = {}
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def holds(self, app_id: str) -> bool:
        """Whether an app is still to be deleted."""
        return app_id in self._doomed

    def condemn(
        self, app_id: str, after: Coroutine[Any, Any, bool] | None = None
    ) -> asyncio.Task[str | None]:
        """Delete an app; go on until the backend has accepted it.

        Parameters
        ----------
        app_id
            Which app.
        after
            Ends when a submission of this app that is still on its way has come to its end,
            and returns whether there may be something to delete. Without it the delete would
            overtake the submission and delete nothing.

        Returns
        -------
        asyncio.Task
            Ends when the delete was accepted, with the id of its deployment, or None if
            there was no such app or it was spared. Wait for it without cancelling it
            (`asyncio.wait`).
        """
        known = self._doomed.get(app_id)
        if known is not None and after is None:
            return known.task
        spared = asyncio.Event()
        task = asyncio.create_task(self._delete(app_id, spared, after, known), name=f"reaper {app_id}")
        self._doomed[app_id] = _Doomed(task, spared)
        task.add_done_callback(lambda done: self._forget(app_id, done))
        return task

    async def spare(self, app_id: str) -> None:
        """Take an app off the list; on return no delete of it is on its way."""
        doomed = self._doomed.get(app_id)
        if doomed is not None:
            doomed.spared.set()
            await asyncio.wait({doomed.task})

    async def close(self) -> None:
        """End all attempts."""
        tasks = [doomed.task for doomed in self._doomed.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, app_id: str, task: asyncio.Task[str | None]) -> None:
        doomed = self._doomed.get(app_id)
        if doomed is not None and doomed.task is task:
            del self._doomed[app_id]

    async def _delete(
        self,
        app_id: str,
        spared: asyncio.Event,
        after: Coroutine[Any, Any, bool] | None,
        former: _Doomed | None,
    ) -> str | None:
        if former is not None:
            former.spared.set()
            await asyncio.wait({former.task})
        if after is not None and not await after:
            return None
        pause = _RETRY_FIRST
        while not spared.is_set():
            try:
                async with self._turn:
                    return (await self._client.delete_app(app_id)).deployment_id
            except NotFound:
                return None
            except BackendError as error:
                log.warning("cannot delete %s, trying again in about %.1f s: %s", app_id, pause, error)
            try:
                jittered = pause * random.uniform(0.7, 1.3)  # noqa: S311 (no secret)
                async with asyncio.timeout(jittered):
                    await spared.wait()
            except TimeoutError:
                pause = min(pause * 2, _RETRY_MOST)
        return None

"""What is left of ended tasks: removed at once but for the output, and that after a while."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import timedelta

from hubfleet.api.wire import now

from ..archive import Archive
from ..drivers import Driver, DriverError
from .background import Spawn
from .limits import TaskLimits

log = logging.getLogger("hubfleet.backend.remains")

_PAUSE_FIRST, _PAUSE_MOST = 1.0, 300.0
_SWEEP_SECONDS = 60.0


class Remains:
    """Cleans up after tasks; what cannot be done now is done later.

    Parameters
    ----------
    driver
        The engine.
    archive
        Says which ended tasks are remembered; the output of others is not kept.
    limits
        How many are remembered, and how long.
    spawn
        Runs a coroutine in the background.
    """

    def __init__(
        self,
        driver: Driver,
        archive: Archive,
        limits: TaskLimits,
        spawn: Spawn,
    ) -> None:
        self._driver = driver
        self._archive = archive
        self._limits = limits
        self._spawn = spawn
        self._trimmed: set[str] = set()  # apps that somebody trims already

    async def sweep(self, known: Iterable[str]) -> None:
        """Remove what nobody has a use for any more, but for that of tasks that are `known`.

        Raises
        ------
        DriverError
            The engine does not say what there is.
        """
        for task_id in await self._driver.kept() - frozenset(known):
            # Of one that is remembered a sudden end may have left more than the output.
            self.left(task_id)

    def left(self, task_id: str) -> None:
        """Clean up after a task that has ended."""
        self._spawn(self._clean_up(task_id))

    async def run(self) -> None:
        """Let go of what has been kept long enough, for ever."""
        while True:
            before = now() - timedelta(seconds=self._limits.kept_seconds)
            self._archive.prune(before)
            for task_id in self._archive.ended_before(before):
                await self._let_go(task_id)
            await asyncio.sleep(_SWEEP_SECONDS)

    async def _clean_up(self, task_id: str) -> None:
        pause = _PAUSE_FIRST
        while True:
            try:
                await self._driver.forget(task_id)
                break
            except DriverError as error:
                log.warning("cannot clean up after %s yet: %s", task_id, error)
            await asyncio.sleep(pause)
            pause = min(pause * 4, _PAUSE_MOST)
        task = self._archive.ended(task_id)
        if task is None:
            await self._let_go(task_id)
        elif task.app_id not in self._trimmed:
            self._trimmed.add(task.app_id)
            try:
                await self._trim(task.app_id)
            finally:
                self._trimmed.discard(task.app_id)

    async def _trim(self, app_id: str) -> None:
        """Let go of an app's oldest ended tasks, also of those that come to be too many meanwhile."""
        tried: set[str] = set()
        while surplus := set(self._archive.surplus(app_id, self._limits.kept_tasks)) - tried:
            for task_id in surplus:
                await self._let_go(task_id)
            tried |= surplus

    async def _let_go(self, task_id: str) -> None:
        """Remove the output of a task, and then forget it; what fails is tried at the next sweep."""
        try:
            await self._driver.discard(task_id)
        except DriverError as error:
            log.warning("%s", error)
        else:
            self._archive.forget(task_id)

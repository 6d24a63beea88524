"""Coroutines that run beside everything else: each has an owner, and none of their failures is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

Spawn = Callable[[Coroutine[object, object, None]], asyncio.Task[None]]
"""Begins a coroutine whose failure is not lost."""


class Background:
    """The owner of an orchestrator's coroutines.

    Attributes
    ----------
    failed
        Done with an exception when one of them has failed: nothing can go on then.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def spawn(self, coroutine: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Begin a coroutine."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._reap)
        return task

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def close(self) -> None:
        """End them all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

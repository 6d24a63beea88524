"""The life of one task on the engine, as one readable loop: start, run, be killed, end."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

from ..drivers import Driver, DriverError, StartRefused, TaskExit, TaskSpec
from .ends import TaskEnd

log = logging.getLogger("hubfleet.backend.task")

KILL_GRACE_SECONDS = 3.0
"""Seconds between SIGTERM and SIGKILL where the app says nothing (Mesos' command executor)."""

_START_PAUSE_FIRST, _START_PAUSE_MOST = 0.2, 10.0
_SIGNAL_PAUSE_FIRST = 0.1
_KILL_PAUSE_FIRST, _KILL_PAUSE_FACTOR, _KILL_PAUSE_MOST = 5.0, 4.0, 120.0
_REPORTED_AFTER = 5  # failed kills


class TaskRunner:
    """Brings one task to life, or finds it alive, and stays with it to its end.

    Parameters
    ----------
    spec
        The task, with everything decided.
    driver
        The engine.
    kill_grace_seconds
        Between SIGTERM and SIGKILL.
    started, ended
        Called once each, in this order; `started` not at all for a task that
        never ran.
    """

    def __init__(
        self,
        spec: TaskSpec,
        driver: Driver,
        kill_grace_seconds: float,
        started: Callable[[], None],
        ended: Callable[[TaskEnd], None],
    ) -> None:
        self.spec = spec
        self._driver = driver
        self._grace = kill_grace_seconds
        self._started = started
        self._ended = ended
        self._kill_asked = asyncio.Event()
        self._exit: asyncio.Future[TaskExit] = asyncio.get_running_loop().create_future()

    def kill(self) -> None:
        """Ask for the end; asking twice is once."""
        self._kill_asked.set()

    def exited(self, task_exit: TaskExit) -> None:
        """Take the engine's word that the task has ended."""
        if not self._exit.done():
            self._exit.set_result(task_exit)

    async def run(self, found_running: bool = False) -> None:
        """Live the life; a task `found_running` on the engine is not started."""
        if not found_running:
            if self._kill_asked.is_set():
                self._ended(TaskEnd(TaskExit(self.spec.task_id, None, signal.SIGTERM)))
                return
            try:
                begun = await self._start()
            except StartRefused as refusal:
                self._ended(TaskEnd(TaskExit(self.spec.task_id, None, None), str(refusal)))
                return
            if not begun:
                self._ended(TaskEnd(TaskExit(self.spec.task_id, None, signal.SIGTERM)))
                return
            if not self._exit.done():
                self._started()
        await self._until_exit_or_kill()
        attempt = 0
        while not self._exit.done():
            await self._kill(attempt)
            attempt += 1
        self._ended(TaskEnd(self._exit.result()))

    async def _start(self) -> bool:
        """Start the task, for as long as it takes; return False if its end was asked for before that."""
        pause = _START_PAUSE_FIRST
        while True:
            try:
                await self._driver.start(self.spec)
                return True
            except StartRefused:
                raise
            except DriverError as error:
                # The engine starts an id once, however often it is told.
                log.warning("cannot start %s yet: %s", self.spec.task_id, error)
            await self._until_exit_or_kill(pause)
            if self._exit.done():
                return True  # the order that seemed lost was carried out
            pause = min(pause * 2, _START_PAUSE_MOST)
            if self._kill_asked.is_set() and not await self._may_be_there():
                return False

    async def _may_be_there(self) -> bool:
        """Whether the engine has the task, or does not say."""
        try:
            return self.spec.task_id in await self._driver.recover()
        except DriverError as error:
            log.warning("cannot tell whether %s was started: %s", self.spec.task_id, error)
            await asyncio.sleep(_START_PAUSE_FIRST)
            return True

    async def _until_exit_or_kill(self, timeout: float | None = None) -> None:
        asked = asyncio.create_task(self._kill_asked.wait())
        try:
            either: set[asyncio.Future[Any]] = {asked, self._exit}
            await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()

    async def _kill(self, attempt: int) -> None:
        """Send SIGTERM, and after the grace SIGKILL; wait ever longer for the end."""
        await self._signal(signal.SIGTERM)
        if await self._exit_within(self._grace):
            return
        await self._signal(signal.SIGKILL)
        pause = min(_KILL_PAUSE_FIRST * _KILL_PAUSE_FACTOR**attempt, _KILL_PAUSE_MOST)
        if not await self._exit_within(pause) and attempt + 1 >= _REPORTED_AFTER:
            log.error("%s has not ended after %d kills; still trying", self.spec.task_id, attempt + 1)

    async def _signal(self, signum: signal.Signals) -> None:
        """Send a signal; if the engine does not confirm it, again: to hear it twice harms no task."""
        clock = asyncio.get_running_loop().time
        pause, ends_at = _SIGNAL_PAUSE_FIRST, clock() + self._grace
        while not self._exit.done():
            try:
                await self._driver.signal(self.spec.task_id, signum)
                return
            except DriverError as error:
                log.warning("cannot send %s to %s: %s", signum.name, self.spec.task_id, error)
            if clock() + pause > ends_at:
                return
            await self._exit_within(pause)
            pause *= 2

    async def _exit_within(self, seconds: float) -> bool:
        await asyncio.wait({self._exit}, timeout=seconds)
        return self._exit.done()

"""One task on the engine: started once, awaited, and ended, for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import Any

from ..drivers import Driver, DriverError, StartRefused, TaskExit, TaskSpec
from ..uptime import age, uptime

log = logging.getLogger("hubfleet.backend.task")

_START_PAUSE_FIRST, _START_PAUSE_MOST = 0.2, 10.0
_SIGNAL_PAUSE_FIRST = 0.1
_KILL_PAUSES = (5.0, 20.0, 80.0, 120.0)  # the last one for ever
REPORTED_AFTER = 5
"""Failed kills after which a task is reported as one that does not end."""


class EngineTask:
    """A task of the engine, in the care of one owner.

    Parameters
    ----------
    spec
        The task, with everything decided.
    driver
        The engine.
    kill_grace_seconds
        Between SIGTERM and SIGKILL.
    terminated_uptime
        When SIGTERM was sent already, in a former life of the backend; by `uptime`.
    terminated
        Called when SIGTERM has been sent.
    stuck
        Called once with the number of kills that have not ended the task.
    """

    def __init__(
        self,
        spec: TaskSpec,
        driver: Driver,
        kill_grace_seconds: float,
        terminated_uptime: float | None = None,
        terminated: Callable[[], None] = lambda: None,
        stuck: Callable[[int], None] = lambda kills: None,
    ) -> None:
        self.spec = spec
        self._driver = driver
        self._grace = kill_grace_seconds
        self._terminated_uptime = terminated_uptime
        self._terminated = terminated
        self._stuck = stuck
        self._kill_asked = asyncio.Event()
        self._exit: asyncio.Future[TaskExit] = asyncio.get_running_loop().create_future()

    @property
    def over(self) -> bool:
        """Whether the engine has said that the task ended."""
        return self._exit.done()

    def kill(self) -> None:
        """Ask for the end; asking twice is once."""
        self._kill_asked.set()

    def exited(self, task_exit: TaskExit) -> None:
        """Take the engine's word that the task has ended."""
        if not self._exit.done():
            self._exit.set_result(task_exit)

    async def start(self) -> bool:
        """Start the task, for as long as it takes; return False if its end was asked for before that.

        Raises
        ------
        StartRefused
            The engine will not run it.
        """
        pause = _START_PAUSE_FIRST
        while not self._kill_asked.is_set() or await self._may_be_there():
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
        return False

    async def end(self) -> TaskExit:
        """Return how the task ended, having ended it if that was asked for."""
        await self._until_exit_or_kill()
        attempt = 0
        while not self._exit.done():
            await self._kill(attempt)
            attempt += 1
        return self._exit.result()

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
        grace = self._grace
        if self._terminated_uptime is not None:
            # Sent already: once, since a second one means something else to many programs.
            grace = 0.0 if attempt else max(0.0, grace - age(self._terminated_uptime))
        elif await self._signal(signal.SIGTERM) and not self._exit.done():
            self._terminated_uptime = uptime()
            self._terminated()
        if await self._exit_within(grace):
            return
        await self._signal(signal.SIGKILL)
        pause = _KILL_PAUSES[min(attempt, len(_KILL_PAUSES) - 1)]
        if not await self._exit_within(pause) and attempt + 1 >= REPORTED_AFTER:
            log.error("%s has not ended after %d kills; still trying", self.spec.task_id, attempt + 1)
            if attempt + 1 == REPORTED_AFTER:
                self._stuck(attempt + 1)

    async def _signal(self, signum: signal.Signals) -> bool:
        """Send a signal, again if the engine does not confirm it; return whether it has."""
        clock = asyncio.get_running_loop().time
        pause, ends_at = _SIGNAL_PAUSE_FIRST, clock() + self._grace
        while not self._exit.done():
            try:
                await self._driver.signal(self.spec.task_id, signum)
                return True
            except DriverError as error:
                log.warning("cannot send %s to %s: %s", signum.name, self.spec.task_id, error)
            if clock() + pause > ends_at:
                return False
            await self._exit_within(pause)
            pause *= 2
        return True

    async def _exit_within(self, seconds: float) -> bool:
        await asyncio.wait({self._exit}, timeout=seconds)
        return self._exit.done()

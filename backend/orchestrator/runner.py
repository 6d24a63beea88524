"""The life of one task, as one readable loop: what it needs, start, running, being killed, end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from ..drivers import StartRefused, TaskExit
from .ends import TaskEnd
from .engine_task import EngineTask
from .fetching import FetchFailed, Fetching

KILL_GRACE_SECONDS = 3.0
"""Seconds between SIGTERM and SIGKILL where the app says nothing (Mesos' command executor)."""


@dataclass(frozen=True)
class Told:
    """Whom a runner tells of a task's life.

    Parameters
    ----------
    ended
        Called once, at the end.
    started
        Called once before that; not at all for a task that never ran.
    overdue
        Called when the start is not confirmed in time; to ask for the end is the answer.
    """

    ended: Callable[[TaskEnd], None]
    started: Callable[[], None] = field(default=lambda: None)
    overdue: Callable[[], None] = field(default=lambda: None)


class TaskRunner:
    """Brings one task to life, or finds it alive, and stays with it to its end.

    Parameters
    ----------
    task
        The task on the engine.
    told
        Who is told.
    fetching
        Brings the task's files before its start, if there are any.
    launch_seconds
        How long the start may go unconfirmed, once the files are there.
    """

    def __init__(
        self,
        task: EngineTask,
        told: Told,
        fetching: Fetching | None = None,
        launch_seconds: float | None = None,
    ) -> None:
        self.spec = task.spec
        self._task = task
        self._told = told
        self._fetching = fetching
        self._launch_seconds = launch_seconds
        self._killed = False

    def kill(self) -> None:
        """Ask for the end; asking twice is once."""
        self._killed = True
        if self._fetching is not None:
            self._fetching.kill()
        self._task.kill()

    def exited(self, task_exit: TaskExit) -> None:
        """Take the engine's word that the task, or what fetches for it, has ended."""
        if task_exit.task_id == self.spec.task_id:
            self._task.exited(task_exit)
        elif self._fetching is not None:
            self._fetching.exited(task_exit)

    async def run(self, found_running: bool = False) -> None:
        """Live the life; a task `found_running` on the engine is not started."""
        try:
            begun = found_running or (await self._fetch() and await self._start())
        except StartRefused as refusal:
            self._told.ended(TaskEnd(TaskExit(self.spec.task_id, None, None), refusal=str(refusal)))
            return
        except FetchFailed as failure:
            self._told.ended(TaskEnd(TaskExit(self.spec.task_id, None, None), failure=str(failure)))
            return
        if not begun:
            self._told.ended(TaskEnd(TaskExit(self.spec.task_id, None, signal.SIGTERM)))
            return
        if not found_running and not self._task.over:
            self._told.started()
        self._told.ended(TaskEnd(await self._task.end()))

    async def _fetch(self) -> bool:
        """Bring what the task needs; return False if the end was asked for."""
        if self._killed:
            return False
        return self._fetching is None or await self._fetching.run()

    async def _start(self) -> bool:
        """Start the task; return False if the end was asked for before it was there."""
        if self._launch_seconds is None:
            return await self._task.start()
        timer = asyncio.get_running_loop().call_later(self._launch_seconds, self._told.overdue)
        try:
            return await self._task.start()
        finally:
            timer.cancel()

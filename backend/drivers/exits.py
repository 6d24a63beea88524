"""The ends of tasks, until they are forgotten: told to whoever follows them, those of before first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from .base import TaskExit


class Exits:
    """What is known of how tasks ended."""

    def __init__(self) -> None:
        self._ended: dict[str, TaskExit] = {}
        # One queue for each who follows; None is the end.
        self._readers: set[asyncio.Queue[TaskExit | None]] = set()

    def __contains__(self, task_id: str) -> bool:
        """Whether the end of a task is known."""
        return task_id in self._ended

    def note(self, exit_: TaskExit) -> None:
        """Take note of an end; one that is known already stays as it is."""
        if exit_.task_id not in self._ended:
            self._ended[exit_.task_id] = exit_
            for reader in self._readers:
                reader.put_nowait(exit_)

    def forget(self, task_id: str) -> None:
        """Let go of an end; nobody hears of it any more."""
        self._ended.pop(task_id, None)

    def close(self) -> None:
        """Let all who follow come to an end."""
        for reader in self._readers:
            reader.put_nowait(None)

    async def follow(self) -> AsyncIterator[TaskExit]:
        """Yield every end that has not been forgotten, those before this call first."""
        reader: asyncio.Queue[TaskExit | None] = asyncio.Queue()
        for exit_ in self._ended.values():
            reader.put_nowait(exit_)
        self._readers.add(reader)
        try:
            while (exit_or_end := await reader.get()) is not None:
                if exit_or_end.task_id in self._ended:
                    yield exit_or_end
        finally:
            self._readers.discard(reader)

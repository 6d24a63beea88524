"""What is left of ended tasks goes, at a cost that grows with their number and not with its square."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Coroutine
from typing import Any, cast

from hubfleet.api.status import EndedTask
from hubfleet.api.wire import now
from hubfleet.backend import archive
from hubfleet.backend.archive import Archive
from hubfleet.backend.drivers import Driver, DriverError
from hubfleet.backend.orchestrator.limits import TaskLimits
from hubfleet.backend.orchestrator.remains import Remains

TASKS, KEPT = 300, 10


class Sandboxes:
    """A double of a driver, of which only the removal of output is asked; it counts."""

    def __init__(self) -> None:
        self.discarded: Counter[str] = Counter()
        self.stuck = "t5"

    async def forget(self, task_id: str) -> None:
        await asyncio.sleep(0)

    async def discard(self, task_id: str) -> None:
        self.discarded[task_id] += 1
        await asyncio.sleep(0)
        if task_id == self.stuck:
            raise DriverError("it cannot be removed")


async def test_many_ends_at_once_are_each_cleaned_up_once() -> None:
    database = sqlite3.connect(":memory:")
    database.executescript(archive.SCHEMA)
    remembered, sandboxes = Archive(database), Sandboxes()
    running: list[asyncio.Task[None]] = []

    def spawn(coroutine: Coroutine[Any, Any, None]) -> None:
        running.append(asyncio.create_task(coroutine))

    remains = Remains(cast(Driver, sandboxes), remembered, TaskLimits(kept_tasks=KEPT), spawn)
    for number in range(TASKS):
        remembered.end(EndedTask(id=f"t{number}", app_id="/a", timestamp=now(), state="KILLED", message=""))
        remains.left(f"t{number}")
        if number % 50 == 0:
            await asyncio.sleep(0)
    await asyncio.gather(*running)
    assert set(sandboxes.discarded) == {f"t{number}" for number in range(TASKS - KEPT)}
    assert max(sandboxes.discarded.values()) <= 2, "what is removed is removed once"
    kept = {task.id for task in remembered.ended_of("/a")}
    assert kept == {"t5", *(f"t{number}" for number in range(TASKS - KEPT, TASKS))}

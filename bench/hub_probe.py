"""What is in the hub that is measured: a probe of its event loop, and a spawner that does nothing."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyterhub.metrics import EVENT_LOOP_INTERVAL_SECONDS
from jupyterhub.spawner import Spawner
from tornado.web import RequestHandler

PAUSE_SECONDS = 0.005


class LoopProbe:
    """Wakes up every 5 ms and notes how much later it was than it should be.

    Two clocks: by the wall, which other processes of a busy machine move too, and by the processor time that
    this process used meanwhile, which is the hub's own work alone.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.restart()

    def restart(self) -> None:
        """Forget what was noted."""
        self.late: list[float] = []
        self.busy: list[float] = []
        self.used = time.process_time()
        self.buckets = _buckets()

    async def run(self) -> None:
        """Note for ever."""
        while True:
            # The processor time of this thread: those of the client do not hold the loop up.
            begun, used = time.perf_counter(), time.thread_time()
            await asyncio.sleep(PAUSE_SECONDS)
            self.late.append(max(0.0, time.perf_counter() - begun - PAUSE_SECONDS))
            self.busy.append(time.thread_time() - used)

    def found(self) -> dict[str, Any]:
        """Return what was noted, and what the hub's own metric counted since."""
        return {
            "late": self.late,
            "busy": self.busy,
            "cpu": time.process_time() - self.used,
            "rss": int(Path("/proc/self/statm").read_text().split()[1]) * 4096,
            "metric": {
                bound: count - self.buckets.get(bound, 0.0) for bound, count in _buckets().items() if bound
            },
        }


def _buckets() -> dict[str, float]:
    """Return how many intervals of the event loop are counted up to each bound, by JupyterHub's metric."""
    return {
        sample.labels["le"]: sample.value
        for metric in EVENT_LOOP_INTERVAL_SECONDS.collect()
        for sample in metric.samples
        if sample.name.endswith("_bucket")
    }


_probe = LoopProbe()


class ProbeHandler(RequestHandler):
    """Tells what was noted since it was last asked."""

    def get(self) -> None:
        """Answer, and note anew."""
        if _probe.task is None:
            _probe.task = asyncio.create_task(_probe.run())
        found = _probe.found()
        # What one measurement leaves is not the next one's work; collected after the answer, it would be.
        gc.collect()
        _probe.restart()
        self.finish(found)


class ServersHandler(RequestHandler):
    """Tells how many servers are ready, without what a list of them costs."""

    def get(self) -> None:
        """Count."""
        self.finish({"ready": sum(spawner.ready for spawner in _spawners(self.settings))})


class PollsHandler(RequestHandler):
    """Polls all servers that are ready, one after the other, and tells what one poll took."""

    ROUNDS = 5

    async def get(self) -> None:
        """Poll."""
        spawners = [spawner for spawner in _spawners(self.settings) if spawner.ready]
        wall, cpu = [], []
        for _ in range(self.ROUNDS):
            begun, used = time.perf_counter(), time.thread_time()
            for spawner in spawners:
                await spawner.poll()
            wall.append((time.perf_counter() - begun) / len(spawners))
            cpu.append((time.thread_time() - used) / len(spawners))
        self.finish({"wall": wall, "cpu": cpu})


def _spawners(settings: dict[str, Any]) -> list[Spawner]:
    """Return all spawners that the hub has in its memory."""
    return [spawner for user in settings["users"].values() for spawner in user.spawners.values()]


class DoNothingSpawner(Spawner):  # type: ignore[misc]
    """Says that a server runs at an address of its own: the least that a hub can be asked to do.

    With one address for all, JupyterHub would look at each over a connection that it has already.
    """

    host = ""
    ports: Iterator[int] = iter(())

    async def start(self) -> str:
        """Start nothing."""
        return f"http://{self.host}:{next(self.ports)}"

    async def poll(self) -> int | None:
        """It runs, from its start to its end."""
        return None if self.server is not None else 0

    async def stop(self, now: bool = False) -> None:
        """Stop nothing."""

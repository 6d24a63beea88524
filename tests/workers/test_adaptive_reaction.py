"""Adaptive scaling answers a submission at once, and takes away nobody who has something to do."""

from __future__ import annotations

import asyncio

import pytest
from distributed import Client

from hubfleet.workers import MarathonCluster

from .conftest import Runs, until
from .test_cluster import has_workers


async def test_work_is_answered_at_once_and_not_at_the_next_interval(
    cluster: MarathonCluster, runs: Runs
) -> None:
    cluster.adapt(minimum=0, maximum=2, interval="1 hour", target_duration="50ms")
    async with Client(cluster, asynchronous=True) as client:
        results = client.map(runs.counting(pause=0.1), range(8))
        await has_workers(cluster, 2)
        assert await client.gather(results) == [number * number for number in range(8)]
    assert runs.total() == 8


async def test_nothing_is_left_with_the_scheduler_when_adaptive_scaling_ends(
    cluster: MarathonCluster,
) -> None:
    assert cluster.scheduler is not None
    before = set(cluster.scheduler.plugins)
    first = cluster.adapt(interval="1 hour")
    await until(lambda: first.state == "running")
    second = cluster.adapt(interval="1 hour")
    await until(lambda: second.state == "running")
    assert len(set(cluster.scheduler.plugins) - before) == 1
    second.stop()
    assert set(cluster.scheduler.plugins) == before


class Clock:
    """A time in which pauses are as long as they were meant to be, and work takes none.

    On a busy machine one worker may wait for a core while the other has nothing to do: a pause too, and
    nobody knows of what length.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._pause = (0.0, 0.0)  # when it began, and how long it is

    def __call__(self) -> float:
        began, length = self._pause
        return self._now + min(asyncio.get_running_loop().time() - began, length)

    async def pause(self, seconds: float) -> None:
        """Let so much time pass."""
        self._pause = asyncio.get_running_loop().time(), seconds
        await asyncio.sleep(seconds)
        self._now += seconds
        self._pause = (0.0, 0.0)


async def test_a_load_with_short_pauses_keeps_its_workers(
    cluster: MarathonCluster, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("hubfleet.workers.adaptive._now", clock)
    adaptive = cluster.adapt(minimum=0, maximum=2, interval="50ms", wait_count=2, target_duration="50ms")
    async with Client(cluster, asynchronous=True) as client:
        for start in range(0, 40, 4):
            results = client.map(runs.counting(pause=0.05), range(start, start + 4))
            await client.gather(results)
            del results
            await clock.pause(0.3)
        # The first pauses were taken for an end; after these it knew better.
        left = [change["workers"] for _, change in adaptive.log if change["status"] == "down"]
        assert len({worker for workers in left for worker in workers}) <= 5, left
    assert runs.total() == 40

"""Adaptive scaling answers a submission at once, and takes away nobody who has something to do."""

from __future__ import annotations

import asyncio

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


async def test_a_load_with_short_pauses_keeps_its_workers(cluster: MarathonCluster, runs: Runs) -> None:
    adaptive = cluster.adapt(minimum=0, maximum=2, interval="50ms", wait_count=2, target_duration="50ms")
    async with Client(cluster, asynchronous=True) as client:
        for start in range(0, 40, 4):
            results = client.map(runs.counting(pause=0.05), range(start, start + 4))
            await client.gather(results)
            del results
            await asyncio.sleep(0.3)
        # The first pauses were taken for an end; after these it knew better.
        assert sum(1 for _, change in adaptive.log if change["status"] == "down") <= 5
    assert runs.total() == 40

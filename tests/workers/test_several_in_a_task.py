"""Several workers in one task of the backend (dask-jobqueue's ``processes``): all numbers count workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from distributed import Client

from hubfleet.workers import MarathonCluster

from .conftest import Runs, until


@pytest.fixture
async def pairs(arguments: dict[str, Any]) -> AsyncIterator[MarathonCluster]:
    async with MarathonCluster(nworkers=2, nanny=True, mem=1024, **arguments) as cluster:
        yield cluster


async def test_scale_and_what_is_shown_count_workers_and_whole_tasks_come_and_go(
    pairs: MarathonCluster, runs: Runs
) -> None:
    await pairs.scale(3)  # as many tasks as hold them
    assert pairs.marathon_workers.count.instances == 2
    await pairs.wait_for_workers(4, timeout=100)
    await until(lambda: pairs.plan == pairs.observed and len(pairs.plan) == 4, 60)
    state = pairs.group_states()["default"]
    assert (state.count, state.hint) == ("4", "")
    await until(lambda: "workers=4 of 4" in repr(pairs))
    async with Client(pairs, asynchronous=True) as client:
        await client.submit(print, "a word")
        logs = await pairs.get_logs()
        assert set(pairs.marathon_workers.count.states) <= set(logs)
        assert any("a word" in logs[task] for task in pairs.marathon_workers.count.states)
        results = client.map(runs.counting(), range(12))
        assert await client.gather(results) == [number * number for number in range(12)]
        await pairs.scale(2)
        await until(lambda: len(pairs.observed) == len(pairs.plan) == 2, 60)
        assert await client.gather(results) == [number * number for number in range(12)]
    assert runs.total() == 12


async def test_adaptive_scaling_counts_workers_too(pairs: MarathonCluster, runs: Runs) -> None:
    adaptive = pairs.adapt(minimum=0, maximum=5, interval="100ms", target_duration="200ms")
    async with Client(pairs, asynchronous=True) as client:
        results = client.map(runs.counting(held=True), range(30))
        await until(lambda: len(pairs.observed) == 4, 100, "what whole tasks have within the bound")
        runs.let_go()
        assert pairs.group_states()["default"].bounds == (0, 5)
        assert await client.gather(results) == [number * number for number in range(30)]
        del results
        await until(lambda: not pairs.plan and not pairs.observed, 60, "they leave")
    assert {entry["n"] for _, entry in adaptive.log if entry["status"] == "up"} <= {2, 4}
    assert runs.total() == 30
    with pytest.raises(ValueError, match="at least the 2 workers that come and go together"):
        pairs.adapt(maximum=1)

"""distributed's own tests of clusters and of adaptive scaling, with a `MarathonCluster` in place of its own.

They are of distributed 2026.7, ``deploy/tests/test_cluster.py`` and ``test_adaptive.py``, named as
there; waits have deadlines that a busy machine bears. (``deploy/utils_test.py`` with its
``ClusterTest`` is gone.) What does not apply: ``test_adaptive_config`` and ``test_target_duration``
make distributed's own ``Adaptive`` or count threads of the machine, ``test_worker_keys`` invents
names of workers, ``test_adaptive_no_memory_limit`` has workers without limits, which a backend that
reserves memory does not give; ``test_repr`` has its own words here, and ``test_adapt_cores_memory``
is in ``test_amounts.py``.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from distributed import Client, wait

from hubfleet.workers import MarathonCluster

from .conftest import Runs, until

pytestmark = pytest.mark.long


def slowly(delay: float) -> Any:
    """distributed's `slowinc`, which a worker can have without our tests."""

    def slowinc(number: int) -> int:
        time.sleep(delay)
        return number + 1

    return slowinc


async def test_eq(arguments: dict[str, Any]) -> None:
    async with MarathonCluster("a", **arguments) as a, MarathonCluster("b", **arguments) as b:
        assert a == a
        assert a != b
        assert a != "a"


async def test_sync_context_manager_used_with_async_cluster(cluster: MarathonCluster) -> None:
    with pytest.raises(TypeError, match=r"Used 'with' with asynchronous class"), cluster:
        pass


async def test_cluster_wait_for_worker(cluster: MarathonCluster) -> None:
    await cluster.scale(3)
    await cluster.wait_for_workers(3, timeout=60)
    assert all(worker["status"] == "running" for worker in cluster.scheduler_info["workers"].values())


def test_basic_no_loop(arguments: dict[str, Any]) -> None:
    with MarathonCluster(**{**arguments, "asynchronous": False}) as cluster:
        with Client(cluster) as client:
            cluster.adapt()
            assert client.submit(lambda x: x + 1, 1).result(timeout=60) == 2
        loop = cluster.loop
    assert loop is None or not loop.asyncio_loop.is_running()


async def test_min_max(cluster: MarathonCluster, runs: Runs) -> None:
    adapt = cluster.adapt(minimum=1, maximum=2, interval="50ms", wait_count=10)
    async with cluster.get_client() as client:
        await until(lambda: len(cluster.scheduler.workers) == 1, 60)
        futures = client.map(runs.counting(held=True), range(100))
        await until(lambda: len(cluster.scheduler.workers) == 2, 60)
        await asyncio.sleep(0.5)
        assert len(cluster.scheduler.workers) == len(cluster.workers) == 2
        assert all(entry["status"] == "up" for _, entry in adapt.log)
        del futures
        runs.let_go()
        await until(lambda: len(cluster.scheduler.workers) == 1, 60)
        assert adapt.log[-1][1]["status"] == "down"


async def test_adapt_down(cluster: MarathonCluster) -> None:
    cluster.adapt(interval="50ms", maximum=3)
    async with cluster.get_client() as client:
        futures = client.map(slowly(0.1), range(1000))
        await until(lambda: len(cluster.scheduler.workers) == 3, 60)
        cluster.adapt(interval="50ms", maximum=2)
        await until(lambda: len(cluster.scheduler.workers) == 2, 60)
        del futures


async def test_no_more_workers_than_tasks(cluster: MarathonCluster) -> None:
    cluster.adapt(minimum=0, maximum=4, interval="50ms")
    async with cluster.get_client() as client:
        await client.submit(slowly(0.1), 1)
        assert len(cluster.scheduler.workers) <= 1


async def test_avoid_churn(cluster: MarathonCluster) -> None:
    # More patience than distributed's test has: on a busy machine there may be seconds between two tasks.
    adapt = cluster.adapt(interval="50ms", wait_count=1000)
    async with cluster.get_client() as client:
        for number in range(10):
            await client.submit(slowly(0.04), number)
            await asyncio.sleep(0.04)
    assert len([entry for _, entry in adapt.log if entry["status"] == "up"]) == 1
    assert not [entry for _, entry in adapt.log if entry["status"] == "down"]


async def test_update_adaptive(cluster: MarathonCluster) -> None:
    first = cluster.adapt(maximum=1)
    second = cluster.adapt(maximum=2)
    await until(lambda: second.state == "running")
    assert first.state == "stopped"
    assert first.periodic_callback is None
    assert second.periodic_callback.is_running()


async def test_arrays_and_tables_as_people_have_them(cluster: MarathonCluster) -> None:
    """Not distributed's: what xarray and dask.dataframe make of a cluster, while it is scaled."""
    import dask.array as array
    import dask.dataframe as dataframe
    import pandas

    cluster.adapt(minimum=1, maximum=3, interval="100ms")
    async with cluster.get_client() as client:
        field = array.arange(1_000_000, chunks=50_000).reshape((1000, 1000))
        anomaly = client.compute((field - field.mean(axis=0)).std(axis=0).sum())
        table = dataframe.from_pandas(
            pandas.DataFrame({"place": list("abcd") * 250, "value": range(1000)}), npartitions=8
        )
        means = client.compute(table.groupby("place").value.mean())
        await wait([anomaly, means])
        assert float(await anomaly) == pytest.approx(1000 * 1000 * (999_999 / 12) ** 0.5)
        assert dict(await means) == {"a": 498.0, "b": 499.0, "c": 500.0, "d": 501.0}

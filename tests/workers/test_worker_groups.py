"""Several kinds of workers in one cluster, each scaled by itself."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hubfleet.workers import MarathonCluster

from .conftest import GROUP, until


def of_group(cluster: MarathonCluster, label: str) -> set[str]:
    return cluster.groups[label].observed


async def test_groups_are_apps_of_their_own_scaled_by_themselves_and_removed_together(
    cluster: MarathonCluster, backend: Any
) -> None:
    await cluster.add_worker_group("big", 1, nthreads=2, resources={"ROOM": 1})
    await cluster.scale(1)
    await until(lambda: len(of_group(cluster, "big")) == len(of_group(cluster, "default")) == 1, 60)
    await until(lambda: len(cluster.scheduler_info["workers"]) == len(cluster.workers) == 2, 60)
    async with cluster.get_client() as client:
        where = await client.submit(os.getenv, "MARATHON_APP_ID", resources={"ROOM": 1})
        assert where == f"{GROUP}/{cluster.name}/groups/big"
    await cluster.scale(2, group="big")
    await until(lambda: len(of_group(cluster, "big")) == 2, 60)
    await cluster.scale(0, group="big")
    await until(lambda: not of_group(cluster, "big"), 60)
    assert len(of_group(cluster, "default")) == 1
    await cluster.close()
    assert await backend.client.list_apps() == []


async def test_a_group_adapts_to_the_tasks_that_are_for_it(cluster: MarathonCluster) -> None:
    await cluster.add_worker_group("gpu", resources={"GPU": 1})
    cluster.adapt(minimum=0, maximum=2, interval="50ms", wait_count=2)
    adaptive = cluster.adapt(group="gpu", minimum=0, maximum=2, interval="50ms", wait_count=2)
    assert (adaptive.minimum, adaptive.maximum) == (0, 2)
    async with cluster.get_client() as client:
        assert await client.submit(lambda: 1, resources={"GPU": 1}) == 1
        assert not of_group(cluster, "default")
        await until(lambda: not (cluster.groups["gpu"].workers or of_group(cluster, "gpu")), what="it goes")
        assert await client.submit(lambda: 2) == 2
        assert not of_group(cluster, "gpu")
    assert "gpu" in cluster._repr_html_()


@pytest.mark.parametrize(
    ("given", "options", "kind", "sentence"),
    [
        (("default",), {}, ValueError, "there is a group 'default' already"),
        (("",), {}, ValueError, "the name of a group must not be empty"),
        (("x", -1), {}, ValueError, "n must be a whole number from 0"),
        (("x",), {"memory": 1}, TypeError, "add_worker_group has no option 'memory'"),
        (("x",), {"mem": 1}, ValueError, "mem must be"),
    ],
)
async def test_bad_groups_are_refused_and_leave_nothing(
    cluster: MarathonCluster, given: Any, options: dict[str, Any], kind: Any, sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        await cluster.add_worker_group(*given, **options)
    assert list(cluster.groups) == ["default"]
    with pytest.raises(ValueError, match="there is no group 'x'; there are 'default'"):
        await cluster.scale(1, group="x")

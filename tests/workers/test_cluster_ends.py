"""How a cluster ends: when it is closed, once or twice, and when nobody has anything for it to do."""

from __future__ import annotations

from typing import Any

from hubfleet.workers import MarathonCluster

from .conftest import until


async def test_an_idle_cluster_ends_and_takes_its_workers_along(
    arguments: dict[str, Any], backend: Any
) -> None:
    async with MarathonCluster(n_workers=1, idle_timeout="1.5s", **arguments) as cluster:
        async with cluster.get_client() as client:
            assert await client.submit(sum, [1, 2]) == 3
            await until(lambda: cluster.status.name == "closed", 60, "it ends")
        assert await backend.client.list_apps() == []
        assert any("nothing to do for 1.5 s" in line for _, line in cluster._cluster_manager_logs)
        await cluster.close()


async def test_closing_twice_and_at_once_is_closing(arguments: dict[str, Any], backend: Any) -> None:
    cluster = await MarathonCluster(n_workers=1, **arguments)
    first, second = cluster._close(), cluster._close()
    await first
    await second
    await cluster.close()
    assert cluster.status.name == "closed"
    assert await backend.client.list_apps() == []


def test_a_cluster_of_a_script_closes_twice(backend: Any, arguments: dict[str, Any]) -> None:
    with MarathonCluster(**{**arguments, "asynchronous": False}) as cluster:
        assert cluster.scale(1) is None
        cluster.close()
        cluster.close()
    assert cluster.status.name == "closed"

"""Tools of the field that know clusters by their class: JupyterLab's panel, and dask-ctl's discovery."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import dask.config
import pytest
from dask_labextension.manager import DaskClusterManager

from hubfleet.workers import MarathonCluster
from hubfleet.workers.discovery import discover

from .conftest import GROUP, until


async def test_the_panel_of_jupyterlab_makes_lists_scales_adapts_and_stops_clusters(
    arguments: dict[str, Any], backend: Any
) -> None:
    kwargs = {name: value for name, value in arguments.items() if name != "asynchronous"}
    factory = {"module": "hubfleet.workers", "class": "MarathonCluster", "args": [], "kwargs": kwargs}
    with dask.config.set({"labextension.factory": factory, "labextension.default.workers": 1}):
        async with DaskClusterManager() as manager:
            made = await manager.start_cluster()
            name = made["id"]
            await until(lambda: manager.get_cluster(name)["workers"] == 1, 60, "the default number is there")
            assert [model["id"] for model in manager.list_clusters()] == [name]
            assert manager.get_cluster(name)["dashboard_link"]
            adapted = manager.adapt_cluster(name, 0, 2)
            assert adapted["adapt"] == {"minimum": 0, "maximum": 2}
            await until(lambda: manager.get_cluster(name)["workers"] == 0, 60, "idle ones go")
            assert "adapt" not in await manager.scale_cluster(name, 1)
            await until(lambda: manager.get_cluster(name)["workers"] == 1, 60, "it is scaled by hand")
            assert await manager.close_cluster(name)
            assert manager.list_clusters() == []
    assert await backend.client.list_apps() == []


async def test_clusters_are_discovered_as_dask_ctl_does_it(
    cluster: MarathonCluster, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the entry point's function: dask-ctl 2024.1.0 itself cannot be imported beside distributed 2026."""
    assert [found async for found in discover()] == []  # nothing is configured
    monkeypatch.setenv("HUBFLEET_URL", backend.url)
    monkeypatch.setenv("HUBFLEET_DASK_GROUP", GROUP)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", backend.admin_token)
    (point,) = entry_points(group="dask_cluster_discovery", name="hubfleet")
    found = [each async for each in point.load()()]
    assert found == [(cluster.name, MarathonCluster)]
    async with await found[0][1].from_name(cluster.name, asynchronous=True) as again:
        assert again.scheduler_address == cluster.scheduler_address

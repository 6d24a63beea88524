"""Tells dask-ctl which clusters there are: the entry point ``dask_cluster_discovery``."""

from __future__ import annotations

from collections.abc import AsyncIterator

from .cluster import MarathonCluster
from .far import running_clusters
from .settings import ClusterSettings


async def discover() -> AsyncIterator[tuple[str, type[MarathonCluster]]]:
    """Yield the name of every running cluster of this user, with the class that finds it by name."""
    try:
        settings = ClusterSettings.of({"security": False})
    except ValueError:
        return  # no server of a hub, and nothing configured: there are none
    try:
        for name in await running_clusters(settings.marathon, settings.group):
            yield name, MarathonCluster
    finally:
        settings.marathon.close()

"""Dask workers as instances of an app on a Marathon API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import MarathonCluster
    from .workers import MarathonWorkers

__all__ = ["MarathonCluster", "MarathonWorkers"]


def __getattr__(name: str) -> Any:
    # Every worker imports `hubfleet.workers.drain` when it starts; it must not pay for the
    # scheduler, the models and the HTTP client that only the cluster's own process needs.
    if name == "MarathonCluster":
        from .cluster import MarathonCluster

        return MarathonCluster
    if name == "MarathonWorkers":
        from .workers import MarathonWorkers

        return MarathonWorkers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

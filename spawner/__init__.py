"""The JupyterHub spawner that runs each server as an app on a Marathon API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .spawner import MarathonSpawner

__all__ = ["MarathonSpawner"]


def __getattr__(name: str) -> Any:
    """Import the spawner when it is asked for: the proxy, which is here too, starts without all of that."""
    if name == "MarathonSpawner":
        from .spawner import MarathonSpawner

        return MarathonSpawner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

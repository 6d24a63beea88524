"""What those who scale a cluster need of it; the cluster itself knows them, and not they it."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from .crashes import Crashes
from .trouble import Trouble
from .workers import MarathonWorkers


class ElasticCluster(Protocol):
    """A cluster as its adaptive scaling and its follower see it."""

    marathon_workers: MarathonWorkers
    trouble: Trouble
    crashes: Crashes
    scaling: asyncio.Lock
    wish: int | None

    @property
    def scheduler(self) -> Any:
        """The scheduler if it is in this process, or else something that is none."""

    @property
    def name(self) -> Any:
        """The cluster's name."""

    @property
    def workers(self) -> dict[str, str]:
        """All workers that are wanted, with their states."""

    @property
    def plan(self) -> Any:
        """The names of the workers that are wanted."""

    @property
    def observed(self) -> Any:
        """The names of the workers that the scheduler knows."""

    async def fulfil(self, n: int) -> None:
        """Have `n` workers, now or when the backend answers again."""

    async def look_why(self) -> None:
        """Find out what the instances wait for that have no task."""

"""A group of workers of one kind: one app, which is scaled by itself and adapts by itself."""

from __future__ import annotations

import asyncio
import math
from typing import Any, Protocol

from distributed.core import Status

from hubfleet.api.errors import BackendUnreachable, RequestRefused

from .adaptive import WorkersAdaptive, checked_options
from .amounts import with_bounds_in_workers
from .checks import MOST_WORKERS
from .counting import tasks_for
from .crashes import Crashes
from .following import follow
from .load import wanted_workers
from .states import GroupState
from .trouble import Trouble
from .workers import MarathonWorkers

DEFAULT = "default"
"""The group that every cluster has."""


class House(Protocol):
    """What a group needs of the cluster that it is a part of."""

    name: Any
    status: Status
    scheduler_comm: Any
    scheduler: Any
    scheduler_info: Any
    groups: dict[str, WorkerGroup]

    @property
    def loop(self) -> Any:
        """The event loop that everything runs on."""

    def warn(self, sentence: str) -> None:
        """Tell the user."""


class WorkerGroup:
    """The workers of one kind in a cluster, as adaptive scaling and the follower see them.

    Parameters
    ----------
    label
        The name of the group in its cluster.
    house
        The cluster.
    marathon_workers
        The app.
    """

    def __init__(self, label: str, house: House, marathon_workers: MarathonWorkers) -> None:
        self.label = label
        self.house = house
        self.marathon_workers = marathon_workers
        self.trouble = Trouble(self.tell)
        self.crashes = Crashes()
        self.scaling = asyncio.Lock()
        self.wish: int | None = None
        self.adaptive: GroupAdaptive | None = None
        self._follower: asyncio.Task[None] | None = None
        # As Marathon makes the id of a task of that of its app (marathon-v2 5.2).
        self._task_prefix = marathon_workers.app_id.strip("/").replace("/", "_") + "."

    @property
    def name(self) -> str:
        """How messages call it."""
        return str(self.house.name) if self.label == DEFAULT else f"{self.house.name}, group {self.label}"

    def tell(self, sentence: str) -> None:
        """Tell the user something about these workers."""
        self.house.warn(sentence if self.label == DEFAULT else f"group {self.label}: {sentence}")

    # -- as distributed's Adaptive sees a cluster ---------------------------------------

    @property
    def status(self) -> Status:
        """The cluster's status."""
        return self.house.status

    @property
    def loop(self) -> Any:
        """The cluster's event loop."""
        return self.house.loop

    @property
    def scheduler(self) -> Any:
        """The cluster's scheduler."""
        return self.house.scheduler

    @property
    def scheduler_comm(self) -> Any:
        """The ``distributed.rpc`` of the scheduler."""
        return self.house.scheduler_comm

    @property
    def nworkers(self) -> int:
        """How many workers are in one task."""
        return self.marathon_workers.options.nworkers

    @property
    def workers(self) -> dict[str, str]:
        """The workers that are wanted: name, or a placeholder, to Marathon's word for its task's state."""
        return self.marathon_workers.count.workers(self.nworkers)

    @property
    def plan(self) -> set[str]:
        """The names of the workers that are wanted."""
        return set(self.workers)

    requested = plan

    @property
    def observed(self) -> set[str]:
        """The names of the group's workers that the scheduler knows."""
        # Of the scheduler itself, which is in this process: it tells changes to the last that asked.
        scheduler = self.house.scheduler
        names = set() if scheduler is None else {str(worker.name) for worker in scheduler.workers.values()}
        return {name for name in names if name.startswith(self._task_prefix)}

    # -- life ---------------------------------------------------------------------------

    async def start(self, n: int) -> None:
        """Make the app, with `n` workers, and look after it from now on."""
        await self.marathon_workers.begin(n)
        self._follower = asyncio.create_task(follow(self), name=f"follow-{self.name}")

    async def stop(self) -> None:
        """Let the workers be: nobody looks after them, and nothing adapts."""
        if self.adaptive is not None:
            self.adaptive.stop(reason="cluster-closes")
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)

    # -- scaling ------------------------------------------------------------------------

    async def scale(self, n: int) -> None:
        """Have `n` workers; adaptive scaling ends with this."""
        if self.adaptive is not None:
            self.adaptive.stop(reason="scale")
        await self.fulfil(n)

    async def fulfil(self, n: int) -> None:
        """Have `n` workers, now or when the backend answers again."""
        self.wish = n
        async with self.scaling:
            if self.wish != n:
                return  # somebody has asked for another number meanwhile
            try:
                stays = await self.marathon_workers.scale(n)
            except BackendUnreachable as error:
                self.trouble.say("away", f"there will be {n} workers when the backend answers again: {error}")
                return
            except RequestRefused:
                self.wish = None
                raise
            self.wish = None
            self.trouble.over("away")
            if stays > tasks_for(n, self.nworkers) * self.nworkers:
                self.tell(
                    f"{stays} workers stay instead of {n}, because results in their memory have no other "
                    "place: release the futures and scale again, or close the cluster to drop them"
                )

    def adapt(self, options: dict[str, Any]) -> GroupAdaptive:
        """Let the number of workers follow the load, by checked options."""
        if self.adaptive is not None:
            self.adaptive.stop(reason="adapt-again")
        self.wish = None
        self.adaptive = GroupAdaptive(self, **options)
        return self.adaptive

    def adaptive_options(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the options of ``adapt`` as distributed's own class takes them, checked."""
        return checked_options(with_bounds_in_workers(self.marathon_workers.options, given))

    @property
    def adapts(self) -> bool:
        """Whether the number of workers follows the load now."""
        return self.adaptive is not None and self.adaptive.state in ("starting", "running")

    def state(self) -> GroupState:
        """Return how the group stands."""
        bounds = None
        if self.adapts and self.adaptive is not None:
            most = self.adaptive.maximum
            bounds = (self.adaptive.minimum, None if most == math.inf else int(most))
        app = self.marathon_workers
        return GroupState(self.workers, len(self.observed), bounds, app.waiting_for, self.nworkers, app.limit)

    async def look_why(self) -> None:
        """Find out what the instances wait for that have no task."""
        await self.marathon_workers.look_why()


class GroupAdaptive(WorkersAdaptive):
    """Adaptive scaling of one group; where it is the only one, the load of all is its own."""

    cluster: WorkerGroup

    @property
    def _is_alone(self) -> bool:
        return len(self.cluster.house.groups) == 1

    async def target(self) -> Any:
        """Return how many workers the load asks for, within no bounds yet."""
        if self._is_alone:
            return await super().target()
        group = self.cluster
        options = group.marathon_workers.options
        found = wanted_workers(
            group.house.scheduler,
            group.observed,
            dict(options.resources),
            options.nthreads,
            float(self.target_duration or 1),
        )
        return min(found, MOST_WORKERS)

    async def workers_to_close(self, target: int) -> list[str]:
        """Return who may leave, those first whose leaving costs least."""
        if self._is_alone:
            return list(await super().workers_to_close(target))
        ranking = await self.scheduler.workers_to_close(target=0, attribute="name")
        own = [str(name) for name in ranking if str(name) in self.cluster.observed]
        return own[: max(0, len(own) - target)]

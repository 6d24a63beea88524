"""A `MarathonCluster` whose scheduler is elsewhere: this process asks, and what is scaled is scaled there."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Self

from distributed.core import Status
from distributed.deploy import Cluster
from distributed.objects import SchedulerInfo
from distributed.protocol import pickle

from hubfleet.api.client import Client

from .amounts import workers_wanted
from .checks import MOST_WORKERS, text, truth, whole_number
from .cluster import MarathonCluster
from .far import FarScheduler
from .groups import DEFAULT
from .options import WorkerOptions
from .states import GroupState

_LOOK_SECONDS = 1.0


class FarAdaptive:
    """What `adapt` returns of a cluster elsewhere; to be awaited where the cluster is asynchronous."""

    def __init__(self, minimum: Any, maximum: Any, begun: Any) -> None:
        self.minimum = minimum
        self.maximum = maximum
        self._begun = begun

    def __await__(self) -> Generator[Any, Any, Self]:
        async def done() -> Self:
            if self._begun is not None:
                await self._begun
            return self

        return done().__await__()


class FarCluster(MarathonCluster):
    """A cluster with its scheduler in an app, or in another process; see `MarathonCluster`.

    Parameters
    ----------
    connect_only
        Whether it is there already.
    """

    def __init__(self, *args: Any, connect_only: bool = False, **kwargs: Any) -> None:
        self._connect_only = truth("connect_only", connect_only)
        self._made = False
        self._far: FarScheduler | None = None
        self._watch: asyncio.Task[None] | None = None
        super().__init__(*args, **kwargs)

    @property
    def far(self) -> FarScheduler:
        """The scheduler."""
        if self._far is None:
            self._far = FarScheduler(self.settings)
            # An attribute, since dask-ctl sets it.
            self.shutdown_on_close = self.settings.shutdown_on_close
        return self._far

    # -- life -------------------------------------------------------------------------

    async def _set_up(self) -> None:
        self.far.states = {DEFAULT: GroupState()}
        if not self._connect_only:
            await self.far.make(self._worker_options)
            self._made = True
        self.scheduler_comm, self.security = await self.far.connect()
        await self._look()
        # Not as distributed's own: of those who subscribe to changes the scheduler serves the last only,
        # and the one beside it needs them.
        for callback in self.periodic_callbacks.values():
            callback.start()
        self.status = Status.running
        self._watch = asyncio.create_task(self._follow(), name=f"follow-{self.name}")

    async def _look(self) -> None:
        await self.far.say("state")
        self.scheduler_info = SchedulerInfo(await self.scheduler_comm.identity())

    async def _follow(self) -> None:
        """Know how the groups stand, until cancelled or until the cluster has ended."""
        silent = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self._look()
                silent = False
            except OSError as error:
                if await self.far.has_ended():
                    self.warn("it has ended")
                    self._watch = None
                    self.shutdown_on_close = False
                    await self._close()
                    return
                if not silent:
                    self.warn(f"its scheduler does not answer: {error}")
                silent = True

    async def _tear_down(self) -> None:
        ends = self._made if self.status == Status.starting else self.shutdown_on_close
        self.status = Status.closing
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.gather(self._watch, return_exceptions=True)
        try:
            if ends:
                await self.far.remove()
        finally:
            self.marathon.close()
            self._quieten.close()
            await Cluster._close(self)

    # -- what there is ----------------------------------------------------------------

    @property
    def marathon(self) -> Client:
        """The client of the backend."""
        return self.settings.marathon

    def group_states(self) -> dict[str, GroupState]:
        """Return how the groups of workers stood a moment ago."""
        return self.far.states

    async def _app_ids(self) -> list[str]:
        return await self.far.app_ids()

    def _dashboard_host(self) -> str:
        return self.far.host

    # -- scaling ----------------------------------------------------------------------

    def scale(
        self, n: int | None = None, memory: Any = None, cores: Any = None, *, group: str = DEFAULT
    ) -> Any:
        """Have `n` workers, or as many as have so much memory and so many cores together."""
        self._must_run()
        # What is wrong at first sight is said without a journey; what a worker is, is known there.
        workers_wanted(WorkerOptions(), n, cores, memory)
        return self._at_once(self.scale_group, group, n, cores, memory)

    async def scale_group(self, label: str, n: int | None, cores: Any, memory: Any) -> None:
        """Have so many workers in a group."""
        await self.far.say("scale", label=label, n=n, cores=cores, memory=memory)

    def adapt_group(self, label: str, options: dict[str, Any]) -> Any:
        """Let a group follow the load; it goes on when this process has ended."""
        plain = {name: value for name, value in options.items() if name != "worker_key"}
        key = options.get("worker_key")
        begun = self._at_once(self._adapt, label, plain, None if key is None else pickle.dumps(key))
        bounds = self.far.states.get(label, GroupState()).bounds or (0, None)
        return FarAdaptive(options.get("minimum", bounds[0]), options.get("maximum", bounds[1]), begun)

    async def _adapt(self, label: str, options: dict[str, Any], worker_key: bytes | None) -> None:
        await self.far.say("adapt", label=label, options=options, worker_key=worker_key)

    async def make_group(self, label: str, n: int, options: dict[str, Any]) -> None:
        """Add a group of workers."""
        whole_number("n", n, 0, MOST_WORKERS)
        await self.far.say("add_group", label=text("the name of a group", label), n=n, options=options)

"""A `MarathonCluster` whose scheduler is elsewhere: this process asks, and what is scaled is scaled there."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import Any, Self

from distributed import Client as DaskClient
from distributed import Security
from distributed.core import Status
from distributed.deploy import Cluster
from distributed.objects import SchedulerInfo
from distributed.protocol import pickle

from hubfleet.api.client import Client
from hubfleet.api.errors import HubfleetError

from .amounts import workers_wanted
from .checks import MOST_WORKERS, text, truth, whole_number
from .cluster import MarathonCluster
from .far import ANSWER_SECONDS, ClusterNotFound, FarScheduler
from .groups import DEFAULT
from .options import WorkerOptions
from .patience import to_the_end
from .states import GroupState

_LOOK_SECONDS = 1.0
_SILENCE = 3  # looks in a row without an answer, until it is told


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
        self._added: dict[str, tuple[int, dict[str, Any]]] = {}
        self._sized: dict[str, tuple[str, dict[str, Any]]] = {}
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
            await to_the_end(self._make())
        self.scheduler_comm, self.security = await self.far.connect()
        await self._look()
        # Not as distributed's own: of those who subscribe to changes the scheduler serves the last only,
        # and the one beside it needs them.
        for callback in self.periodic_callbacks.values():
            callback.start()
        self.status = Status.running
        self._watch = asyncio.create_task(self._follow(), name=f"follow-{self.name}")

    async def _make(self) -> None:
        await self.far.make(self._worker_options)
        self._made = True

    async def _look(self) -> bool:
        """Learn how the groups stand; say whether it is another scheduler than before that tells."""
        await self.far.say("state")
        before = self.scheduler_info.get("id")
        self.scheduler_info = SchedulerInfo(await self.scheduler_comm.identity())
        return before is not None and before != self.scheduler_info["id"]

    async def _follow(self) -> None:
        """Know how the groups stand, until cancelled or until the cluster has ended."""
        failures, begins = 0, False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if failures:
                    # Where it was is no place to look for it: the backend knows first.
                    self.scheduler_comm, _ = await self._reached()
                async with asyncio.timeout(ANSWER_SECONDS):
                    if await self._look():
                        begins = True
                        self.warn(
                            "its scheduler was started anew, and knows nothing of what was computed: make a "
                            "new client (get_client) and submit again; the workers that were asked for here "
                            "are asked for again"
                        )
                if begins:
                    await self._begin_again()
                failures, begins = 0, False
            except ClusterNotFound:
                self.warn("it has ended")
                self._watch = None
                self.shutdown_on_close = False
                await self._close()
                return
            except (OSError, TimeoutError, HubfleetError) as error:
                failures += 1
                if failures == _SILENCE:
                    self.warn(f"its scheduler does not answer, which is tried again: {error}")

    async def _reached(self) -> tuple[Any, Security]:
        reached = await self.far.reach()
        await self.scheduler_comm.close_rpc()
        return reached

    async def _begin_again(self) -> None:
        """Ask a scheduler that was started anew for what this process had asked the one before."""
        for label, (n, options) in self._added.items():
            if label not in self.far.states:
                await self.far.say("add_group", label=label, n=n, options=options)
        for word, arguments in list(self._sized.values()):
            await self.far.say(word, **arguments)

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

    async def _look_why(self) -> None:
        await self.far.say("state")

    def _dashboard_host(self) -> str:
        return self.far.host

    def get_client(self) -> Any:
        """Return the client of this cluster, another one if its scheduler was started anew since."""
        client = super().get_client()
        # One that has lost its scheduler looks for it where it was, and then ends.
        lost = client.scheduler is not None and client.scheduler.address != self.scheduler_address
        return DaskClient(self) if lost else client

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
        await self._size("scale", label=label, n=n, cores=cores, memory=memory)

    async def _size(self, word: str, *, label: str, **arguments: Any) -> None:
        """Say how many workers a group is to have; remembered once it is accepted."""
        await self.far.say(word, label=label, **arguments)
        self._sized[label] = word, {"label": label, **arguments}

    def adapt_group(self, label: str, options: dict[str, Any]) -> Any:
        """Let a group follow the load; it goes on when this process has ended."""
        plain = {name: value for name, value in options.items() if name != "worker_key"}
        key = options.get("worker_key")
        begun = self._at_once(self._adapt, label, plain, None if key is None else pickle.dumps(key))
        bounds = self.far.states.get(label, GroupState()).bounds or (0, None)
        return FarAdaptive(options.get("minimum", bounds[0]), options.get("maximum", bounds[1]), begun)

    async def _adapt(self, label: str, options: dict[str, Any], worker_key: bytes | None) -> None:
        await self._size("adapt", label=label, options=options, worker_key=worker_key)

    async def make_group(self, label: str, n: int, options: dict[str, Any]) -> None:
        """Add a group of workers."""
        whole_number("n", n, 0, MOST_WORKERS)
        await self.far.say("add_group", label=text("the name of a group", label), n=n, options=options)
        self._added[label] = n, options

"""What a user says to a cluster to have more or fewer workers, and of which kinds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from distributed.core import Status

from . import config
from .adaptive import OPTIONS
from .amounts import BOUNDS, workers_wanted
from .checks import MOST_WORKERS, known_names, text, whole_number
from .groups import DEFAULT, GroupAdaptive, WorkerGroup
from .settings import WORKER_OPTIONS

T = TypeVar("T")


class ClusterScaling:
    """The scaling of a `MarathonCluster`, whose groups of workers do what is said here."""

    name: Any
    status: Status
    groups: dict[str, WorkerGroup]
    sync: Callable[..., Any]

    def _group(self, label: str, options: dict[str, Any]) -> WorkerGroup:
        raise NotImplementedError

    def scale(
        self, n: int | None = None, memory: Any = None, cores: Any = None, *, group: str = DEFAULT
    ) -> Any:
        """Have `n` workers, or as many as have so much memory and so many cores together.

        Adaptive scaling of the group ends with this. Workers that are too many leave when
        their results have been moved to others and their running tasks have ended, or after
        ``drain_seconds``. If nobody is left to take over results, those who hold them stay.

        While the backend does not answer the wish is remembered.

        Parameters
        ----------
        n
            Number of workers.
        memory
            Memory of all workers together, as Dask counts it: bytes, or a text such as ``"10 GB"``.
        cores
            Threads of all workers together.
        group
            Which workers; see `add_worker_group`.

        Raises
        ------
        TypeError, ValueError
            The number is not a whole one from 0 to 10000, or there is no such group.
        hubfleet.api.errors.RequestRefused
            The backend does not allow it.
        """
        self._must_run()
        target = workers_wanted(self._known(group).marathon_workers.options, n, cores, memory)
        return self._at_once(self.scale_group, group, target, None, None)

    async def scale_group(self, label: str, n: int | None, cores: Any, memory: Any) -> None:
        """Have so many workers in a group: `scale` on the event loop."""
        group = self._known(label)
        await group.scale(workers_wanted(group.marathon_workers.options, n, cores, memory))

    def adapt(self, *, group: str = DEFAULT, **options: Any) -> GroupAdaptive:
        """Let the number of workers follow the load.

        Parameters
        ----------
        group
            Which workers; see `add_worker_group`.
        minimum, maximum
            Bounds of the number of workers.
        minimum_cores, maximum_cores, minimum_memory, maximum_memory
            The same as threads and memory of all workers together; the narrower bound holds.
        interval
            Time between two looks at the load, such as ``"1s"``.
        wait_count
            How many looks in a row a worker must be idle before it leaves.
        target_duration
            How long the work that waits shall take: the shorter, the more workers.
        worker_key
            Groups workers that leave together, see `distributed.Scheduler.workers_to_close`.

        Raises
        ------
        TypeError, ValueError
            An option does not exist, has the wrong type or is out of range.

        Notes
        -----
        What is not given is Dask's configuration ``hubfleet.adapt``, and then
        ``distributed.adaptive``. Options of an earlier call are not kept.
        """
        known_names("adapt", options, (*OPTIONS, *BOUNDS))
        self._must_run()
        return self.adapt_group(group, options)

    def adapt_group(self, label: str, options: dict[str, Any]) -> GroupAdaptive:
        """Let a group follow the load: `adapt` on the event loop."""
        group = self._known(label)
        return group.adapt(group.adaptive_options(config.completed("adapt", options)))

    def add_worker_group(self, name: str, n: int = 0, **options: Any) -> Any:
        """Add workers of another kind, which are scaled and adapt by themselves.

        Parameters
        ----------
        name
            What `scale` and `adapt` call them by ``group=``.
        n
            How many to start with.
        **options
            What is other with them than with the cluster's first workers, see
            `hubfleet.workers.options.WorkerOptions`.

        Raises
        ------
        TypeError, ValueError
            There is such a group, or an option is wrong.
        hubfleet.api.errors.RequestRefused
            The backend does not allow it.
        """
        self._must_run()
        return self._at_once(self.make_group, name, n, options)

    def _at_once(self, function: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> Any:
        """Do it, or begin with it if this is the event loop: the widget's buttons await nothing."""
        result = self.sync(function, *arguments)
        return asyncio.ensure_future(result) if asyncio.iscoroutine(result) else result

    async def make_group(self, label: str, n: int, options: dict[str, Any]) -> None:
        """Add a group of workers: `add_worker_group` on the event loop."""
        n = whole_number("n", n, 0, MOST_WORKERS)
        if text("the name of a group", label) in self.groups:
            raise ValueError(f"there is a group {label!r} already: scale it, or choose another name")
        known_names("add_worker_group", options, WORKER_OPTIONS)
        group = self._group(label, options)
        self.groups[label] = group
        try:
            await group.start(n)
        except BaseException:
            del self.groups[label]
            raise

    def _known(self, label: str) -> WorkerGroup:
        group = self.groups.get(label)
        if group is None:
            raise ValueError(f"there is no group {label!r}; there are {', '.join(map(repr, self.groups))}")
        return group

    def _must_run(self) -> None:
        if self.status == Status.created:
            raise RuntimeError(f"the cluster {self.name} has not started: await it first")
        if self.status != Status.running:
            raise RuntimeError(f"the cluster {self.name} is {self.status.name}: make a new one")

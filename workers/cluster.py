"""A Dask cluster: a scheduler, in this process or in an app, and groups of workers, each of them an app."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Generator
from typing import Any, Self

from distributed import Scheduler, Security
from distributed.core import Status, rpc
from distributed.deploy import Cluster
from distributed.exceptions import WorkerStartTimeoutError
from distributed.utils import silence_logging_cmgr
from tornado.ioloop import IOLoop

from hubfleet.api.app import App
from hubfleet.api.client import Client
from hubfleet.api.errors import HubfleetError

from . import config
from .checks import known_names
from .control import install
from .groups import DEFAULT, WorkerGroup
from .scaling import ClusterScaling
from .scheduling import end_when_idle, quiet_end, start_scheduler
from .settings import APP, ClusterSettings, worker_options
from .states import GroupState
from .views import ClusterViews
from .waiting import WorkersMissing, what_is_missing
from .workers import MarathonWorkers

log = logging.getLogger("hubfleet.workers")
_ANSWER_SECONDS = 3.0  # for what workers wait for, when somebody has waited for them long enough
FROM_NAME = ("url", "token", "group", "asynchronous", "loop", "shutdown_on_close")


class MarathonCluster(ClusterScaling, ClusterViews, Cluster):  # type: ignore[misc, unused-ignore]
    """A Dask cluster on a Marathon API.

    In a notebook whose server hubfleet started no argument is needed: backend, credential
    and place are in the environment. What is not given is Dask's configuration ``hubfleet``,
    see ``hubfleet workers config``.

    Parameters
    ----------
    name
        Name of the cluster, a part of its apps' ids; by default a random one.
    n_workers
        Workers to start with.
    url
        Address of the backend; by default ``HUBFLEET_URL``.
    token
        Credential at the backend; by default ``JUPYTERHUB_API_TOKEN``, and '' for none. A Marathon with
        basic authentication takes ``"Basic ann:secret"``.
    group
        Group for the cluster's apps; by default ``HUBFLEET_DASK_GROUP``.
    owner
        App id of the server with which the cluster ends; by default ``MARATHON_APP_ID``, the
        server in which this runs, and '' for none.
    lease_seconds
        How long the backend keeps the workers when it hears no more of this process, as when it
        was killed.
    host
        Address under which workers reach this process; by default what the backend says
        (``HOST``), or 127.0.0.1 outside of a task.
    security
        Encryption: True for certificates of this cluster's own (the default), False for none,
        or a `distributed.Security`.
    dashboard_address
        Where the dashboard listens. The default is seen on this machine only, since a
        dashboard asks for no credential; ``":0"`` is seen by all.
    scheduler_port
        Port of the scheduler; 0 for any that is free.
    drain_seconds
        How long running tasks may take to end when `scale` takes workers away.
    scheduler
        Where the scheduler is: "here", in this process, with which the cluster ends; or "app",
        in an app of its own, which goes on when this process ends and is found again by
        `from_name`. Then `host`, `dashboard_address`, `scheduler_port` and `silence_logs` mean
        nothing.
    shutdown_on_close
        With a scheduler elsewhere: whether `close` ends the cluster, or merely lets go of it.
    idle_timeout
        Time after which the cluster ends if it has had nothing to do, such as ``"30 minutes"``.
    asynchronous, loop
        As in `distributed.LocalCluster`.
    silence_logs
        Level below which distributed's own log does not go to the notebook; False for all.
    **options
        What one worker is: cpus, mem, nthreads, env and others, see
        `hubfleet.workers.options.WorkerOptions`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, is out of range or missing.
    hubfleet.api.errors.RequestRefused
        The backend does not allow it.
    hubfleet.api.errors.BackendUnreachable
        The backend did not answer.

    Examples
    --------
    >>> cluster = MarathonCluster(mem=1024)            # doctest: +SKIP
    >>> cluster.adapt(minimum=0, maximum=8)            # doctest: +SKIP
    >>> client = cluster.get_client()                  # doctest: +SKIP
    """

    status: Status
    quiet: bool

    def __new__(cls, *args: Any, scheduler: str | None = None, **kwargs: Any) -> MarathonCluster:
        """Return a cluster of the kind that fits where the scheduler shall be."""
        if cls is MarathonCluster and (scheduler or config.section("cluster").get("scheduler")) == APP:
            from .far_cluster import FarCluster

            cls = FarCluster
        return object.__new__(cls)

    @classmethod
    def from_name(cls, name: str, **arguments: Any) -> MarathonCluster:
        """Return the cluster of a name that runs elsewhere, to be used and scaled from here too.

        Its scheduler is in an app, or in another process of this user, such as another notebook's.

        Parameters
        ----------
        name
            Its name.
        **arguments
            url, token, group, asynchronous, loop, and shutdown_on_close, which is False here
            unless it is given: closing what this returns leaves the cluster alone.

        Raises
        ------
        hubfleet.workers.far.ClusterNotFound
            There is none, or its scheduler does not answer; the message names those there are.
        """
        from .far_cluster import FarCluster

        known_names("from_name", arguments, FROM_NAME)
        return FarCluster(
            name, connect_only=True, security=False, **{"shutdown_on_close": False, **arguments}
        )

    def __init__(
        self,
        name: str | None = None,
        n_workers: int | None = None,
        *,
        url: str | None = None,
        token: str | None = None,
        group: str | None = None,
        owner: str | None = None,
        lease_seconds: int | None = None,
        host: str | None = None,
        security: Security | bool | None = None,
        dashboard_address: str | None = None,
        scheduler_port: int | None = None,
        drain_seconds: float | None = None,
        scheduler: str | None = None,
        shutdown_on_close: bool | None = None,
        idle_timeout: str | float | None = None,
        asynchronous: bool = False,
        loop: IOLoop | None = None,
        silence_logs: int | str | bool | None = None,
        **options: Any,
    ) -> None:
        # All that can be wrong with the arguments is found before there is anything to close.
        own = {"self", "asynchronous", "loop", "options", "__class__"}
        self.settings = ClusterSettings.of({key: value for key, value in locals().items() if key not in own})
        self.host = self.settings.host
        self.security = self.settings.security
        self.groups: dict[str, WorkerGroup] = {}
        self.scheduler: Scheduler | None = None
        self._worker_options = worker_options(type(self).__name__, options)
        self._life = asyncio.Lock()
        self._quieten = contextlib.ExitStack()
        self._idle_watch: asyncio.Task[None] | None = None
        self.groups[DEFAULT] = self._group(DEFAULT, {})
        super().__init__(asynchronous=asynchronous, loop=loop, name=self.settings.name)
        if not self.called_from_running_loop:
            self._loop_runner.start()
            try:
                self.sync(self._start)
            except BaseException:
                try:
                    # Ctrl-C cancels the start, which takes back on the loop what it has begun.
                    with contextlib.suppress(Exception):
                        self.sync(self._close)
                finally:
                    self._loop_runner.stop()
                raise

    def _group(self, label: str, options: dict[str, Any]) -> WorkerGroup:
        settings = self.settings
        workers = MarathonWorkers(
            "(not started yet)" if self.scheduler is None else self.scheduler.address,
            settings.marathon,
            group=settings.group,
            name=settings.name,
            worker_group="" if label == DEFAULT else label,
            security=settings.security,
            owner=settings.owner,
            lease_seconds=settings.lease_seconds,
            drain_seconds=settings.drain_seconds,
            **(self._worker_options | options),
        )
        group = WorkerGroup(label, self, workers)
        workers.tell = group.tell
        return group

    # -- life -------------------------------------------------------------------------

    async def _start(self) -> None:
        async with self._life:
            if self.status != Status.created:
                return
            self.status = Status.starting
            try:
                await self._set_up()
            except BaseException:
                await self._tear_down()
                raise

    async def _set_up(self) -> None:
        if self.settings.silence_logs:
            self._quieten.enter_context(silence_logging_cmgr(self.settings.silence_logs))
        self.scheduler = await start_scheduler(self.settings, self.warn)
        address = self.scheduler.address
        self.scheduler_comm = rpc(address, connection_args=self.security.get_connection_args("client"))
        self.marathon_workers.scheduler_address = address
        await self.groups[DEFAULT].start(self.settings.n_workers)
        await super()._start()
        install(self.scheduler, self)
        if self.settings.idle_timeout is not None:
            watch = end_when_idle(self.scheduler, self.settings.idle_timeout, self._end_idle)
            self._idle_watch = asyncio.create_task(watch, name=f"idle-{self.name}")

    async def _end_idle(self, sentence: str) -> None:
        self._idle_watch = None  # the close that follows must not cancel itself
        self.warn(sentence)
        await self._close()

    def __await__(self) -> Generator[Any, Any, Self]:
        async def started() -> Self:
            await self._start()
            return self

        return started().__await__()

    async def _close(self) -> None:
        async with self._life:
            if self.status != Status.closed:
                with quiet_end():
                    await self._tear_down()

    async def _tear_down(self) -> None:
        self.status = Status.closing
        groups = list(self.groups.values())
        for group in groups:
            await group.stop()
        if self._idle_watch is not None:
            self._idle_watch.cancel()
            await asyncio.gather(self._idle_watch, return_exceptions=True)
        try:
            # First the apps, then the scheduler: a worker that its scheduler dismisses would be
            # started again by a backend that still wants it.
            deployments = await asyncio.gather(*(group.marathon_workers.remove() for group in groups))
            for group in groups:
                await group.marathon_workers.hang_up()
            if self.scheduler is not None:
                await self.scheduler.close(reason="cluster-closes")
            for group, deployment in zip(groups, deployments, strict=True):
                await group.marathon_workers.wait_until_ended(deployment)
        finally:
            self.marathon.close()
            self._quieten.close()
            await super()._close()

    def close(self, timeout: float | None = None) -> Any:
        """Remove the workers and their apps, and end the scheduler; closing again does nothing."""
        result = super().close(timeout)
        if not self.asynchronous:
            self._loop_runner.stop()
        return result

    # -- what there is ----------------------------------------------------------------

    @property
    def marathon(self) -> Client:
        """The client of the backend."""
        return self.marathon_workers.marathon

    @property
    def marathon_workers(self) -> MarathonWorkers:
        """The app of the workers that every cluster has."""
        return self.groups[DEFAULT].marathon_workers

    def app(self, group: str = DEFAULT) -> App:
        """Return the definition of a group's app as it may be shown: all but the private key."""
        return self._known(group).marathon_workers.app()

    def group_states(self) -> dict[str, GroupState]:
        """Return how the groups of workers stand, by name."""
        return {label: group.state() for label, group in self.groups.items()}

    async def _app_ids(self) -> list[str]:
        return [group.marathon_workers.app_id for group in self.groups.values()]

    async def _look_why(self) -> None:
        """Learn anew what the workers wait for that have not come."""
        for group in self.groups.values():
            await group.look_why()

    async def _wait_for_workers(self, n_workers: int = 0, timeout: Any = None) -> None:
        try:
            await super()._wait_for_workers(n_workers, timeout)
        except WorkerStartTimeoutError as late:
            # What was known a moment ago is good enough where nobody answers.
            with contextlib.suppress(HubfleetError, OSError):
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await self._look_why()
            reason = what_is_missing(n_workers, self.group_states())
            raise WorkersMissing(late.available_workers, n_workers, late.timeout, reason) from None

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # wait_for_workers replaces the whole memory of workers; the news that one of them has left
        # may come after that, and distributed (2026.8) would fall over it and hear no more.
        if op != "remove" or msg in self.scheduler_info["workers"]:
            super()._update_worker_status(op, msg)

    def warn(self, sentence: str) -> None:
        """Tell the user, and keep it for `get_logs`."""
        log.warning("Dask cluster %s: %s", self.name, sentence)
        quiet, self.quiet = self.quiet, True
        self._log(sentence)
        self.quiet = quiet

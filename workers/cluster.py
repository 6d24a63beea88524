"""A Dask cluster whose scheduler is in this process and whose workers are an app's instances."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Generator
from importlib.util import find_spec
from typing import Any, Self

from distributed import Scheduler, Security
from distributed.core import Status, rpc
from distributed.deploy import Cluster
from distributed.utils import silence_logging_cmgr
from tornado.ioloop import IOLoop

from hubfleet.api.app import App
from hubfleet.api.errors import BackendUnreachable, RequestRefused

from . import place
from .adaptive import WorkersAdaptive, checked_options
from .checks import MOST_WORKERS, text, whole_number
from .following import follow
from .guard import protect_local
from .lease import LEASE_SECONDS
from .tls import checked_security, encrypts
from .trouble import Trouble
from .workers import MarathonWorkers

log = logging.getLogger("hubfleet.workers")


class MarathonCluster(Cluster):  # type: ignore[misc, unused-ignore]
    """A Dask cluster on a Marathon API.

    In a notebook whose server hubfleet started no argument is needed: backend, credential
    and place are in the environment.

    Parameters
    ----------
    name
        Name of the cluster, a part of its app's id; by default a random one.
    n_workers
        Workers to start with.
    url
        Address of the backend; by default ``HUBFLEET_URL``.
    token
        Credential at the backend; by default ``JUPYTERHUB_API_TOKEN``, and '' for none.
    group
        Group for the workers' app; by default ``HUBFLEET_DASK_GROUP``.
    owner
        App id of the server with which the workers end; by default ``MARATHON_APP_ID``, the
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
    _adaptive: WorkersAdaptive | None

    def __init__(
        self,
        name: str | None = None,
        n_workers: int = 0,
        *,
        url: str | None = None,
        token: str | None = None,
        group: str | None = None,
        owner: str | None = None,
        lease_seconds: int = LEASE_SECONDS,
        host: str | None = None,
        security: Security | bool | None = None,
        dashboard_address: str = "127.0.0.1:0",
        scheduler_port: int = 0,
        drain_seconds: float = 60.0,
        asynchronous: bool = False,
        loop: IOLoop | None = None,
        silence_logs: int | str | bool = logging.WARNING,
        **options: Any,
    ) -> None:
        # All that can be wrong with the arguments is found before there is anything to close.
        self._first_workers = whole_number("n_workers", n_workers, 0, MOST_WORKERS)
        self.host = place.own_host(host)
        self._scheduler_port = whole_number("scheduler_port", scheduler_port, 0, 65535)
        self.dashboard_address = text("dashboard_address", dashboard_address)
        self.security = checked_security(security)
        self.marathon_workers = MarathonWorkers(
            "(not started yet)",
            place.backend_client(url, token),
            group=place.dask_group(group),
            name=uuid.uuid4().hex[:8] if name is None else name,
            security=self.security,
            owner=place.owner_app(owner),
            lease_seconds=lease_seconds,
            drain_seconds=drain_seconds,
            **options,
        )
        self.marathon_workers.tell = self._warn
        self.scheduler: Scheduler | None = None
        self.trouble = Trouble(self._warn)
        self.scaling = asyncio.Lock()
        self._life = asyncio.Lock()
        self.wish: int | None = None
        self._follower: asyncio.Task[None] | None = None
        self._quieten = contextlib.ExitStack()
        self._silence_logs = silence_logs
        super().__init__(asynchronous=asynchronous, loop=loop, name=self.marathon_workers.name)
        if not self.called_from_running_loop:
            self._loop_runner.start()
            try:
                self.sync(self._start)
            except BaseException:
                self._loop_runner.stop()
                raise

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
        if self._silence_logs:
            self._quieten.enter_context(silence_logging_cmgr(self._silence_logs))
        self.scheduler = await Scheduler(
            host=self.host,
            port=self._scheduler_port,
            protocol="tls://" if encrypts(self.security) else "tcp://",
            security=self.security,
            dashboard=find_spec("bokeh") is not None,
            dashboard_address=self.dashboard_address,
        )
        protect_local(self.scheduler, self.dashboard_address)
        address = self.scheduler.address
        self.scheduler_comm = rpc(address, connection_args=self.security.get_connection_args("client"))
        self.marathon_workers.scheduler_address = address
        await self.marathon_workers.start(self._first_workers)
        await super()._start()
        self._follower = asyncio.create_task(follow(self), name=f"follow-{self.name}")

    def __await__(self) -> Generator[Any, Any, Self]:
        async def started() -> Self:
            await self._start()
            return self

        return started().__await__()

    async def _close(self) -> None:
        async with self._life:
            if self.status != Status.closed:
                await self._tear_down()

    async def _tear_down(self) -> None:
        self.status = Status.closing
        if self._adaptive is not None:
            self._adaptive.stop(reason="cluster-closes")
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.gather(self._follower, return_exceptions=True)
        try:
            # First the app, then the scheduler: a worker that its scheduler dismisses would be
            # started again by a backend that still wants it.
            deployment = await self.marathon_workers.remove()
            await self.marathon_workers.hang_up()
            if self.scheduler is not None:
                await self.scheduler.close(reason="cluster-closes")
            await self.marathon_workers.wait_until_ended(deployment)
        finally:
            self.marathon_workers.marathon.close()
            self._quieten.close()
            await super()._close()

    def close(self, timeout: float | None = None) -> Any:
        """Remove the workers and their app, and end the scheduler."""
        result = super().close(timeout)
        if not self.asynchronous:
            self._loop_runner.stop()
        return result

    # -- what there is ----------------------------------------------------------------

    def app(self) -> App:
        """Return the definition of the workers' app as it may be shown: all but the private key."""
        return self.marathon_workers.app()

    @property
    def workers(self) -> dict[str, str]:
        """All workers that are wanted: task id, or a placeholder, to Marathon's word for its state."""
        return self.marathon_workers.count.workers

    @property
    def dashboard_link(self) -> str:
        """The link to the scheduler's dashboard."""
        port = self.scheduler_info.get("services", {}).get("dashboard")
        host = self.dashboard_address.rpartition(":")[0] or self.host
        return place.dashboard_link(host, port) if port else ""

    def __repr__(self) -> str:
        known = self.scheduler_info["workers"].values()
        threads = sum(worker["nthreads"] for worker in known)
        return (
            f"MarathonCluster({self.name!r}, {self.scheduler_address!r}, workers={len(known)} "
            f"of {self.marathon_workers.count.instances}, threads={threads}, status={self.status.name})"
        )

    # -- scaling ----------------------------------------------------------------------

    def scale(self, n: int) -> Any:
        """Have `n` workers; adaptive scaling ends with this.

        Workers that are too many leave when their results have been moved to others and
        their running tasks have ended, or after ``drain_seconds``. If nobody is left to
        take over results, those who hold them stay.

        While the backend does not answer the wish is remembered.

        Raises
        ------
        TypeError, ValueError
            `n` is not a whole number from 0 to 10000.
        hubfleet.api.errors.RequestRefused
            The backend does not allow it.
        """
        n = whole_number("the number of workers", n, 0, MOST_WORKERS)
        self._must_run()
        if self._adaptive is not None:
            self._adaptive.stop(reason="scale")
        return self.sync(self.fulfil, n)

    async def fulfil(self, n: int) -> None:
        """Have `n` workers, now or when the backend answers again; `scale` without its checks."""
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
            if stays > n:
                self._warn(
                    f"{stays} workers stay instead of {n}, because results in their memory have no other "
                    "place: release the futures and scale again, or close the cluster to drop them"
                )

    def adapt(
        self,
        minimum: int | None = None,
        maximum: int | None = None,
        *,
        interval: str | float | None = None,
        wait_count: int | None = None,
        target_duration: str | float | None = None,
        worker_key: Any = None,
        **unknown: Any,
    ) -> WorkersAdaptive:
        """Let the number of workers follow the load.

        Parameters
        ----------
        minimum, maximum
            Bounds of the number of workers.
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
        What is not given is Dask's configuration ``distributed.adaptive``. Options of an
        earlier call are not kept.
        """
        options = checked_options(
            {
                "minimum": minimum,
                "maximum": maximum,
                "interval": interval,
                "wait_count": wait_count,
                "target_duration": target_duration,
                "worker_key": worker_key,
                **unknown,
            }
        )
        self._must_run()
        if self._adaptive is not None:
            self._adaptive.stop(reason="adapt-again")
        self.wish = None
        self._adaptive = WorkersAdaptive(self, **options)
        return self._adaptive

    def _update_worker_status(self, op: str, msg: Any) -> None:
        # wait_for_workers replaces the whole memory of workers; the news that one of them has left
        # may come after that, and distributed (2026.8) would fall over it and hear no more.
        if op != "remove" or msg in self.scheduler_info["workers"]:
            super()._update_worker_status(op, msg)

    def _must_run(self) -> None:
        if self.status == Status.created:
            raise RuntimeError(f"the cluster {self.name} has not started: await it first")
        if self.status != Status.running:
            raise RuntimeError(f"the cluster {self.name} is {self.status.name}: make a new one")

    def _warn(self, sentence: str) -> None:
        """Tell the user, and keep it for `get_logs`."""
        log.warning("Dask cluster %s: %s", self.name, sentence)
        quiet, self.quiet = self.quiet, True
        self._log(sentence)
        self.quiet = quiet

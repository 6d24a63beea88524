"""The workers of one scheduler: one app, of which each instance is a worker."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Self

from distributed import Security
from distributed.core import rpc

from hubfleet.api.app import App
from hubfleet.api.client import Client
from hubfleet.api.errors import BackendUnreachable, Conflict, NotFound, RequestRefused
from hubfleet.api.ids import is_legal, workers_app_id
from hubfleet.api.status import AppStatus

from . import exits, place
from .build import build_app, without_secrets
from .checks import MOST_WORKERS, real_number, text, whole_number
from .counting import Count, counted, tasks_for
from .deployments import reason_to_wait, until_over
from .either import Either
from .lease import LEASE_SECONDS, LEAST_SECONDS, MOST_SECONDS, Lease
from .listening import listen
from .options import WorkerOptions
from .patience import LOCK_SECONDS, patiently, to_the_end
from .resizing import Growth, Resizing, fitting, sentence_of
from .tls import checked_security, worker_environment
from .whose import check_reachable, scheduler_of

log = logging.getLogger("hubfleet.workers")

_LOOK_SECONDS = 0.2


class MarathonWorkers(Resizing):
    """Dask workers as the instances of one app, named by their task ids.

    Parameters
    ----------
    scheduler
        Address of the scheduler, as workers reach it; or a `distributed.Scheduler`, ``Client`` or
        ``Cluster``, whose encryption is taken too.
    marathon
        Client, or URL, of the backend; by default ``HUBFLEET_URL``.
    token
        Credential at the backend, where no client is given; by default ``JUPYTERHUB_API_TOKEN``,
        '' for none, and ``"Basic ann:secret"`` for a name and a password.
    group
        The group in which the app is made, such as ``/jupyter/alice/dask``; by default
        ``HUBFLEET_DASK_GROUP``.
    name
        Name of the cluster: a part of the app's id; by default a random one.
    worker_group
        Name of a further group of workers in the cluster; '' for the one that every cluster has.
    security
        Encryption between scheduler and workers, a `distributed.Security`; False for none; by
        default that of the object that was given as `scheduler`.
    owner
        App id of the server for which the workers work; the backend removes them with it.
    lease_seconds
        How long the backend keeps the workers when it hears no more of this process, from 2 to
        86400; None for as long as nobody removes them.
    drain_seconds
        How long running tasks may take to end when workers are taken away.
    asynchronous
        Whether `start`, `scale`, `scale_up`, `scale_down` and `close` are awaited, or block; by
        default the one in a running event loop, and the other elsewhere.
    **options
        What one worker is: see `hubfleet.workers.options.WorkerOptions`.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, is out of range or missing.

    Examples
    --------
    >>> workers = MarathonWorkers("tcp://10.0.0.1:8786", "http://127.0.0.1:8081", token="",
    ...                           group="/dask", mem=1024)                      # doctest: +SKIP
    >>> print(workers.app(4))                                                    # doctest: +SKIP
    >>> with workers:                                                            # doctest: +SKIP
    ...     workers.scale(4)
    """

    def __init__(
        self,
        scheduler: Any,
        marathon: Client | str | None = None,
        *,
        token: str | None = None,
        group: str | None = None,
        name: str | None = None,
        worker_group: str = "",
        security: Security | bool | None = None,
        owner: str | None = None,
        lease_seconds: int | None = LEASE_SECONDS,
        drain_seconds: float = 60.0,
        asynchronous: bool | None = None,
        **options: Any,
    ) -> None:
        self.options = WorkerOptions.of(type(self).__name__, options)
        self.scheduler_address, of_scheduler = scheduler_of(scheduler)
        self.name = uuid.uuid4().hex[:8] if name is None else text("name", name)
        group = place.dask_group(group)
        self.app_id = workers_app_id(group, self.name, worker_group)
        if not is_legal(self.app_id):
            raise ValueError(f"group must be a Marathon path such as /jupyter/alice/dask, got {group!r}")
        self.security = checked_security((of_scheduler or False) if security is None else security)
        self.owner = owner
        if lease_seconds is not None:
            whole_number("lease_seconds", lease_seconds, LEAST_SECONDS, MOST_SECONDS)
        self.lease_seconds = lease_seconds
        self.drain_seconds = real_number("drain_seconds", drain_seconds, 0, "seconds")
        self.count = Count()
        self.tell: Callable[[str], None] = log.warning
        self._lock = asyncio.Lock()
        self._rpc: Any = None
        self._asked = self._answered = 0
        self._version: datetime | None = None
        self._killed: frozenset[str] = frozenset()
        self._ours = False
        self._lease: Lease | None = None
        self._listener: asyncio.Task[None] | None = None
        self.waiting_for = ""
        self._either = Either(asynchronous)
        self._own_client = not isinstance(marathon, Client)
        self.marathon = marathon if isinstance(marathon, Client) else place.backend_client(marathon, token)

    def __repr__(self) -> str:
        count = self.count
        why = f", the others wait for {self.waiting_for}" if self.waiting_for else ""
        return f"<MarathonWorkers {self.app_id}: {len(count.states)} of {count.instances} alive{why}>"

    async def __aenter__(self) -> Self:
        if not self._ours:
            await self._start(0)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close(20.0)

    def __enter__(self) -> Self:
        if not self._ours:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def app(self, instances: int | None = None) -> App:
        """Return the definition as it may be shown: all but the private key."""
        return without_secrets(self._definition(self.count.instances if instances is None else instances))

    def _definition(self, instances: int) -> App:
        return build_app(
            self.app_id,
            self.scheduler_address,
            self.options,
            instances=instances,
            cluster=self.name,
            owner=self.owner,
            lease_seconds=self.lease_seconds,
            tls=worker_environment(self.security),
        )

    @property
    def scheduler(self) -> Any:
        """The scheduler's ``distributed.rpc``."""
        if self._rpc is None:
            arguments = self.security.get_connection_args("client")
            self._rpc = rpc(self.scheduler_address, connection_args=arguments)
        return self._rpc

    # -- life -------------------------------------------------------------------------

    def start(self, n: int = 0) -> Any:
        """Make the app, with `n` workers.

        Raises
        ------
        ValueError
            The scheduler cannot be reached as it was given.
        Conflict
            There is an app of this name already; it is left alone.
        RequestRefused
            The backend does not allow it.
        BackendUnreachable
            The backend did not answer.
        """
        n = whole_number("the number of workers", n, 0, MOST_WORKERS)
        check_reachable(self.scheduler_address, self.security)
        return self._either.run(self._start, n)

    async def _start(self, n: int) -> None:
        await self.begin(n)
        self._listener = asyncio.create_task(listen(self), name=f"listen-{self.name}")

    async def begin(self, n: int) -> None:
        """Make the app as `start` does, for a caller who looks after it."""
        await to_the_end(self._make(n))

    async def _make(self, n: int) -> None:
        async with self._lock:
            # Before the answer: if it gets lost, the app may exist all the same.
            exits.remove_at_exit(self.app_id, self.marathon.transport)
            try:
                created = await self._create(n)
            except Conflict as refusal:
                exits.forget(self.app_id)
                raise Conflict(
                    f"there is a Dask cluster named {self.name!r} already ({self.app_id}): close that "
                    "one, or give this one another name",
                    refusal.status,
                ) from refusal
            except RequestRefused:
                exits.forget(self.app_id)
                raise
            self._ours = True
            if self.lease_seconds is not None:
                self._lease = Lease(self.app_id, self.marathon.transport, self.lease_seconds)
            self._learn(counted(created, ()))

    async def _create(self, n: int) -> AppStatus:
        each = self.options.nworkers
        tasks = tasks_for(n, each)
        try:
            return await self.marathon.create_app(self._definition(tasks), LOCK_SECONDS)
        except RequestRefused as refusal:
            fits = fitting(refusal)
            if fits is None or fits >= tasks:
                raise
            created = await self.marathon.create_app(self._definition(fits), LOCK_SECONDS)
            self.tell_limit(n, Growth(fits, sentence_of(refusal)).in_workers(each))
            return created

    def close(self, timeout: float = 20.0) -> Any:
        """Remove the app and wait until its workers have ended, each at most `timeout` seconds."""
        try:
            return self._either.run(self._close, timeout)
        finally:
            self._either.end()

    async def _close(self, timeout: float) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)
        try:
            deployment = await self.remove(timeout)
            await self.wait_until_ended(deployment, timeout)
        finally:
            await self.hang_up()
            if self._own_client:
                self.marathon.close()

    async def remove(self, timeout: float = 20.0) -> str | None:
        """Have the app removed; return the id of the deployment that ends its workers, if one does.

        If the backend does not answer for `timeout` seconds, it is asked once more when the
        interpreter ends.
        """
        try:
            async with asyncio.timeout(timeout):
                while self._ours:
                    with contextlib.suppress(BackendUnreachable):
                        return await self._delete()
                    await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            self._end_lease()
            log.warning(
                "the backend did not answer for %.0f s, so the Dask workers %s could not be removed; that is "
                "tried again when this process ends, and without a scheduler workers end by themselves",
                timeout,
                self.app_id,
            )
        return None

    async def _delete(self) -> str | None:
        try:
            result = await self.marathon.delete_app(self.app_id)
        except NotFound:
            self._disown()
            return None
        self._disown()
        return result.deployment_id

    async def wait_until_ended(self, deployment: str | None, timeout: float = 20.0) -> None:
        """Wait until a deployment has come to its end, at most `timeout` seconds."""
        try:
            if deployment is not None and not await until_over(self.marathon, {deployment}, timeout):
                log.warning("the Dask workers %s take longer than %.0f s to end", self.app_id, timeout)
        except RequestRefused as refusal:
            log.info("cannot see whether the Dask workers %s have ended: %s", self.app_id, refusal)

    async def hang_up(self) -> None:
        """Let go of the connection to the scheduler."""
        link, self._rpc = self._rpc, None
        if link is not None:
            await link.close_rpc()

    def _disown(self) -> None:
        self._ours = False
        self._end_lease()
        self._learn(Count(gone=True))
        exits.forget(self.app_id)

    def _end_lease(self) -> None:
        if self._lease is not None:
            self._lease.end()

    # -- seeing -----------------------------------------------------------------------

    async def refresh(self) -> Count:
        """Read the count anew.

        Raises
        ------
        BackendUnreachable
            The backend did not answer; what was known stays.
        """
        try:
            await self._read()
        except NotFound:
            self._learn(Count(gone=True))
        return self.count

    async def _read(self) -> AppStatus:
        self._asked += 1
        turn = self._asked
        app = await patiently(lambda: self.marathon.get_app(self.app_id))
        if turn > self._answered:  # one that was overtaken by a later one is old
            self._answered = turn
            self._version = app.version
            self._learn(counted(app, self._killed))
        return app

    async def look_why(self) -> None:
        """Find out what the instances wait for that have no task; `waiting_for` is it then.

        Raises
        ------
        BackendUnreachable
            The backend did not answer.
        """
        self.waiting_for = await reason_to_wait(self.marathon, self.app_id) if self.count.waiting else ""

    def hear(self, app: AppStatus | None) -> None:
        """Take what the backend's events tell of the app, unless something newer was read."""
        if app is not None and (self._version is None or app.version is None or app.version >= self._version):
            self._learn(counted(app, self._killed))

    def _learn(self, count: Count) -> None:
        self.count = count
        self._killed &= count.doomed

    # -- scaling ----------------------------------------------------------------------

    def scale(self, n: int) -> Any:
        """Have `n` workers, and return how many there will be.

        Where a task holds several (``nworkers``) there are as many tasks as hold `n` of them. More may
        stay when results have no other place: none is ever lost. Fewer there may be when a limit of the
        backend is reached, which is told.

        Raises
        ------
        TypeError, ValueError
            `n` is not a whole number from 0 to 10000.
        RequestRefused, BackendUnreachable
            Nothing was changed, or not all of it.
        """
        return self._either.run(self._scale, whole_number("the number of workers", n, 0, MOST_WORKERS))

    def scale_up(self, n: int) -> Any:
        """Have at least `n` workers, or as many of them as are allowed; return a `Growth`."""
        return self._either.run(self._scale_up, whole_number("the number of workers", n, 0, MOST_WORKERS))

    def scale_down(self, workers: Collection[str], drain_seconds: float | None = None) -> Any:
        """Take away these workers, by their names, and return the names of their tasks that were.

        A worker's name is that of its task, unless a task holds several (``nworkers``): then all of them
        must be named. One that is still busy after `drain_seconds`, or whose results have no other place,
        stays.
        """
        return self._either.run(self._scale_down, workers, drain_seconds)

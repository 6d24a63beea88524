"""A cluster whose scheduler is elsewhere: in an app of its own, or in another process of this user."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from distributed import Security
from distributed.core import rpc

from hubfleet.api.app import App
from hubfleet.api.client import Client
from hubfleet.api.errors import BackendUnreachable, Conflict, HubfleetError, NotFound
from hubfleet.api.ids import cluster_path, is_within, scheduler_app_id, workers_app_id
from hubfleet.api.labels import CLUSTER
from hubfleet.api.status import AppStatus, TaskFailure

from .control import call
from .deployments import until_over
from .groups import DEFAULT
from .options import ADDRESS_VARIABLE
from .patience import LOCK_SECONDS
from .place import credential_of
from .scheduler_app import build_scheduler_app, security_of
from .settings import ClusterSettings
from .states import GroupState
from .trouble import why

log = logging.getLogger("hubfleet.workers")

_LOOK_SECONDS = 0.2
_START_SECONDS = 60.0
_END_SECONDS = 20.0
_MOST_CRASHES = 2

ANSWER_SECONDS = 3.0
"""How long a scheduler may take to say how things stand, before the backend is asked where it is.

distributed would look for it where it was for half a minute.
"""


class ClusterNotFound(HubfleetError, LookupError):
    """There is no running cluster of this name."""


class SchedulerEnded(ConnectionError):
    """The scheduler's task has ended, and the next one has not started yet."""

    def __init__(self, failure: TaskFailure) -> None:
        super().__init__(f"it ended: {why(failure)}")
        self.task_id = failure.task_id


class FarScheduler:
    """Finds a scheduler elsewhere, or has it started, and talks to it.

    Parameters
    ----------
    settings
        What the cluster is made with, or which it is.
    """

    def __init__(self, settings: ClusterSettings) -> None:
        self.settings = settings
        self.marathon: Client = settings.marathon
        self.states: dict[str, GroupState] = {DEFAULT: GroupState()}
        self.comm: Any = None
        self.host = settings.host
        self._path = cluster_path(settings.group, settings.name)
        self._app_id = scheduler_app_id(settings.group, settings.name)

    async def make(self, options: dict[str, Any]) -> None:
        """Have the app made.

        Raises
        ------
        Conflict
            There is a cluster of this name.
        """
        token = credential_of(self.marathon)
        try:
            await self.marathon.create_app(build_scheduler_app(self.settings, options, token), LOCK_SECONDS)
        except Conflict as refusal:
            raise Conflict(
                f"there is a Dask cluster named {self.settings.name!r} already ({self._app_id}): "
                "use it by MarathonCluster.from_name(...), close it, or choose another name",
                refusal.status,
            ) from refusal

    async def connect(self) -> tuple[Any, Security]:
        """Return the ``distributed.rpc`` of the scheduler, and the encryption by which it is spoken to.

        Raises
        ------
        ClusterNotFound
            There is none, or none that answers.
        """
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        crashed: set[str] = set()
        while True:
            try:
                return await self.reach()
            except ConnectionError as reason:
                if isinstance(reason, SchedulerEnded):
                    crashed.add(reason.task_id)
                # One that has ended twice would most likely do so again.
                if len(crashed) >= _MOST_CRASHES or asyncio.get_running_loop().time() > deadline:
                    raise ClusterNotFound(
                        f"the scheduler of the Dask cluster {self.settings.name!r} is away: {reason}"
                    ) from reason
            await asyncio.sleep(_LOOK_SECONDS)

    async def reach(self) -> tuple[Any, Security]:
        """Connect to the scheduler where the backend says it is now; see `connect`.

        Raises
        ------
        ConnectionError
            It does not answer, or has not started; the message says which.
        ClusterNotFound
            There is none.
        """
        address, app = await self._address()
        if not address:
            if isinstance(app, AppStatus) and app.last_task_failure is not None:
                raise SchedulerEnded(app.last_task_failure)
            raise ConnectionError("it has not started yet")
        security = security_of(app)
        comm = rpc(address, connection_args=security.get_connection_args("client"))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self.states = await call(comm, "state")
        except (OSError, TimeoutError, AttributeError) as error:
            await comm.close_rpc()
            raise ConnectionError(f"it does not answer at {address}: {error}") from error
        except BaseException:
            await comm.close_rpc()
            raise
        self.host = address.rpartition("://")[2].rpartition(":")[0]
        self.comm = comm
        return comm, security

    async def _address(self) -> tuple[str, App]:
        """Return where the scheduler is, '' while that is not known, and the app that says so."""
        try:
            app = await self.marathon.get_app(self._app_id)
        except NotFound:
            return await self._address_told_to_workers()
        for task in app.tasks:
            if task.running and task.ports:
                scheme = "tls" if security_of(app).tls_ca_file else "tcp"
                return f"{scheme}://{task.host}:{task.ports[0]}", app
        return "", app

    async def _address_told_to_workers(self) -> tuple[str, App]:
        app_id = workers_app_id(self.settings.group, self.settings.name)
        try:
            app = await self.marathon.get_app(app_id)
        except NotFound:
            others = await running_clusters(self.marathon, self.settings.group)
            there = f"there are {', '.join(map(repr, others))}" if others else "none is running"
            raise ClusterNotFound(
                f"there is no Dask cluster named {self.settings.name!r} in {self.settings.group}; {there}"
            ) from None
        return str(app.env.get(ADDRESS_VARIABLE, "")), app

    async def say(self, word: str, **arguments: Any) -> None:
        """Say one of the words of `hubfleet.workers.control`, and learn how things stand then."""
        self.states = await call(self.comm, word, **arguments)

    async def app_ids(self) -> list[str]:
        """Return the ids of the cluster's apps, that of the scheduler last."""
        apps = await self.marathon.list_apps(containing=self._path)
        found = [app.id for app in apps if is_within(app.id, self._path)]
        return sorted(found, key=lambda app_id: app_id == self._app_id)

    async def remove(self) -> None:
        """End the cluster: all of its apps."""
        try:
            deployments = set()
            for app_id in await self.app_ids():
                try:
                    deployments.add((await self.marathon.delete_app(app_id)).deployment_id)
                except NotFound:
                    continue
            await until_over(self.marathon, deployments, _END_SECONDS)
        except BackendUnreachable as error:
            log.warning("the Dask cluster %s could not be ended: %s", self.settings.name, error)


async def running_clusters(marathon: Client, group: str) -> list[str]:
    """Return the names of the Dask clusters of a group."""
    apps = await marathon.list_apps(label=CLUSTER)
    return sorted({app.labels[CLUSTER] for app in apps if is_within(app.id, group)})

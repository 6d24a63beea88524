"""The cluster managers that are compared, each made as its own documentation has it, with workers alike.

A worker has one thread and 400 MiB, whoever starts it. Nannies, intervals and dashboards are as they come.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from distributed import LocalCluster, Scheduler, Security
from distributed.deploy import Cluster
from forker import Forker

MEMORY = "400MiB"
_HERE = "127.0.0.1:0"
Settings = Mapping[str, Any]


async def ours(settings: Settings, encrypted: bool) -> Cluster:
    """Return ours, on a backend that runs."""
    from hubfleet.api import labels
    from hubfleet.workers import MarathonCluster

    forked = {} if settings.get("prefork", True) else {"labels": {labels.PREFORK: "false"}}
    return await MarathonCluster(
        url=settings["url"],
        token=settings["token"],
        group="/bench/dask",
        owner="",
        security=encrypted,
        asynchronous=True,
        **forked,
    )


async def local(settings: Settings, encrypted: bool) -> Cluster:
    """Return distributed's own."""
    return await LocalCluster(
        n_workers=0,
        threads_per_worker=1,
        memory_limit=MEMORY,
        dashboard_address=_HERE,
        security=True if encrypted else None,
        asynchronous=True,
        local_directory=settings["folder"],
    )


async def jobqueue(settings: Settings, encrypted: bool) -> Cluster:
    """Return that of dask-jobqueue whose jobs are processes of this machine."""
    from dask_jobqueue.local import LocalCluster as JobQueue

    security = {"security": Security.temporary(), "protocol": "tls://"} if encrypted else {}
    return await JobQueue(
        cores=1,
        processes=1,
        memory=MEMORY,
        scheduler_options={"dashboard_address": _HERE},
        shared_temp_directory=settings["folder"],
        local_directory=settings["folder"],
        asynchronous=True,
        **security,
    )


async def gateway(settings: Settings, encrypted: bool) -> Cluster:
    """Return one of a dask-gateway that runs."""
    from dask_gateway import GatewayCluster

    assert encrypted, "dask-gateway has no clusters without encryption"
    return await GatewayCluster(
        address=settings["address"], proxy_address=settings["proxy_address"], asynchronous=True
    )


class Bare:
    """A scheduler, and workers that nobody manages: the limit of those who do.

    Parameters
    ----------
    forker
        What forks the workers; else each is executed.
    """

    def __init__(self, folder: str, forker: Forker | None) -> None:
        self.folder, self.forker = folder, forker
        self.executed: list[subprocess.Popen[bytes]] = []
        self.forked: list[int] = []

    async def open(self) -> Bare:
        """Start what is not measured."""
        self.scheduler = await Scheduler(host="127.0.0.1", dashboard_address=":0")
        if self.forker is not None:
            await asyncio.to_thread(self.forker.wait)
        return self

    @property
    def scheduler_address(self) -> str:
        """Where it listens."""
        return str(self.scheduler.address)

    def scale(self, n: int) -> None:
        """Start so many."""
        words = [self.scheduler_address, "--no-nanny", "--no-dashboard", "--nthreads", "1"]
        words += ["--memory-limit", MEMORY, "--local-directory", self.folder]
        for _ in range(n):
            if self.forker is not None:
                self.forked.append(self.forker.fork(["dask-worker", *words], os.environ, self.folder))
            else:
                command = [sys.executable, "-m", "distributed.cli.dask_worker", *words]
                self.executed.append(subprocess.Popen(command, stderr=subprocess.DEVNULL))

    async def close(self) -> None:
        """Kill them, and end the scheduler."""
        for pid in self.forked:
            os.kill(pid, signal.SIGKILL)
        if self.forker is not None:
            self.forker.end()
        for process in self.executed:
            process.kill()
            await asyncio.to_thread(process.wait)
        await self.scheduler.close()


async def executed(settings: Settings, encrypted: bool) -> Bare:
    """Return a scheduler for which as many `dask worker` are started at once as are asked for."""
    return await Bare(settings["folder"], None).open()


async def forked(settings: Settings, encrypted: bool) -> Bare:
    """Return a scheduler for which a process that has imported the worker forks itself."""
    return await Bare(settings["folder"], Forker("worker", os.environ)).open()


MAKERS: Mapping[str, Callable[[Settings, bool], Awaitable[Any]]] = {
    function.__name__: function for function in (ours, local, jobqueue, gateway, executed, forked)
}

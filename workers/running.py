"""A cluster at the command line: the scheduler here, the workers as an app, until it is told to end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hubfleet.api.environment import APP_ID
from hubfleet.api.errors import BackendError, NotFound
from hubfleet.api.ids import scheduler_app_id, workers_app_id

from . import connecting, place
from .cluster import MarathonCluster
from .deployments import until_over

_LOOK_SECONDS = 0.2
_LEFTOVER_SECONDS = 60.0


class EndedByItself(Exception):
    """The cluster has ended although nobody here asked for it."""


@dataclass(frozen=True)
class Run:
    """What is to run.

    Parameters
    ----------
    arguments
        Those of `MarathonCluster`.
    name
        The cluster's name.
    adaptive
        Bounds of adaptive scaling, as `MarathonCluster.adapt` takes them; None for a fixed number.
    client_config
        Where clients find what they need to connect.
    """

    arguments: dict[str, Any]
    name: str
    client_config: Path
    adaptive: dict[str, Any] | None = None


async def run(what: Run, tell: Callable[[str], None], progress: Callable[[str], None]) -> None:
    """Run a cluster until SIGINT or SIGTERM, and leave nothing behind.

    Parameters
    ----------
    tell
        Takes what is worth a line of its own.
    progress
        Takes how many workers there are, whenever that has changed.

    Raises
    ------
    EndedByItself
        With the reason.
    """
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stopping.set)
    try:
        await _remove_leftover(what)
        cluster = MarathonCluster(name=what.name, asynchronous=True, **what.arguments)
        stopped = asyncio.create_task(stopping.wait())
        started = asyncio.create_task(_started(cluster))
        written = False
        try:
            await asyncio.wait({started, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.is_set() and not started.done():
                return
            await started
            written = True
            connecting.write(what.client_config, cluster.scheduler_address, cluster.security)
            tell(f"scheduler  {cluster.scheduler_address}")
            if cluster.dashboard_link:
                tell(f"dashboard  {cluster.dashboard_link}")
            tell(f"clients    {connecting.how(what.client_config)}")
            if what.adaptive is not None:
                cluster.adapt(**what.adaptive)
            await _follow(cluster, stopping, progress)
        finally:
            stopped.cancel()
            if not started.done():
                started.cancel()  # which removes what may be there by now
            await asyncio.gather(started, stopped, return_exceptions=True)
            # A connection that breaks off as the scheduler closes is no news (distributed 2026.8 leaves
            # the error of such a one to asyncio's log).
            logging.getLogger("asyncio").setLevel(logging.CRITICAL)
            await cluster.close()
            if written:  # else it may be that of the cluster which has the name
                what.client_config.unlink(missing_ok=True)
    finally:
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(signum)


async def _started(cluster: MarathonCluster) -> None:
    await cluster


async def _follow(cluster: MarathonCluster, stopping: asyncio.Event, progress: Callable[[str], None]) -> None:
    said = ""
    while not stopping.is_set():
        line = standing(len(cluster.observed), cluster.workers)
        if line != said:
            progress(line)
            said = line
        if cluster.marathon_workers.count.gone:
            raise EndedByItself(str(cluster.marathon_workers.removed()))
        if cluster.status.name in ("closing", "closed"):
            raise EndedByItself("the cluster has closed itself, having had nothing to do")
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await stopping.wait()
        except TimeoutError:
            continue


def standing(working: int, wanted: dict[str, str]) -> str:
    """Return one line that says how many workers there are, and what becomes of the others."""
    waiting = sum(1 for state in wanted.values() if state == "WAITING")
    starting = max(0, len(wanted) - waiting - working)
    others = [f"{count} {word}" for count, word in ((starting, "starting"), (waiting, "waiting")) if count]
    return f"workers    {working} of {len(wanted)}" + (f" ({', '.join(others)})" if others else "")


async def _remove_leftover(what: Run) -> None:
    """Remove the workers of this app's own former task, whose scheduler ended with it."""
    group = place.dask_group(what.arguments.get("group"))
    if os.environ.get(APP_ID) != scheduler_app_id(group, what.name):
        return
    client = place.backend_client(what.arguments.get("url"), what.arguments.get("token"))
    try:
        deleted = await client.delete_app(workers_app_id(group, what.name))
        if deleted.deployment_id:
            await until_over(client, [deleted.deployment_id], _LEFTOVER_SECONDS)
    except NotFound:
        pass
    except BackendError as error:
        raise EndedByItself(f"the workers of a former life cannot be removed: {error}") from error
    finally:
        client.close()

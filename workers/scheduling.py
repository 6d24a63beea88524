"""The scheduler of a cluster in this process, and its end when it has had nothing to do for long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from distributed import Scheduler
from distributed.metrics import time

from .guard import protect_local
from .settings import ClusterSettings
from .tls import encrypts
from .versions import VersionWatch


async def start_scheduler(settings: ClusterSettings, warn: Callable[[str], None]) -> Scheduler:
    """Start a scheduler, with a dashboard where bokeh is installed; `warn` is told of odd workers."""
    scheduler = await Scheduler(
        host=settings.host,
        port=settings.scheduler_port,
        protocol="tls://" if encrypts(settings.security) else "tcp://",
        security=settings.security,
        dashboard=find_spec("bokeh") is not None,
        dashboard_address=settings.dashboard_address,
    )
    protect_local(scheduler, settings.dashboard_address)
    scheduler.add_plugin(VersionWatch(scheduler, warn))
    return scheduler


async def end_when_idle(scheduler: Scheduler, seconds: float, end: Callable[[str], Awaitable[None]]) -> None:
    """Call `end` with a sentence when a scheduler has had nothing to do for so many seconds.

    The scheduler could close itself, but a worker that its scheduler dismisses is started again by a
    backend that still wants it.
    """
    pause = min(5.0, seconds / 5)
    while True:
        await asyncio.sleep(pause)
        since = scheduler.check_idle()
        if since is not None and time() - since > seconds:
            await end(f"there was nothing to do for {seconds:g} s, so the cluster has ended")
            return


@contextmanager
def quiet_end() -> Iterator[None]:
    """Have the scheduler's log not say of what its end cancels that it failed.

    Workers that were told to end ask the scheduler to retire them. If it ends before it has answered,
    distributed (2026.8, ``utils.log_errors``) writes a traceback for each of them.
    """
    log = logging.getLogger("distributed.scheduler")
    log.addFilter(is_failure := lambda record: not _is_cancellation(record))
    try:
        yield
    finally:
        log.removeFilter(is_failure)


def _is_cancellation(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return kind is not None and issubclass(kind, asyncio.CancelledError)

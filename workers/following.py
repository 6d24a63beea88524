"""Keeps what a cluster knows of its workers true, with as few questions as that takes."""

from __future__ import annotations

import asyncio
import logging

from hubfleet.api.errors import BackendUnreachable, RequestRefused

from .elastic import ElasticCluster

log = logging.getLogger("hubfleet.workers")

_FIRST, _MOST = 0.5, 5.0  # seconds between questions while workers come or go
_SETTLED = 30.0  # seconds between questions while all are there that shall be
_GROWTH = 1.3


async def follow(cluster: ElasticCluster) -> None:
    """Follow the workers of a cluster until cancelled.

    The scheduler, in this process, knows of itself when a worker comes or goes; the backend
    is asked often only while its word and the scheduler's differ.
    """
    loop = asyncio.get_running_loop()
    pause, asked = _FIRST, loop.time()
    before = None
    while True:
        await asyncio.sleep(pause)
        now = (cluster.workers, cluster.observed)
        pause = _FIRST if now != before else min(pause * _GROWTH, _MOST)
        before = now
        if _settled(cluster):
            pause = min(pause, 1.0)
            if loop.time() - asked < _SETTLED:
                continue
        asked = loop.time()
        await _ask(cluster)


def _settled(cluster: ElasticCluster) -> bool:
    count = cluster.marathon_workers.count
    if count.gone:
        return True  # for good: an app of the same name would not be ours
    return (
        cluster.wish is None and not count.waiting and not count.doomed and cluster.plan == cluster.observed
    )


async def _ask(cluster: ElasticCluster) -> None:
    """Read the count, and fulfil a wish that came while the backend was away."""
    trouble = cluster.trouble
    try:
        count = await cluster.marathon_workers.refresh()
        trouble.over("away")
        if cluster.wish is not None and not count.gone:
            await cluster.fulfil(cluster.wish)
    except BackendUnreachable as error:
        trouble.say("away", f"the workers there are work on, scaling waits: {error}")
    except RequestRefused as refusal:
        trouble.say_new("refused", str(refusal))
    except OSError as error:
        trouble.say("scheduler", f"the scheduler cannot be reached: {error}")
    except Exception:
        # Following must outlive an answer that nobody has thought of.
        log.exception("Dask cluster %s: looking after the workers failed", cluster.name)
    else:
        trouble.over("scheduler")
        if count.gone:
            trouble.say("gone", str(cluster.marathon_workers.removed()))
        elif count.failure is not None:
            trouble.say_new("failure", f"a worker ended badly and is replaced: {count.failure.message}")

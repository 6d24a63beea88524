"""Keeps what a cluster knows of its workers true: by events, and by questions where none come."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from hubfleet.api.errors import BackendError, BackendUnreachable, ClientClosed, NotFound, RequestRefused
from hubfleet.api.status import Event
from hubfleet.api.watcher import Watcher

from .counting import task_of
from .crashes import Crashes
from .elastic import ElasticCluster
from .trouble import replaced, why
from .workers import MarathonWorkers

log = logging.getLogger("hubfleet.workers")

_FIRST, _MOST = 0.5, 5.0  # seconds between questions while workers come or go and no events tell of it
_SETTLED = 30.0  # seconds between questions while all are there that shall be
_GROWTH = 1.3
_WORKED = 5.0  # seconds with the scheduler after which a worker's own good end is no sign of trouble
_CRASHED = frozenset({"TASK_FAILED", "TASK_ERROR", "TASK_DROPPED"})


async def follow(cluster: ElasticCluster) -> None:
    """Follow the workers of a cluster until cancelled.

    While the backend's events flow nothing is asked but why instances wait, which no event tells.
    A backend that is away, or gives nobody another stream, is asked: often only while its word and the
    scheduler's differ. The scheduler, in this process, knows of itself when a worker comes or goes.
    """
    workers = cluster.marathon_workers
    # Blindness is told to the user in words of their own.
    group = workers.app_id.rpartition("/")[0]
    watcher = Watcher(workers.marathon, group, log_level=logging.DEBUG)
    changed = asyncio.Event()
    loop = asyncio.get_running_loop()
    crashes = cluster.crashes
    left_well = False

    def observe(app_id: str, event: Event | None) -> None:
        nonlocal left_well
        if app_id != workers.app_id:
            return
        changed.set()
        if event is not None and event.event_type == "status_update_event":
            task, state = event["taskId"], event["taskStatus"]
            worked = crashes.worked(task, loop.time())
            if state in _CRASHED and worked is None and task not in workers.count.doomed:
                crashes.ended(loop.time())
            left_well |= state == "TASK_FINISHED" and worked is not None and worked >= _WORKED

    watcher.observe(observe)
    watcher.start()
    pause, asked = _FIRST, loop.time()
    before = None
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await changed.wait()
            heard = changed.is_set()
            changed.clear()
            if watcher.sighted:
                workers.hear(watcher.lookup(workers.app_id))
            known = {task_of(str(name), workers.options.nworkers) for name in cluster.observed}
            crashes.see(known, workers.count.states.keys(), loop.time())
            if left_well:
                left_well = False  # before the question, during which another one may leave
                if not await _replaced_at_once(workers):
                    left_well = True
            if crashes.hopeless(loop.time()):
                await _give_up(cluster, crashes, len(known & set(workers.count.states)))
            now = (cluster.workers, cluster.observed)
            pause = _FIRST if now != before else min(pause * _GROWTH, _MOST)
            before = now
            if _settled(cluster):
                pause = min(pause, 1.0)
                if not heard and loop.time() - asked < _SETTLED:
                    continue
            asked = loop.time()
            await _look(cluster, watcher)
    finally:
        await watcher.close()


async def _replaced_at_once(workers: MarathonWorkers) -> bool:
    """End the back-off for those who left rightly, as by `client.restart`; say whether it has ended."""
    try:
        await workers.marathon.reset_delay(workers.app_id)
    except NotFound:
        return not workers.count.waiting  # or else they will be waiting in a moment
    except (BackendError, OSError) as error:
        log.info("workers of %s may be held back: %s", workers.app_id, error)
    return True


async def _give_up(cluster: ElasticCluster, crashes: Crashes, alive: int) -> None:
    """Stop workers from being started again and again, and say so."""
    workers = cluster.marathon_workers
    sentence = f"the last {crashes.count} workers ended before they had reached the scheduler"
    if workers.count.failure is not None:
        sentence += f" ({why(workers.count.failure)})"
    cluster.wish = None
    try:
        await workers.give_up(alive, sentence)
    except (BackendError, OSError) as error:
        log.info("Dask cluster %s: tried again in a moment: %s", cluster.name, error)
        return
    crashes.count = 0
    workers.tell(f"{workers.limit}; mend it, and scale again")


def _settled(cluster: ElasticCluster) -> bool:
    count = cluster.marathon_workers.count
    if count.gone:
        return True  # for good: an app of the same name would not be ours
    return (
        cluster.wish is None and not count.waiting and not count.doomed and cluster.plan == cluster.observed
    )


async def _look(cluster: ElasticCluster, watcher: Watcher) -> None:
    """Read the count where no events tell it, and fulfil a wish that came while the backend was away."""
    trouble = cluster.trouble
    try:
        workers = cluster.marathon_workers
        # An app that the events do not know is asked for before it is called gone.
        unknown = not watcher.sighted or watcher.lookup(workers.app_id) is None
        count = await workers.refresh() if unknown else workers.count
        trouble.over("away")
        if cluster.wish is not None and not count.gone:
            await cluster.fulfil(cluster.wish)
        await cluster.look_why()
    except BackendUnreachable as error:
        trouble.say("away", f"the workers there are work on, scaling waits: {error}")
    except RequestRefused as refusal:
        trouble.say_new("refused", str(refusal))
    except OSError as error:
        trouble.say("scheduler", f"the scheduler cannot be reached: {error}")
    except ClientClosed:
        pass  # a script has come to its end, and the cluster ends with it
    except Exception:
        # Following must outlive an answer that nobody has thought of.
        log.exception("Dask cluster %s: looking after the workers failed", cluster.name)
    else:
        trouble.over("scheduler")
        if count.gone:
            trouble.say("gone", str(workers.removed()))
        elif count.failure is not None:
            trouble.say_new("failure", replaced(count.failure))

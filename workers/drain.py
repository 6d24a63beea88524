"""What runs inside a worker so that scaling loses nothing: a preload for ``dask worker``.

``dask worker`` on SIGTERM ends at once, and the results that only it held are lost
(distributed 2026.8, ``cli/dask_worker.py``). With ``--preload hubfleet.workers.drain``, and with a
nanny ``--preload-nanny hubfleet.workers.drain`` too, it lets running tasks end for a while, hands
its results to the other workers, and exits with code 0. SIGINT is left as it is.

This module imports nothing of hubfleet: every worker pays for what stands here.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from distributed import Nanny
from distributed.core import Status

if TYPE_CHECKING:
    from distributed import Worker

log = logging.getLogger("distributed.worker.drain")

DRAIN_SECONDS = 25.0
"""How long a worker may take to hand over its results, if need be to one that comes only now."""

RUN_SECONDS = 5.0
"""How much of that running tasks may take to end; after it they start anew elsewhere."""

CLOSE_SECONDS = 2.0
"""How long a worker may take to close after that."""

_LOOK_SECONDS = 0.1
_served: list[Worker | Nanny] = []
_draining: set[asyncio.Task[None]] = set()


async def dask_setup(server: Worker | Nanny) -> None:
    """Take over SIGTERM; called by distributed when the worker, or the nanny, has started."""
    # One process may hold several nannies; a nanny that starts its worker anew is still the same one.
    _served[:] = [other for other in _served if other is not server] + [server]

    def begin() -> None:
        if _draining:
            return
        for each in _served:
            ending = drain_nanny(each) if isinstance(each, Nanny) else drain(each)
            task = asyncio.get_running_loop().create_task(ending, name="drain")
            _draining.add(task)
            task.add_done_callback(_draining.discard)

    # What a task printed is to be read also when the worker is killed a moment later.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)

    # The command line's own handlers are in place by now: it sets them before it starts the worker.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, begin)


async def drain(worker: Worker) -> None:
    """Hand over results and tasks to the other workers, then close.

    Not `Worker.close_gracefully`: on a worker that the scheduler has retired already
    that one waits for an end which nobody brings about.
    """
    joined = worker.status != Status.init
    await _while(lambda: _works(worker), _hand_over(worker.scheduler, worker.address, worker))
    # What still runs has been given to others by now, or nobody wants it: it ends with the process.
    closing = asyncio.create_task(worker.close(executor_wait=False, reason="SIGTERM"), name="close")
    done, _ = await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
    if not done or not joined:
        # The scheduler had dismissed this worker before, and that close waits for running tasks; or
        # the worker has not found a scheduler, and would look for one although it is closed.
        log.info("%s ends; nobody waits for what may run on it", worker.address_safe)
        logging.shutdown()
        os._exit(0)


async def drain_nanny(nanny: Nanny) -> None:
    """Hand over what the nanny's worker has, then close both."""
    process = nanny.process
    if process is not None and process.status == Status.starting:
        # It cannot be told to end yet, and it is given work as soon as the scheduler knows it.
        log.info("SIGTERM: the worker of %s is just starting", nanny.address_safe)
        await process.running.wait()
    if nanny.worker_address:
        handing = _hand_over(nanny.scheduler, nanny.worker_address, None)
        await _while(lambda: nanny.status in (Status.init, Status.running), handing)
    await nanny.close(timeout=CLOSE_SECONDS, reason="SIGTERM")


async def _while(works: Callable[[], bool], handing_over: Coroutine[Any, Any, None]) -> None:
    """Hand over for as long as a worker works.

    One whose scheduler has ended closes by itself; a question that is on its way then would look for the
    scheduler for half a minute.
    """
    handing = asyncio.create_task(handing_over, name="hand over")
    while works() and not handing.done():
        await asyncio.wait({handing}, timeout=_LOOK_SECONDS)
    handing.cancel()
    await asyncio.wait({handing})


async def _hand_over(scheduler: Any, address: str, here: Worker | None) -> None:
    """Let running tasks end, and move results and all other tasks to other workers."""
    log.info("SIGTERM: handing over the results of %s", address)
    stimulus = f"sigterm-{address}"
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            while True:
                await scheduler.retire_workers(
                    workers=[address], close_workers=False, remove=False, stimulus_id=stimulus
                )
                await _until_idle(scheduler, address, here)
                # What has ended meanwhile left its result behind. Tasks that still run are no longer ours.
                handed_over = await scheduler.retire_workers(
                    workers=[address], close_workers=False, remove=True, stimulus_id=stimulus
                )
                if address in handed_over or not await _another_comes(scheduler, address):
                    break
    except TimeoutError:
        log.warning("the results were not handed over within %.0f s; ending without", DRAIN_SECONDS)
    except OSError as error:  # CommClosedError is one
        log.info("nobody to hand the results to: %s", error)


async def _another_comes(scheduler: Any, address: str) -> bool:
    """Wait for another worker; return False if the scheduler does not know this one any more."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        there = await scheduler.ncores()
        if address not in there or len(there) > 1:
            return address in there


async def _until_idle(scheduler: Any, address: str, here: Worker | None) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + RUN_SECONDS
    while loop.time() < deadline and (here is None or _works(here)):
        if here is not None:
            give_back(here)
        try:
            processing = await scheduler.processing(workers=[address])
        except KeyError:
            return  # the scheduler has dismissed this worker
        if not processing.get(address):
            return
        await asyncio.sleep(_LOOK_SECONDS)


def _works(worker: Worker) -> bool:
    return worker.status in (Status.running, Status.paused, Status.closing_gracefully)


def give_back(dask_worker: Worker) -> None:
    """Give the tasks that wait on this worker back to the scheduler; what runs goes on.

    A retired worker starts nothing more, and the scheduler does not take back what it sent
    before: such tasks would wait for ever.
    """
    if dask_worker.status == Status.running:
        # The scheduler's own word is on its way; until it comes, nothing may start here.
        dask_worker.status = Status.closing_gracefully
    for task in list(dask_worker.state.tasks.values()):
        if task.state in ("waiting", "ready", "constrained") and task.run_spec is not None:
            dask_worker.batched_send(
                {"op": "reschedule", "key": task.key, "stimulus_id": f"give-back-{dask_worker.name}"}
            )


def resume(dask_worker: Worker) -> None:
    """Make a retired worker take tasks again."""
    if dask_worker.status == Status.closing_gracefully:
        dask_worker.status = Status.running

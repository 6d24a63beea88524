"""What runs inside a worker so that scaling loses nothing: a preload for ``dask worker``.

``dask worker`` on SIGTERM ends at once, and the results that only it held are lost
(distributed 2026.8, ``cli/dask_worker.py``). With ``--preload hubfleet.workers.drain`` it hands
them to the other workers first, and exits with code 0. SIGINT is left as it is.

This module imports nothing of hubfleet: every worker pays for what stands here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING

from distributed.core import Status

if TYPE_CHECKING:
    from distributed import Worker

log = logging.getLogger("distributed.worker.drain")

DRAIN_SECONDS = 25.0
"""How long a worker may take to hand over its results before it ends without."""

CLOSE_SECONDS = 2.0
"""How long a worker may take to close after that."""

_draining: set[asyncio.Task[None]] = set()


async def dask_setup(worker: Worker) -> None:
    """Take over SIGTERM; called by distributed when the worker has started."""

    def begin() -> None:
        if not _draining:
            task = asyncio.get_running_loop().create_task(drain(worker), name="drain")
            _draining.add(task)
            task.add_done_callback(_draining.discard)

    # The command line's own handlers are in place by now: it sets them before it starts the worker.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, begin)


async def drain(worker: Worker) -> None:
    """Hand over results and tasks to the other workers, then close.

    Not `Worker.close_gracefully`: on a worker that the scheduler has retired already
    that one waits for an end which nobody brings about.
    """
    if worker.status in (Status.running, Status.paused, Status.closing_gracefully):
        log.info("SIGTERM: handing over the results of %s", worker.address)
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await worker.scheduler.retire_workers(
                    workers=[worker.address],
                    close_workers=False,
                    remove=True,
                    stimulus_id=f"sigterm-{worker.name}",
                )
        except TimeoutError:
            log.warning("the results were not handed over within %.0f s; ending without", DRAIN_SECONDS)
        except OSError as error:  # CommClosedError is one
            log.info("nobody to hand the results to: %s", error)
    # What still runs has been given to others by now, or nobody wants it: it ends with the process.
    closing = asyncio.create_task(worker.close(executor_wait=False, reason="SIGTERM"), name="close")
    done, _ = await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
    if not done:
        # The scheduler had dismissed this worker before, and that close waits for running tasks.
        log.info("%s ends while tasks run on it that nobody waits for", worker.address_safe)
        logging.shutdown()
        os._exit(0)


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

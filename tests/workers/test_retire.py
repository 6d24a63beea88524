"""Workers that were to leave and stay, as their results have no other place."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from distributed import Client, Scheduler, Worker, rpc
from distributed.core import Status

from hubfleet.workers import retire

from .conftest import until


async def test_a_worker_that_stays_works_on_however_late_it_hears_that_it_was_to_leave() -> None:
    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler,
        Worker(scheduler.address, nthreads=1, name="only") as worker,
        Client(scheduler.address, asynchronous=True) as client,
        rpc(scheduler.address) as asked,
    ):
        heard = worker.stream_handlers["worker-status-change"]

        def hear_late(**word: Any) -> None:
            asyncio.get_running_loop().call_later(0.05, partial(heard, **word))

        worker.stream_handlers["worker-status-change"] = hear_late
        result = client.submit(time.sleep, 0.3)
        await until(lambda: worker.state.executing_count)
        # It is retired, as it holds nothing yet; then it holds a result, which no other can take.
        drained = await retire.drain(asked, ["only"], {"only": [worker.address]}, seconds=60, force=True)
        assert not drained.tasks
        assert "could-not-retire" in str(scheduler.get_events("all"))
        await result
        worker.stream_handlers["worker-status-change"] = heard
        await asyncio.sleep(0.1)  # what is late has come by now
        assert worker.status == Status.running
        assert len(scheduler.running) == 1
        assert await client.submit(sum, [1, 2]) == 3

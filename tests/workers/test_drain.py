"""SIGTERM to a worker: what it alone holds goes to the others, and it ends with code 0."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from distributed import Client, Scheduler, Worker
from distributed.core import Status

from hubfleet.workers.drain import drain

from .conftest import Runs, until

pytestmark = pytest.mark.long

END_SECONDS = 100.0
"""How long a test waits for the end of a worker; what a worker must not wait for takes longer."""

PATIENT = """
from hubfleet.workers import drain
drain.DRAIN_SECONDS = 200.0  # in which, on a busy machine, another worker starts
drain.RUN_SECONDS = {run_seconds}
"""


class Workers:
    """A real scheduler here, and real `dask worker` processes beside it."""

    def __init__(self, scheduler: Scheduler, folder: Path) -> None:
        self.scheduler = scheduler
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self, name: str, *preload: str, nanny: bool = False, run_seconds: float = 200.0) -> None:
        """Start a worker with these preloads, one of which may be `hubfleet.workers.drain`."""
        patient = self.folder / f"patient_{name}.py"
        patient.write_text(PATIENT.format(run_seconds=run_seconds))
        options = [f"--preload={each}" for each in (str(patient), *preload)]
        if nanny:
            options += [f"--preload-nanny={each}" for each in (str(patient), "hubfleet.workers.drain")]
        self.processes[name] = subprocess.Popen(
            [
                *(sys.executable, "-m", "distributed.cli.dask_worker", self.scheduler.address),
                *("--nanny" if nanny else "--no-nanny", "--no-dashboard", "--nthreads=1", f"--name={name}"),
                *("--host=127.0.0.1", f"--local-directory={self.folder}", "--death-timeout=100", *options),
            ],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / f"{name}.log").open("wb"),
            env={
                **os.environ,
                "DASK_DISTRIBUTED__WORKER__DAEMON": "False",
                "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "300s",
            },
        )

    async def add(self, name: str, *, drains: bool = True, nanny: bool = False, **patience: float) -> None:
        self.begin(name, *(["hubfleet.workers.drain"] if drains else []), nanny=nanny, **patience)
        # Registered is not enough: a task that prefers another one, and finds none that runs, waits for it.
        await until(lambda: self.takes_tasks(name), what=f"worker {name}")

    async def ends(self, name: str) -> int:
        return await asyncio.to_thread(self.processes[name].wait, END_SECONDS)

    async def terminate(self, name: str) -> int:
        self.processes[name].send_signal(signal.SIGTERM)
        return await self.ends(name)

    def takes_tasks(self, name: str) -> bool:
        return name in {worker.name for worker in self.scheduler.running}

    def log_of(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler:
        started = Workers(scheduler, tmp_path)
        try:
            yield started
        finally:
            for process in started.processes.values():
                process.kill()
                process.wait()


async def fill(client: Client, task: Callable[[int], int], worker: str) -> list[object]:
    """Let one worker alone hold ten results."""
    futures = client.map(task, range(10), workers=[worker], allow_other_workers=True, pure=False)
    await client.gather(futures)
    return list(futures)


async def end_while_nobody_takes_over(
    workers: Workers, client: Client, runs: Runs
) -> tuple[list[object], asyncio.Task[int]]:
    """Fill the only worker and tell it to end; return its results, and its end, which waits for another."""
    futures = await fill(client, runs.counting(), "first")
    workers.processes["first"].send_signal(signal.SIGTERM)
    await until(lambda: "could-not-retire" in str(workers.scheduler.get_events("all")))
    return futures, asyncio.create_task(workers.ends("first"))


@pytest.mark.parametrize("nanny", [False, True], ids=["alone", "behind a nanny"])
async def test_sigterm_hands_over_unique_results_and_exits_with_code_0(
    workers: Workers, runs: Runs, nanny: bool
) -> None:
    await workers.add("first", nanny=nanny)
    async with Client(workers.scheduler.address, asynchronous=True) as client:
        futures = await fill(client, runs.counting(), "first")
        await workers.add("second")
        assert await workers.terminate("first") == 0
        assert await client.gather(futures) == [number * number for number in range(10)]
    assert runs.total() == 10


async def test_without_the_preload_the_results_would_be_lost(workers: Workers, runs: Runs) -> None:
    """The measure of the test above: it must be able to fail."""
    await workers.add("first", drains=False)
    async with Client(workers.scheduler.address, asynchronous=True) as client:
        futures = await fill(client, runs.counting(), "first")
        await workers.add("second", drains=False)
        await workers.terminate("first")
        await until(lambda: runs.total() > len(futures), what="what was lost is computed again")


async def test_a_worker_that_was_retired_before_ends_on_sigterm_too(workers: Workers, runs: Runs) -> None:
    await workers.add("first")
    async with Client(workers.scheduler.address, asynchronous=True) as client:
        futures = await fill(client, runs.counting(), "first")
        await workers.add("second")
        await workers.scheduler.retire_workers(names=["first"], close_workers=False, remove=False)
        assert await workers.terminate("first") == 0
        await client.gather(futures)
    assert runs.total() == 10


async def test_the_only_worker_waits_for_another_to_hand_its_results_to(workers: Workers, runs: Runs) -> None:
    """As when workers that are to stay are late, and the one that came first is not to stay."""
    await workers.add("first")
    async with Client(workers.scheduler.address, asynchronous=True) as client:
        futures, ending = await end_while_nobody_takes_over(workers, client, runs)
        await workers.add("second")
        assert await ending == 0
        assert await client.gather(futures) == [number * number for number in range(10)]
    assert runs.total() == 10


async def test_a_nanny_whose_scheduler_ends_waits_for_nobody(workers: Workers, runs: Runs) -> None:
    await workers.add("first", nanny=True)
    async with Client(workers.scheduler.address, asynchronous=True) as client:
        futures, ending = await end_while_nobody_takes_over(workers, client, runs)
        del futures
    await workers.scheduler.close()
    assert await ending == 0


LATE = """
import time
from pathlib import Path

def dask_setup(worker):
    Path("{begun}").touch()
    while not Path("{may_come}").exists():
        time.sleep(0.02)
"""


async def test_a_nanny_that_ends_while_its_worker_comes_hands_over_what_that_one_is_given(
    workers: Workers, runs: Runs
) -> None:
    begun, may_come = workers.folder / "begun", workers.folder / "may-come"
    late = workers.folder / "late.py"
    late.write_text(LATE.format(begun=begun, may_come=may_come))
    workers.begin("first", str(late), "hubfleet.workers.drain", nanny=True)
    async with Client(workers.scheduler.address, asynchronous=True) as client:
        future = client.submit(runs.counting(held=True), 3)
        await until(begun.exists, what="the worker starts")
        ending = asyncio.create_task(workers.terminate("first"))
        await until(lambda: "SIGTERM" in workers.log_of("first"), what="the nanny is told to end")
        may_come.touch()
        await until(runs.total, what="the worker is given work at once")
        await workers.add("second")
        runs.let_go()
        assert await ending == 0
        assert await future == 9
    assert runs.total() == 1


async def test_a_short_task_ends_where_it_runs(workers: Workers, runs: Runs) -> None:
    """As on a worker that has come, and was given work, while the backend was told to end it."""
    await workers.add("first")
    async with Client(workers.scheduler.address, asynchronous=True) as client:
        task = runs.counting(held=True)
        futures = [client.submit(task, n, workers=["first"], allow_other_workers=True) for n in range(3)]
        await until(runs.total, what="the first task runs")
        await workers.add("second")
        ending = asyncio.create_task(workers.terminate("first"))
        await until(lambda: not workers.takes_tasks("first"), what="it is about to end")
        await until(lambda: runs.total() == 2, what="what waited behind the first goes on elsewhere")
        runs.let_go()
        assert await ending == 0
        assert await client.gather(futures) == [0, 1, 4]
    assert runs.total() == 3


async def test_a_long_task_starts_anew_elsewhere_and_does_not_hold_up_the_end(
    workers: Workers, runs: Runs
) -> None:
    await workers.add("first", run_seconds=1.0)
    async with Client(workers.scheduler.address, asynchronous=True) as client:
        task = runs.counting(held=True)
        future = client.submit(task, 3, workers=["first"], allow_other_workers=True)
        await until(runs.total, what="the task runs")
        await workers.add("second")
        assert await workers.terminate("first") == 0
        await until(lambda: runs.total() == 2, what="the task runs elsewhere")
        assert workers.scheduler.tasks[future.key].suspicious == 0  # nobody is to blame
        runs.let_go()
        assert await future == 9


async def test_a_worker_whose_scheduler_is_gone_ends_at_once(workers: Workers) -> None:
    await workers.add("first")
    # It sleeps until it can hear of both at once: else it might have left before it is told to end.
    workers.processes["first"].send_signal(signal.SIGSTOP)
    await workers.scheduler.close()
    workers.processes["first"].send_signal(signal.SIGTERM)
    workers.processes["first"].send_signal(signal.SIGCONT)
    assert await workers.ends("first") == 0


async def test_a_worker_that_was_dismissed_before_does_not_wait_for_what_runs(
    workers: Workers, runs: Runs
) -> None:
    """As when a cluster closes: the scheduler says farewell, and then the backend sends SIGTERM."""
    await workers.add("first")
    async with Client(workers.scheduler.address, asynchronous=True) as client:
        future = client.submit(runs.counting(held=True), 3)
        await until(runs.total, what="the task runs")
        await workers.scheduler.close()
        await until(lambda: "scheduler-close" in workers.log_of("first"))
        assert await workers.terminate("first") == 0
        assert "nobody waits for what may run on it" in workers.log_of("first")
        del future


async def test_a_worker_whose_scheduler_ends_while_it_asks_does_not_wait_for_the_answer(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is a worker of this process, which it would end if it took longer to close.
    monkeypatch.setattr("hubfleet.workers.drain.CLOSE_SECONDS", END_SECONDS)
    asked = asyncio.Event()

    async def never(**_: Any) -> None:
        """As a question that looks for a scheduler which is not there any more."""
        asked.set()
        await asyncio.Event().wait()

    async with Worker(workers.scheduler.address, dashboard=False) as worker:
        monkeypatch.setattr(worker.scheduler, "retire_workers", never, raising=False)
        draining = asyncio.create_task(drain(worker))
        await asyncio.wait_for(asked.wait(), END_SECONDS)
        await workers.scheduler.close()
        await asyncio.wait_for(draining, END_SECONDS)
        assert worker.status == Status.closed

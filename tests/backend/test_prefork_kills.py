"""Launcher and template are killed while they fork: no task is lost, runs twice, or leaves anything."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from driving import wait_until
from warm_templates import Warm

from hubfleet.backend.drivers import TaskExit, TaskSpec
from hubfleet.backend.drivers.process import ProcessDriver
from hubfleet.backend.drivers.proctree import MARKER

pytestmark = pytest.mark.long

ROUNDS = int(os.environ.get("HUBFLEET_PREFORK_KILL_ROUNDS", "6"))
TASKS = 6
VICTIMS = ["forked", "launcher", "template", "launcher and template"]

# A console script as any other, but that it tells of each run, and stays.
_PROGRAM = f"""#!{sys.executable}
import sys
from dask.__main__ import main
if __name__ == '__main__':
    import os, time
    runs = os.open("runs", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.write(runs, b"%d " % os.getpid())
    time.sleep(600)
"""


async def test_no_task_is_lost_or_doubled_by_kills_while_it_is_forked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "hubfleet.backend.drivers.process")
    seed = secrets.randbits(32)
    print(f"seed {seed}, {ROUNDS} rounds")
    chance = random.Random(seed)
    program = tmp_path / "dask"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    site = Warm(tmp_path / "state")
    site.home.mkdir()
    kills = 0
    try:
        driver = await site.open()
        for number in range(ROUNDS):
            template = await site.ready(driver)
            specs = [site.worker([str(program), "worker"]) for _ in range(TASKS)]
            starts = [asyncio.create_task(_start(driver, spec, chance.uniform(0, 0.03))) for spec in specs]
            await asyncio.sleep(chance.uniform(0.0, 0.08))
            kills += _kill(driver, template["pid"], VICTIMS[number % len(VICTIMS)])
            pids = await asyncio.gather(*starts)
            for spec, pid in zip(specs, pids, strict=True):
                await _check(driver, spec, pid)
            await _end(driver, specs)
        assert kills > 0
        forked = sum("was forked" in message for message in caplog.messages)
        print(f"{kills} kills, {forked} of {ROUNDS * TASKS} were forked")
        assert forked > 0
    finally:
        await site.close()


async def _start(driver: ProcessDriver, spec: TaskSpec, pause: float) -> int:
    await asyncio.sleep(pause)
    return await driver.start(spec)


def _kill(driver: ProcessDriver, template: int, victims: str) -> int:
    """Kill what is named; return how many processes that were."""
    assert driver.launcher_pid is not None
    pids = {"launcher": [driver.launcher_pid], "template": [template], "forked": []}.get(victims)
    if pids is None:
        pids = [driver.launcher_pid, template]
    if victims == "forked":
        # Those on their way from the template to their program, and those just there.
        with suppress(psutil.Error):
            known = psutil.Process(driver.launcher_pid).children(recursive=True)
            pids = [process.pid for process in known if process.pid != template][:2]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


async def _check(driver: ProcessDriver, spec: TaskSpec, pid: int) -> None:
    """See that a task runs once, or has ended and is not there."""

    async def consistent() -> bool:
        exit_ = (await driver.recover())[spec.task_id]
        file = spec.sandbox / "runs"
        runs = file.read_text().split() if file.exists() else []
        processes = _processes_of(spec.task_id)
        if exit_ is None:
            return runs == [str(pid)] and processes == [pid]
        assert exit_ in (TaskExit(spec.task_id, None, None), TaskExit(spec.task_id, None, signal.SIGKILL))
        return len(runs) <= 1 and not processes

    async with asyncio.timeout(60):
        while not await consistent():
            await asyncio.sleep(0.01)


def _processes_of(task_id: str) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARKER) == task_id:
                found.append(process.pid)
    return found


async def _end(driver: ProcessDriver, specs: list[TaskSpec]) -> None:
    for spec in specs:
        await driver.signal(spec.task_id, signal.SIGKILL)
    async with asyncio.timeout(60):
        while None in [(await driver.recover())[spec.task_id] for spec in specs]:
            await asyncio.sleep(0.01)
    for spec in specs:
        await driver.forget(spec.task_id)
        await wait_until(lambda task_id=spec.task_id: not _processes_of(task_id), "nothing is left")

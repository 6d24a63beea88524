"""Tasks are held to their memory and found wherever they hide: by real control groups, or without them."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import RunningBackend
from driving import DEADLINE, Site, kill_launcher, lives, next_exit, wait_until
from rest import Rest, eventually
from warm_templates import Warm, about

from hubfleet.backend.drivers import TaskExit, TaskSpec
from hubfleet.backend.drivers.isolation.cgroups import Groups
from hubfleet.backend.drivers.isolation.hierarchies import find_groups, sweep_abandoned
from hubfleet.backend.drivers.process import ProcessDriver

HELD = (
    "import sys, time\nprint(1, flush=True)\nheld = []\n"
    "for _ in range(40):\n    held.append(bytearray(b'x' * (4 << 20))); time.sleep(0.02)\n"
    "time.sleep(60)"
)
"""Takes 160 MiB, step by step, and stays."""


def groups_left(state_dir: Path) -> list[str]:
    """Control groups of a state directory's tasks, or of itself."""
    status = state_dir.stat()
    name = f"hubfleet-{status.st_dev:x}-{status.st_ino:x}"
    found = subprocess.run(
        ["find", "/sys/fs/cgroup", "-path", f"*{name}*"], stdout=subprocess.PIPE, check=False
    )
    return found.stdout.decode().split()


async def open_with(site: Site, control_groups: bool) -> ProcessDriver:
    driver = await site.open(control_groups=control_groups)
    if control_groups and "memory" not in driver._client.groups:
        pytest.skip("no control group with a memory controller can be made here")
    return driver


async def exit_of(driver: ProcessDriver, spec: TaskSpec) -> TaskExit:
    async with asyncio.timeout(DEADLINE):
        async for exit_ in driver.exits():
            if exit_.task_id == spec.task_id:
                return exit_
    raise AssertionError("the exits came to an end")


def python(script: str) -> dict[str, Any]:
    return {"command": [sys.executable, "-c", script]}


@pytest.mark.parametrize("control_groups", [True, False], ids=["groups", "guard"])
async def test_a_task_that_takes_too_much_is_ended_with_the_figures_and_its_neighbour_lives(
    site: Site, control_groups: bool
) -> None:
    driver = await open_with(site, control_groups)
    neighbour, greedy = (
        site.spec("neighbour", "exec sleep 60", mem=64),
        site.spec("greedy", "", mem=64, **python(HELD)),
    )
    pid = await driver.start(neighbour)
    await driver.start(greedy)
    ended = await exit_of(driver, greedy)
    assert ended.out_of_memory
    assert ended.reason is not None
    assert ended.message == f"Memory limit exceeded: {ended.reason}"
    figures = re.fullmatch(r"used (\d+) MiB of 64 MiB", ended.reason)
    assert figures is not None
    assert int(figures[1]) >= 64
    assert lives(pid)


@pytest.mark.parametrize("control_groups", [True, False], ids=["groups", "guard"])
async def test_the_whole_task_ends_though_only_a_child_takes_too_much(
    site: Site, control_groups: bool
) -> None:
    driver = await open_with(site, control_groups)
    child = shlex.join([sys.executable, "-c", HELD])
    # The parent goes on without its child, as a notebook server does without a kernel.
    task = site.spec("parent", f"setsid {child} & wait; exec sleep 60", mem=64)
    await driver.start(task)
    ended = await exit_of(driver, task)
    assert (ended.signal, ended.out_of_memory) == (signal.SIGKILL, True)


@pytest.mark.parametrize("control_groups", [True, False], ids=["groups", "guard"])
async def test_a_task_forked_from_a_template_is_held_to_its_memory_too(
    tmp_path: Path, control_groups: bool
) -> None:
    site = Warm(tmp_path / "state")
    site.home.mkdir()
    try:
        driver = await open_with(site, control_groups)
        task = replace(site.worker(PROBE_END="hoard"), mem=160)
        await driver.start(task)
        ended = await exit_of(driver, task)
        assert ended.out_of_memory, ended.message
        assert (await about(driver))["forked"] == 1
    finally:
        await site.close()


@pytest.mark.parametrize("control_groups", [True, False], ids=["groups", "guard"])
async def test_memory_that_processes_share_counts_once(site: Site, control_groups: bool) -> None:
    """Four processes of 40 MiB that share it all are no 160 MiB."""
    driver = await open_with(site, control_groups)
    script = (
        "import os, time, gc\nheld = bytearray(b'x' * (40 << 20)); gc.freeze()\n"
        "for _ in range(3):\n    os.fork() or time.sleep(60)\n"
        "print('all', flush=True); time.sleep(60)"
    )
    task = site.spec("sharing", "", mem=96, **python(script))
    await driver.start(task)
    await wait_until(lambda: (task.sandbox / "stdout").read_bytes(), "all are there")
    seen = time.monotonic()
    while time.monotonic() < seen + 0.8:  # three looks of the guard
        usage = (await driver.stats())[task.task_id]
        await asyncio.sleep(0.05)
    assert usage.processes == 4
    assert usage.rss > 160 << 20
    assert usage.pss is not None
    assert usage.pss < 96 << 20


async def test_no_task_is_held_to_less_than_an_interpreter_needs(site: Site) -> None:
    driver = await open_with(site, True)
    task = site.spec("small", "", mem=1, **python("print('fits')"))
    await driver.start(task)
    assert (await exit_of(driver, task)).exit_code == 0


async def test_memory_is_not_held_where_the_administrator_says_so(site: Site) -> None:
    driver = await site.open(enforce_memory=False)
    task = site.spec("free", "", mem=32, **python("x = bytearray(b'x' * (80 << 20))"))
    await driver.start(task)
    assert (await exit_of(driver, task)).exit_code == 0


@pytest.mark.parametrize("control_groups", [True, False], ids=["groups", "guard"])
async def test_the_limit_holds_for_tasks_of_a_launcher_that_was_killed(
    site: Site, control_groups: bool
) -> None:
    driver = await open_with(site, control_groups)
    script = HELD.replace(
        "print(1, flush=True)", "import os\nwhile not os.path.exists('go'): time.sleep(0.01)"
    )
    task = site.spec("greedy", "", mem=64, **python(script))
    await driver.start(task)
    first = kill_launcher(driver)
    await wait_until(lambda: driver.launcher_pid != first, "a new launcher takes over")
    (task.sandbox / "go").touch()
    ended = await exit_of(driver, task)
    assert ended.out_of_memory
    assert ended.exit_code is None


HIDING = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def hide(depth):
    # Out of the session, away from the parent, and without a trace in the environment.
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            script = f"trap '' TERM; echo $$ >> pids; sleep 6{depth} & echo $! >> pids; wait"
            os.execvpe("sh", ["sh", "-c", script], {"PATH": os.environ["PATH"]})
        os._exit(0)
for depth in range(5):
    hide(depth)
    os.wait()
time.sleep(60)
"""


async def test_what_hides_is_gone_after_a_kill_while_other_tasks_run(site: Site) -> None:
    driver = await site.open()
    if not driver._client.groups:
        pytest.skip("no control group can be made here")
    other = await driver.start(site.spec("other", "exec sleep 60"))
    task = site.spec("hiding", "", **python(HIDING))
    await driver.start(task)
    pids = task.sandbox / "pids"
    await wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 10, "all hide")
    hidden = [int(pid) for pid in pids.read_text().split()]
    assert all(map(lives, hidden))
    # What the last one was hidden by may not have ended yet.
    async with asyncio.timeout(DEADLINE):
        while (await driver.stats())[task.task_id].processes != 11:
            await asyncio.sleep(0.02)
    await driver.signal(task.task_id, signal.SIGTERM)
    await driver.signal(task.task_id, signal.SIGKILL)
    await exit_of(driver, task)
    assert not any(map(lives, hidden))
    assert lives(other)


async def test_what_hides_ends_with_its_task(site: Site) -> None:
    driver = await site.open()
    if not driver._client.groups:
        pytest.skip("no control group can be made here")
    await driver.start(site.spec("other", "exec sleep 60"))
    all_hide = "while not os.path.exists('pids') or len(open('pids').read().split()) < 10: time.sleep(0.01)"
    task = site.spec("hiding", "", **python(HIDING.replace("time.sleep(60)", all_hide)))
    await driver.start(task)
    await exit_of(driver, task)
    hidden = [int(pid) for pid in (task.sandbox / "pids").read_text().split()]
    assert len(hidden) == 10
    assert not any(map(lives, hidden))


async def test_no_control_group_is_left_behind(site: Site) -> None:
    driver = await open_with(site, True)
    task = site.spec("a", "exec sleep 60")
    await driver.start(task)
    assert [path for path in groups_left(site.state_dir) if path.endswith(task.task_id)]
    await driver.signal(task.task_id, signal.SIGKILL)
    await next_exit(driver)
    # Where the kernel was not done with it yet, it is removed a moment later.
    await wait_until(
        lambda: not [path for path in groups_left(site.state_dir) if path.endswith(task.task_id)],
        "the group of the task is removed",
    )
    await driver.forget(task.task_id)
    await driver.close()
    await wait_until(lambda: not groups_left(site.state_dir), "the launcher leaves nothing")


async def test_a_new_launcher_removes_what_a_killed_one_left(site: Site) -> None:
    driver = await open_with(site, True)
    left = Groups(driver._client.groups)
    left.make("left-behind", 1, 64)
    task = site.spec("a", "exec sleep 60")
    await driver.start(task)
    first = kill_launcher(driver)
    await wait_until(lambda: driver.launcher_pid != first, "a new launcher takes over")
    assert not [path for path in groups_left(site.state_dir) if path.endswith("left-behind")]
    assert left.processes(task.task_id)


def test_a_launcher_that_starts_while_others_sweep_has_its_groups(tmp_path: Path) -> None:
    """What it has made, and does not hold yet, looks like what a killed one has left."""
    state = os.open(tmp_path, os.O_PATH)
    usable = find_groups(state, print)
    usable.close()
    ended = threading.Event()

    def sweep() -> None:
        while not ended.is_set():
            sweep_abandoned()

    sweeping = [threading.Thread(target=sweep) for _ in range(2)]
    for each in sweeping:
        each.start()
    try:
        for _ in range(15):
            found = find_groups(state, print)
            assert found.bases == usable.bases
            found.close()
    finally:
        ended.set()
        for each in sweeping:
            each.join()
        os.close(state)


async def test_limits_are_set_as_the_task_asks(site: Site) -> None:
    driver = await open_with(site, True)
    spec = site.spec("a", "ulimit -c; ulimit -Sn; ulimit -Hn; exec sleep 60", mem=100, cpus=0.5)
    await driver.start(spec)
    assert (await driver.stats())[spec.task_id].mem_limit == 100 << 20
    assert Groups(driver._client.groups).limit(spec.task_id) == 100 << 20
    out = await wait_until(
        lambda: len(t := (spec.sandbox / "stdout").read_text().split()) == 3 and t, "it writes"
    )
    core, soft, hard = out
    assert core == "0"
    assert soft == hard


async def test_a_failure_for_memory_is_told_in_a_sentence(backend: RunningBackend, rest: Rest) -> None:
    await rest.create("/neighbour", mem=32)
    await rest.create("/greedy", cmd=shlex.join([sys.executable, "-c", HELD]), mem=48, backoffSeconds=60)

    async def failure() -> Any:
        return (await rest.app("/greedy")).get("lastTaskFailure")

    found = await eventually(failure)
    assert found["state"] == "TASK_FAILED"
    assert found["message"].startswith("Memory limit exceeded: used ")
    assert found["message"].endswith(" MiB of 48 MiB")
    await rest.running("/neighbour")

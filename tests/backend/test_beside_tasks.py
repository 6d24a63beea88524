"""Commands beside tasks, and what tasks use: through the driver, with real processes and a real launcher."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from driving import Site, lives, next_exit, wait_until

from hubfleet.backend.drivers import DriverError, StartRefused, TaskSpec
from hubfleet.backend.drivers.process import ProcessDriver

FOREVER = 60.0


async def running(driver: ProcessDriver, spec: TaskSpec) -> TaskSpec:
    """Start a task that tells on its output when it has come so far."""
    await driver.start(spec)
    await wait_until(lambda: (spec.sandbox / "stdout").read_bytes(), "the task writes")
    return spec


def has_line(file: Path) -> bool:
    """Whether a line is in a file; it is there and empty before that."""
    return file.exists() and file.read_text().endswith("\n")


async def test_a_command_runs_in_the_tasks_place_with_its_environment(site: Site) -> None:
    driver = await site.open()
    environment = {"PATH": "/usr/bin:/bin", "WORD": "said"}
    task = await running(
        driver, site.spec("a", "touch here; echo up; exec sleep 60", environment=environment)
    )
    assert await driver.execute(task, ["sh", "-c", 'test -f here && test "$WORD" = said'], FOREVER) == 0
    assert await driver.execute(task, ["sh", "-c", "exit 7"], FOREVER) == 7
    assert await driver.execute(task, ["sh", "-c", "kill -TERM $$"], FOREVER) == 128 + signal.SIGTERM


async def test_a_command_that_takes_too_long_is_ended_with_all_that_it_started(site: Site) -> None:
    driver = await site.open()
    task = await running(driver, site.spec("a", "echo up; exec sleep 60"))
    command = "set -m; sleep 61 & echo $! > child; trap '' TERM; echo $$ > leader; wait"
    seconds = 0.3
    while not has_line(task.sandbox / "leader"):  # where it does not come so far, it is given more time
        assert await driver.execute(task, ["sh", "-c", command], seconds) is None
        seconds *= 3
    for name in ("child", "leader"):
        pid = int((task.sandbox / name).read_text())
        await wait_until(lambda pid=pid: not lives(pid), f"the {name} ends")
    assert await driver.execute(task, ["true"], FOREVER) == 0


async def test_what_a_command_leaves_in_the_background_is_ended(site: Site) -> None:
    driver = await site.open()
    task = await running(driver, site.spec("a", "echo up; exec sleep 60"))
    assert await driver.execute(task, ["sh", "-c", "sleep 61 & echo $! > child"], FOREVER) == 0
    child = int((task.sandbox / "child").read_text())
    await wait_until(lambda: not lives(child), "the child ends")


async def test_a_command_ends_with_its_task(site: Site) -> None:
    driver = await site.open()
    task = await running(driver, site.spec("a", "echo up; exec sleep 60"))
    command = asyncio.create_task(driver.execute(task, ["sh", "-c", "echo > begun; sleep 61"], FOREVER))
    await wait_until((task.sandbox / "begun").exists, "the command runs")
    await driver.signal(task.task_id, signal.SIGKILL)
    assert await command == 128 + signal.SIGKILL
    assert (await next_exit(driver)).signal == signal.SIGKILL


async def test_a_command_ends_with_the_launcher_and_the_task_does_not(site: Site) -> None:
    driver = await site.open()
    task = await running(driver, site.spec("a", "echo $$ > own; echo up; exec sleep 60"))
    assert await driver.execute(task, ["true"], FOREVER) == 0
    script = "set -m; sleep 61 & echo $! > child; trap '' TERM HUP; echo $$ > leader; wait"
    command = asyncio.create_task(driver.execute(task, ["sh", "-c", script], FOREVER))
    await wait_until(lambda: has_line(task.sandbox / "leader"), "the command runs")
    assert driver.launcher_pid is not None
    os.kill(driver.launcher_pid, signal.SIGKILL)
    for name in ("child", "leader"):
        pid = int((task.sandbox / name).read_text())
        await wait_until(lambda pid=pid: not lives(pid), f"the {name} ends")
    with pytest.raises(DriverError):
        await command
    assert lives(int((task.sandbox / "own").read_text()))


async def test_a_guard_that_is_killed_is_replaced_with_all_that_it_knew(site: Site) -> None:
    driver = await site.open()
    task = await running(driver, site.spec("a", "echo up; exec sleep 60"))
    script = "echo $$ > {}.part; mv {}.part {}; sleep 61; true"
    commands = [asyncio.create_task(driver.execute(task, ["sh", "-c", script.replace("{}", "one")], FOREVER))]
    await wait_until((task.sandbox / "one").exists, "the first command runs")
    launcher = driver.launcher_pid
    assert launcher is not None
    (guard,) = [
        child.pid for child in psutil.Process(launcher).children() if "launcher" in " ".join(child.cmdline())
    ]
    os.kill(guard, signal.SIGKILL)
    await wait_until(lambda: not lives(guard), "the guard ends")
    commands.append(
        asyncio.create_task(driver.execute(task, ["sh", "-c", script.replace("{}", "two")], FOREVER))
    )
    await wait_until((task.sandbox / "two").exists, "the second command runs")
    os.kill(launcher, signal.SIGKILL)
    for name in ("one", "two"):
        pid = int((task.sandbox / name).read_text())
        await wait_until(lambda pid=pid: not lives(pid), f"command {name} ends")
    for end in await asyncio.gather(*commands, return_exceptions=True):
        assert isinstance(end, DriverError)


async def test_the_last_task_ends_although_a_guard_is_there(site: Site) -> None:
    driver = await site.open()
    task = await running(driver, site.spec("a", "echo up; exec sleep 60"))
    assert await driver.execute(task, ["true"], FOREVER) == 0
    children = [child.pid for child in psutil.Process(driver.launcher_pid).children()]
    await driver.signal(task.task_id, signal.SIGKILL)
    assert (await next_exit(driver)).signal == signal.SIGKILL
    assert [lives(pid) for pid in children].count(True) == len(children) - 1, "only the task has ended"


async def test_many_commands_wait_for_each_other_and_hold_nobody_up(site: Site) -> None:
    driver = await site.open()
    task = await running(driver, site.spec("a", "echo up; exec sleep 60"))
    wait = ["sh", "-c", "until [ -e go ]; do sleep 0.2; done"]
    commands = asyncio.gather(*(driver.execute(task, wait, FOREVER) for _ in range(100)))
    await driver.start(site.spec("b", "exec sleep 60"))
    assert not commands.done()
    (task.sandbox / "go").touch()
    assert await commands == [0] * 100


async def test_without_a_program_or_a_task_there_is_a_sentence(site: Site) -> None:
    driver = await site.open()
    task = await running(driver, site.spec("a", "echo up; exec sleep 60"))
    with pytest.raises(StartRefused, match="command not found: no-such-program"):
        await driver.execute(task, ["no-such-program"], FOREVER)
    with pytest.raises(StartRefused, match="does not run"):
        await driver.execute(site.spec("never-started", ""), ["true"], FOREVER)


async def test_a_launcher_of_before_is_not_asked_for_what_it_cannot_do(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await site.open()
    task = await running(driver, site.spec("a", "echo up; exec sleep 60"))
    monkeypatch.setattr(driver._client, "features", frozenset())
    with pytest.raises(DriverError, match="older version"):
        await driver.execute(task, ["true"], FOREVER)


async def test_what_a_task_uses_is_told_and_grows(site: Site) -> None:
    driver = await site.open()
    script = "held = bytearray(64 << 20); print(1, flush=True)\nwhile True: pass"
    busy = site.spec("busy", "", command=[sys.executable, "-c", script])
    await running(driver, busy)
    await running(driver, site.spec("idle", "sleep 60 & echo up; wait"))

    async def used(seconds: float) -> bool:
        return (await driver.stats())[busy.task_id].cpu_seconds >= seconds

    while not await used(0.2):
        await asyncio.sleep(0.02)
    stats = await driver.stats()
    assert set(stats) == {busy.task_id, site.spec("idle", "").task_id}
    usage, idle = stats[busy.task_id], stats[site.spec("idle", "").task_id]
    assert (usage.processes, idle.processes) == (1, 2)
    assert usage.rss > 64 << 20 > idle.rss > 0
    assert usage.pss is not None
    assert 64 << 20 < usage.pss <= usage.rss
    assert usage.oom_kills == 0
    while not await used(usage.cpu_seconds + 0.1):
        await asyncio.sleep(0.02)
    await driver.signal(busy.task_id, signal.SIGKILL)
    await next_exit(driver)
    assert busy.task_id not in await driver.stats()

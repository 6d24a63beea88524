"""Tasks forked from a template are what they would be, had they been executed."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from driving import Site, kill_launcher, lives, wait_until
from warm_templates import BASE, PROBE, PYTHON, WORDS, Warm, about, run

from hubfleet.backend.drivers import DriverError, Mount, TaskExit, TaskSpec
from hubfleet.backend.drivers.process import ProcessDriver

LINE = (
    f"mkdir -p -m 0700 -- \"$HOME\"/'a b' && cd -- \"$HOME\"/'a b' && exec python -m"
    f' distributed.cli.dask_worker "$ADDRESS" --no-nanny --no-dashboard --name=$NAME --preload {PROBE}'
)


@pytest.fixture(scope="module")
def warm_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One state directory, whose launcher and templates live on from test to test."""
    folder = tmp_path_factory.mktemp("warm")
    folder.chmod(0o755)
    (folder / "home").mkdir()
    return folder / "state"


@pytest.fixture
async def warm(warm_state: Path) -> AsyncIterator[Warm]:
    site = Warm(warm_state)
    yield site
    for driver in site.drivers:
        await driver.close()


async def probe(driver: ProcessDriver, spec: TaskSpec) -> dict[str, Any]:
    exit_, said, complained = await run(driver, spec)
    assert exit_.exit_code == 0, complained
    # What names the task is made the same.
    found: dict[str, Any] = json.loads(said.replace(spec.task_id, "TASK"))
    return found


@pytest.mark.parametrize(
    ("command", "changes"),
    [
        pytest.param(None, {}, id="by itself"),
        pytest.param(["/bin/sh", "-c", LINE], {"ADDRESS": "tcp://127.0.0.1:9", "NAME": "x"}, id="in a line"),
        pytest.param(["dask", "worker", *WORDS], {}, id="a console script"),
        pytest.param(
            ["python", *PYTHON[1:], *WORDS],
            {"DASK_DISTRIBUTED__WORKER__MEMORY__TARGET": "0.1", "TZ": "Asia/Tokyo", "ODD": "a b\nc\udc80=d"},
            id="with a configuration",
        ),
    ],
)
async def test_a_program_cannot_tell_whether_it_was_forked_or_executed(
    warm: Warm, command: list[str] | None, changes: dict[str, str]
) -> None:
    driver = await warm.open()
    before = await about(driver)
    executed = await probe(driver, warm.worker(command, prefork=False, **changes))
    forked = await probe(driver, warm.worker(command, **changes))
    again = await probe(driver, warm.worker(command, **changes))
    after = await about(driver)
    assert after["forked"] == before["forked"] + 2, after
    differ = {
        name: (value, forked["same"][name])
        for name, value in executed["same"].items()
        if forked["same"][name] != value
    }
    assert not differ, json.dumps(differ, indent=1)[:6000]
    for name, value in forked["different"].items():
        assert value not in (executed["different"][name], again["different"][name]), name


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("0", (0, None)),
        ("3", (3, None)),
        ("SIGTERM", (None, 15)),
        ("SIGKILL", (None, 9)),
        ("raise", (1, None)),
    ],
)
async def test_the_end_of_a_forked_task_is_known_as_that_of_another(
    warm: Warm, end: str, expected: tuple[Any, Any]
) -> None:
    driver = await warm.open()
    before = await about(driver)
    said = []
    for prefork in (False, True):
        exit_, _, complained = await run(driver, warm.worker(prefork=prefork, PROBE_END=end))
        assert (exit_.exit_code, exit_.signal) == expected
        said.append([line for line in complained.splitlines() if "Error" in line or "File" in line])
    assert said[0] == said[1]
    assert (await about(driver))["forked"] == before["forked"] + 1


UNUSUAL = {
    "PYTHONPATH": "/tmp",
    "PYTHONUNBUFFERED": "1",
    "PYTHONHASHSEED": "0",
    "LD_PRELOAD": "",
    "LANG": "C",
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "2",
    "MALLOC_TRIM_THRESHOLD_": None,
    "DASK_DISTRIBUTED__COMM__OFFLOAD": "1MiB",
    "DASK_LOGGING__DISTRIBUTED": "debug",
    "TORNADO_EXTENSION": "0",
    "SSL_CERT_DIR": "/tmp",
    "SSLKEYLOGFILE": "/dev/null",
}


@pytest.mark.parametrize("name", UNUSUAL)
async def test_a_task_whose_environment_is_read_at_import_is_executed(warm: Warm, name: str) -> None:
    driver = await warm.open()
    before = await about(driver)
    found = await probe(driver, warm.worker(**{name: UNUSUAL[name]}))
    assert found["same"]["environ"].get(name) == UNUSUAL[name]
    after = await about(driver)
    assert (after["forked"], after["executed"]) == (before["forked"], before["executed"] + 1)
    assert after["reason"]


async def test_what_the_backend_or_the_app_forbids_is_executed(warm: Warm) -> None:
    driver = await warm.open()
    before = await about(driver)
    await probe(driver, warm.worker(prefork=False))
    assert await about(driver) == before
    cold = await Site.open(warm, prefork=False)
    await probe(cold, warm.worker())
    assert (await about(cold))["pid"] is None


async def test_another_python_is_executed(warm: Warm, tmp_path: Path) -> None:
    driver = await warm.open()
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    wrapper = tmp_path / "dask"
    wrapper.write_text(f"#!{sys.executable}\nprint('mine')\n")
    wrapper.chmod(0o755)
    before = await about(driver)
    # By this link it is the interpreter without its environment, which has no distributed.
    exit_, _, complained = await run(driver, warm.worker([str(link), *PYTHON[1:], "--help"]))
    assert exit_.exit_code == 1
    assert "No module named" in complained or "Error while finding" in complained
    exit_, said, _ = await run(driver, warm.worker(["dask", "worker"], PATH=f"{tmp_path}:{BASE['PATH']}"))
    assert (exit_.exit_code, said) == (0, "mine\n")
    after = await about(driver)
    assert (after["forked"], after["executed"]) == (before["forked"], before["executed"] + 2)


async def test_a_module_in_the_working_directory_has_precedence_as_ever(warm: Warm) -> None:
    driver = await warm.open()
    spec = warm.worker()
    spec.sandbox.mkdir(parents=True)
    (spec.sandbox / "click.py").write_text("print('mine'); raise SystemExit(7)")
    exit_, said, _ = await run(driver, spec)
    assert (exit_.exit_code, said) == (7, "mine\n")


async def test_what_the_working_directory_says_of_a_package_has_precedence_too(warm: Warm) -> None:
    driver = await warm.open()
    spec = warm.worker()
    told = spec.sandbox / "dask-1.0.dist-info" / "METADATA"
    told.parent.mkdir(parents=True)
    told.write_text("Metadata-Version: 2.1\nName: dask\nVersion: 1.0\n")
    assert (await probe(driver, spec))["same"]["versions"]["packages"]["dask"] == "1.0"


async def test_a_program_that_is_not_there_is_refused_as_ever(warm: Warm) -> None:
    driver = await warm.open()
    exit_, _, complained = await run(
        driver, warm.worker(["/bin/sh", "-c", LINE], PATH="/nowhere", ADDRESS="a", NAME="b")
    )
    assert exit_.exit_code == 127
    assert "not found" in complained


STAYS = ["/bin/sh", "-c", f"exec python -m distributed.cli.dask_worker tcp://127.0.0.1:9 --preload {PROBE}"]
"""A worker that the probe lets sleep; with a nanny, as is the default."""


async def stay(warm: Warm, driver: ProcessDriver, **changes: Any) -> tuple[TaskSpec, int]:
    """Start a task that has been forked and runs until it is ended."""
    spec = warm.worker(STAYS, PROBE_END="stay", **changes)
    before = await about(driver)
    pid = await driver.start(spec)
    await wait_until(lambda: (spec.sandbox / "stdout").read_text(), "the probe runs")
    assert (await about(driver))["forked"] == before["forked"] + 1
    return spec, pid


async def kill_task(driver: ProcessDriver, spec: TaskSpec) -> None:
    """Kill a task whose launcher has just died: a signal that it may not have taken is not sent again."""
    async with asyncio.timeout(90):
        while True:
            try:
                return await driver.signal(spec.task_id, signal.SIGKILL)
            except DriverError:
                await asyncio.sleep(0.05)


async def end_of(driver: ProcessDriver, spec: TaskSpec) -> TaskExit:
    async with asyncio.timeout(90):
        async for exit_ in driver.exits():
            if exit_.task_id == spec.task_id:
                return exit_
    raise AssertionError("the exits came to an end")


async def test_a_forked_task_outlives_its_template_backend_and_launcher(tmp_path: Path) -> None:
    site = Warm(tmp_path / "state")
    site.home.mkdir()
    try:
        driver = await site.open()
        spec, pid = await stay(site, driver)
        template = (await about(driver))["pid"]
        os.kill(template, signal.SIGKILL)
        await wait_until(lambda: not lives(template), "the template is gone")
        launcher = kill_launcher(driver)
        await wait_until(lambda: not lives(launcher), "the launcher is gone")
        await driver.close()
        assert lives(pid)
        later = await site.open()
        assert await later.recover() == {spec.task_id: None}
        template = (await about(later))["pid"]
        # The next launcher's own: killed with it, it leaves nothing behind.
        kill_launcher(later)
        await wait_until(lambda: not lives(template), "the template ends with its launcher")
        await kill_task(later, spec)
        assert await end_of(later, spec) == TaskExit(spec.task_id, None, None)
    finally:
        await site.close()


async def test_the_exit_of_a_forked_task_while_no_backend_ran_is_known_afterwards(warm: Warm) -> None:
    driver = await warm.open()
    spec, pid = await stay(warm, driver)
    await driver.close()
    os.kill(pid, signal.SIGUSR1)
    await wait_until(lambda: not lives(pid), "the task ends")
    later = await warm.open()
    assert await end_of(later, spec) == TaskExit(spec.task_id, None, signal.SIGUSR1)
    await later.forget(spec.task_id)


async def test_what_a_forked_task_leaves_behind_is_swept_and_its_template_is_not(warm: Warm) -> None:
    driver = await warm.open()
    spec, pid = await stay(warm, driver, PROBE_CHILD="1")
    child = int((spec.sandbox / "child").read_text())
    template = (await about(driver))["pid"]
    os.kill(pid, signal.SIGKILL)
    assert await end_of(driver, spec) == TaskExit(spec.task_id, None, signal.SIGKILL)
    assert not lives(child)
    assert (await about(driver))["pid"] == template
    assert lives(template)
    await driver.forget(spec.task_id)


async def test_a_template_that_is_killed_is_made_again(warm: Warm) -> None:
    driver = await warm.open()
    template = (await about(driver))["pid"]
    os.kill(template, signal.SIGKILL)
    await wait_until(lambda: not lives(template), "the template is gone")

    async def is_back() -> bool:
        # Whoever starts meanwhile is executed, and does not wait.
        await probe(driver, warm.worker())
        return bool((await about(driver))["ready"])

    async with asyncio.timeout(90):
        while not await is_back():
            await asyncio.sleep(0.05)
    assert (await about(driver))["pid"] != template


async def test_a_hanging_template_holds_no_task_up_for_long(warm: Warm) -> None:
    driver = await warm.open()
    template = (await about(driver))["pid"]
    os.kill(template, signal.SIGSTOP)
    spec = warm.worker()
    started = asyncio.create_task(driver.start(spec))
    while spec.task_id not in await driver.recover():
        # To ask what there is settles it at once: whoever asks is told of all.
        await asyncio.sleep(0.01)
    await started
    assert (await end_of(driver, spec)).exit_code == 0
    await driver.forget(spec.task_id)
    hung = warm.worker()
    await driver.start(hung)
    assert (await end_of(driver, hung)).exit_code == 0
    await driver.forget(hung.task_id)
    await wait_until(lambda: not lives(template), "the template that hangs is ended")


async def test_a_template_is_made_again_when_a_package_changes(tmp_path: Path) -> None:
    """A package of this test alone: templates of other tests know those of the environment."""
    site = Warm(tmp_path / "state")
    site.home.mkdir()
    module = tmp_path / "packages" / "sitecustomize.py"  # which every Python imports
    module.parent.mkdir()
    module.touch()
    environment = {**BASE, "PYTHONPATH": str(module.parent)}
    try:
        driver = await site.open(environment=environment)
        before = await about(driver)
        await probe(driver, site.worker(**environment))
        assert (await about(driver))["forked"] == before["forked"] + 1
        os.utime(module, ns=(0, module.stat().st_mtime_ns + 1))
        async with asyncio.timeout(90):
            while not (found := await about(driver))["ready"] or found["pid"] == before["pid"]:
                await asyncio.sleep(0.02)
                await probe(driver, site.worker(**environment))
    finally:
        await site.close()


async def test_the_template_knows_nothing_of_a_task(warm: Warm) -> None:
    driver = await warm.open()
    spec, _ = await stay(warm, driver, SECRET="told-to-one-task-only")
    template = (await about(driver))["pid"]
    for part in ("environ", "cmdline"):
        assert b"told-to-one" not in Path(f"/proc/{template}/{part}").read_bytes()
    assert len(os.listdir(f"/proc/{template}/task")) == 1
    # The task may be there before its template has let go of what it was given for it.
    await wait_until(lambda: len(os.listdir(f"/proc/{template}/fd")) == 4, "nothing else is open")
    assert b"told-to-one-task-only" not in memory_of(template)
    await driver.signal(spec.task_id, signal.SIGKILL)
    await end_of(driver, spec)
    await driver.forget(spec.task_id)


def memory_of(pid: int) -> bytes:
    """Return what a process has written to its memory since it was started."""
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as memory:
        for line in maps:
            addresses, access, *_ = line.split()
            if access.startswith("rw"):
                start, end = (int(address, 16) for address in addresses.split("-"))
                memory.seek(start)
                found.append(memory.read(end - start))
    return b"".join(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change accounts")
async def test_another_account_is_given_the_same_or_the_same_refusal(warm: Warm) -> None:
    driver = await warm.open()
    pwd.getpwnam("nobody")
    ends: list[object] = []
    for prefork in (False, True):
        spec = warm.worker(user="nobody", prefork=prefork, HOME="/nonexistent")
        try:
            exit_, said, complained = await run(driver, spec)
        except DriverError as error:
            ends.append(str(error))
        else:
            found = json.loads(said.replace(spec.task_id, "TASK"))["same"] if said else complained
            ends.append((exit_.exit_code, found))
    assert ends[0] == ends[1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
async def test_a_task_with_volumes_is_forked_into_its_own_view(warm: Warm, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the host")
    driver = await warm.open()
    before = await about(driver)
    mount = Mount(str(tmp_path), "volume", read_only=True)
    executed = await probe(driver, warm.worker(mounts=[mount], prefork=False))
    forked = await probe(driver, warm.worker(mounts=[mount]))
    assert executed["same"] == forked["same"]
    assert (await about(driver))["forked"] == before["forked"] + 1

"""Templates that die, hang or lie: every task starts all the same, and the launcher lives."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from driving import Site, lives, wait_until

from hubfleet.backend.drivers import TaskExit, TaskSpec, Template
from hubfleet.backend.drivers.process import ProcessDriver

# In place of an interpreter; what it does instead of being a template is in {act}.
_LIAR = """#!{python} -I
import os, signal, socket, sys, time
home, kind, descriptor, launcher, layout = sys.argv[3:]
line = socket.socket(fileno=int(descriptor))
def asked():
    message, descriptors, _, _ = socket.recv_fds(line, 16, 2)
    if not message:
        os._exit(0)
    return socket.socket(fileno=descriptors[0]), descriptors[1]
def ready():
    line.send(b'{{"ready": true}}')
{act}
"""

_ACTS = {
    "sends what is no text": "line.send(bytes(range(128, 256))); time.sleep(60)",
    "sends what is no object": "line.send(b'[[1]]'); time.sleep(60)",
    "sends a deep text": "line.send(b'[' * 60000); time.sleep(60)",
    "sends an odd reason": "line.send(b'{\"unfit\": [1, 2]}'); time.sleep(60)",
    "ends": "sys.exit(3)",
    "is killed": "os.kill(os.getpid(), signal.SIGKILL)",
    "is ready and ends": "ready()",
    "is ready and then talks nonsense": "ready(); asked(); line.send(b'nonsense'); time.sleep(60)",
    "forks nothing": "ready()\nwhile True: asked()",
    "dies of a request": "ready(); asked(); os.kill(os.getpid(), signal.SIGKILL)",
    "tells no number": "ready()\nwhile True: asked()[0].send(b'myself')",
    "tells no process": "ready()\nwhile True: asked()[0].send(b'999999999999999')",
    "tells the launcher": "ready()\nwhile True: asked()[0].send(launcher.encode())",
    "tells the first process": "ready()\nwhile True: asked()[0].send(b'1')",
    "tells itself": "ready()\nwhile True: asked()[0].send(str(os.getpid()).encode())",
    "tells another task": "ready()\nwhile True: asked()[0].send(open('{other}').read().encode())",
    "tells its own child": (
        "ready()\nwhile True:\n    gate, _ = asked()\n    pid = os.fork()\n"
        "    if pid == 0: time.sleep(60)\n    gate.send(str(pid).encode())"
    ),
}


class Lied(Site):
    """A site whose interpreter, as far as templates go, is a liar."""

    async def open_with(self, act: str, monkeypatch: pytest.MonkeyPatch) -> ProcessDriver:
        folder = self.state_dir.parent
        liar = folder / "python"
        liar.write_text(
            _LIAR.format(python=sys.executable, act=act.replace("{other}", str(folder / "other")))
        )
        liar.chmod(0o755)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(liar))
            driver = self.driver(warm=["worker"])
        await driver.open()
        return driver

    def worker(self, name: str, script: str) -> TaskSpec:
        """Return a task that a template would be asked for."""
        program = self.state_dir.parent / "dask"
        if not program.exists():
            program.write_text('#!/bin/sh\nexec /bin/sh -c "$2"\n')
            program.chmod(0o755)
        spec = self.spec(name, "")
        return replace(spec, command=[str(program), "worker", script])


@pytest.fixture
async def lied(tmp_path: Path) -> AsyncIterator[Lied]:
    site = Lied(tmp_path / "state")
    yield site
    await site.close()


@pytest.mark.parametrize("act", _ACTS)
async def test_a_task_starts_whatever_its_template_does(
    lied: Lied, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await lied.open_with(_ACTS[act], monkeypatch)
    launcher = driver.launcher_pid
    assert launcher is not None
    other = lied.spec("other", "exec sleep 60")
    pid = await driver.start(other)
    (lied.state_dir.parent / "other").write_text(str(pid))

    async def template() -> Template:
        return next(found for found in await driver.templates() if found.kind == "worker")

    async with asyncio.timeout(60):
        while not (found := await template()).ready and not found.reason:
            await asyncio.sleep(0.01)
    specs = [lied.worker(f"task{number}", f"exit {number}") for number in range(3)]
    await asyncio.gather(*(driver.start(spec) for spec in specs))
    ends = {}
    async with asyncio.timeout(60):
        async for exit_ in driver.exits():
            ends[exit_.task_id] = exit_
            if len(ends) == len(specs):
                break
    assert ends == {spec.task_id: TaskExit(spec.task_id, number, None) for number, spec in enumerate(specs)}
    found = await template()
    assert found.forked == 0
    # Who only lies of the process was asked for each task.
    assert not act.startswith("tells") or found.cold == 0
    assert lives(launcher)
    assert lives(pid)
    assert (await driver.recover())[other.task_id] is None


async def test_a_template_that_cannot_be_had_is_tried_again_later_and_later(
    lied: Lied, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = lied.state_dir.parent / "tries"
    act = f"open({str(tries)!r}, 'a').write(str(time.monotonic()) + chr(10))"
    await lied.open_with(act, monkeypatch)
    await wait_until(lambda: tries.exists() and tries.read_text().count("\n") >= 3, "there are three tries")
    first, second, third, *_ = map(float, tries.read_text().split())
    assert second - first > 1
    assert third - second > 2


async def test_nobody_who_was_given_up_runs(lied: Lied, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that comes when its task has long been executed is not let in."""
    go, late = lied.state_dir.parent / "go", lied.state_dir.parent / "late"
    act = (
        "ready()\nwhile True:\n    gate, _ = asked()\n"
        f"    while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        "    try:\n        gate.send(str(os.getpid()).encode())\n"
        f"    except OSError as error:\n        open({str(late)!r}, 'w').write(repr(error))"
    )
    driver = await lied.open_with(act, monkeypatch)
    async with asyncio.timeout(60):
        while not (await driver.templates())[-1].ready:
            await asyncio.sleep(0.01)
    spec = lied.worker("task", "exec sleep 60")
    started = asyncio.create_task(driver.start(spec))
    await asyncio.sleep(0)
    while spec.task_id not in await driver.recover():
        await asyncio.sleep(0.01)
    pid = await started
    go.touch()
    await wait_until(lambda: late.exists() and late.read_text(), "the late one is told")
    assert "BrokenPipeError" in late.read_text()
    await driver.signal(spec.task_id, signal.SIGKILL)
    await wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the task is gone")

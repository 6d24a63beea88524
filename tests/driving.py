"""A driver of this machine's processes, for the tests that use it as the orchestrator does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hubfleet.backend.drivers import Driver, TaskExit, TaskSpec
from hubfleet.backend.drivers.launcher import SOCKET
from hubfleet.backend.drivers.process import ProcessDriver
from hubfleet.backend.drivers.proctree import read_process

DEADLINE = 60.0
PATH = "/usr/local/bin:/usr/bin:/bin"


async def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if result := condition():
            return result
        await asyncio.sleep(0.005)
    raise AssertionError(f"not within {DEADLINE} s: {what}")


def lives(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and not process.dead


class Site:
    """A state directory, the drivers that use it, and the tasks of one test."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.name = uuid.uuid4().hex[:8]
        self.drivers: list[ProcessDriver] = []

    def driver(self, **settings: Any) -> ProcessDriver:
        self.drivers.append(ProcessDriver(self.state_dir, **settings))
        return self.drivers[-1]

    async def open(self, **settings: Any) -> ProcessDriver:
        driver = self.driver(**settings)
        await driver.open()
        return driver

    def spec(self, name: str, script: str, **changes: Any) -> TaskSpec:
        task_id = f"{name}.{self.name}"
        sandbox = self.state_dir / "sandboxes" / task_id
        fields = {
            "task_id": task_id,
            "command": ["sh", "-c", script],
            "environment": {"PATH": PATH},
            "sandbox": sandbox,
        }
        return TaskSpec(**{**fields, **changes})

    async def close(self) -> None:
        for driver in self.drivers:
            await driver.close()
        # The launchers last, which leave by themselves but for a second.
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await wait_until(lambda: not self.processes(), "the test's processes end")

    def processes(self) -> list[int]:
        """Return what works below the state directory or was started for it."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid() or not lives(int(entry.name)):
                continue
            try:
                here = (entry / "cwd").readlink().is_relative_to(self.state_dir.parent)
                if here or os.fsencode(self.state_dir) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        return found


async def next_exit(driver: Driver) -> TaskExit:
    async with asyncio.timeout(DEADLINE):
        async for exit_ in driver.exits():
            return exit_
    raise AssertionError("the exits came to an end")


def ask_launcher(state_dir: Path, verb: str) -> Any:
    """Ask the launcher of a state directory for something, beside its backend; return the answer."""
    directory = os.open(state_dir, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"/proc/self/fd/{directory}/{SOCKET}")
            connection.sendall(json.dumps({"id": 1, "verb": verb}).encode() + b"\n")
            with connection.makefile() as answers:
                # Exits are pushed to every client, also between a request and its reply.
                replies = (reply for line in answers if (reply := json.loads(line)).get("id") == 1)
                return next(replies)["ok"]
    finally:
        os.close(directory)


def template_of(state_dir: Path, kind: str) -> dict[str, Any]:
    """Return what there is of a kind of template."""
    found = ask_launcher(state_dir, "templates")["templates"]
    return next(template for template in found if template["kind"] == kind)


def kill_launcher(driver: ProcessDriver) -> int:
    pid = driver.launcher_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return pid

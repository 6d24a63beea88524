"""A real backend for every room's tests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from nursery import Forked, nursery
from ports import backend_ports, free_port

from hubfleet.api.client import Client
from hubfleet.api.errors import BackendError
from hubfleet.backend.drivers.isolation.hierarchies import sweep_abandoned

TOKEN = "an-administrator-of-the-tests"

# Who runs the tests in the background of a shell has SIGINT ignored, and hands that on to all they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

STUBBORN = "trap '' TERM; touch deaf; exec sleep 1000"
LINGERING = "trap '' TERM; touch deaf; until [ -e end ]; do sleep 0.05; done"
"""As `STUBBORN`, but it ends when a test has seen enough of it (`RunningBackend.let_end`)."""


def pytest_configure() -> None:
    """How long an example takes says how busy the machine is, and nothing of what is tested."""
    from hypothesis import HealthCheck, settings  # not above: the benches have this module, and no hypothesis

    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")


def task_id_of(process: psutil.Process) -> str:
    """The task that a process belongs to; empty if it has ended since it was found."""
    with contextlib.suppress(psutil.Error):
        return process.environ().get("MESOS_TASK_ID", "")
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first: what is begun last is waited for alone."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_sessionfinish() -> None:
    """Launchers that tests have killed left their control groups, for which no other launcher will come."""
    sweep_abandoned()


class RunningBackend:
    """A real `hubfleet backend` process on a port of its own, driving real processes."""

    admin_token = TOKEN

    def __init__(self, state_dir: Path, ports: tuple[int, int], **options: str) -> None:
        self.state_dir = state_dir
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ports = ports
        self.options = {"cpus": "64", "mem": "65536", **options}
        self.environment: dict[str, str] = {}
        self.client = Client(self.url, token=TOKEN, timeout=60.0)
        self.process: subprocess.Popen[bytes] | Forked | None = None
        self.log = state_dir.parent / "backend.log"

    async def deaf(self, count: int) -> None:
        """Wait until so many of its tasks that run `STUBBORN` or `LINGERING` do not hear SIGTERM any more."""
        sandboxes = self.state_dir / "sandboxes"
        async with asyncio.timeout(60):
            while len(list(sandboxes.glob("*/deaf"))) < count:
                await asyncio.sleep(0.02)

    def let_end(self, *task_ids: str) -> None:
        """Let tasks end that run `LINGERING`."""
        for task_id in task_ids:
            (self.state_dir / "sandboxes" / task_id / "end").touch()

    def command(self) -> list[str]:
        """The command line that starts it."""
        return [
            *(sys.executable, "-m", "hubfleet.api.cli", "backend", f"--port={self.port}"),
            *(f"--state-dir={self.state_dir}", f"--ports={self.ports[0]}-{self.ports[1]}"),
            *(f"--{name}={value}" for name, value in self.options.items()),
        ]

    def whole_environment(self) -> dict[str, str]:
        """Our own environment without a hub's, and the administrator's token."""
        ours = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JUPYTERHUB", "HUBFLEET"))
        }
        return {**ours, **self.environment, "HUBFLEET_BACKEND_TOKEN": TOKEN}

    def begin(self) -> None:
        """Start the backend without waiting for it."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), env=self.whole_environment(), stdout=log, stderr=log
            )

    async def start(self) -> None:
        """Start the backend, and return when it answers."""
        self.begin()
        assert self.process is not None
        deadline = time.monotonic() + 60
        while True:
            try:
                return await self.client.ping()
            except BackendError:
                assert self.process.poll() is None, f"the backend ended:\n{self.last_words()}"
                assert time.monotonic() < deadline, f"the backend does not answer:\n{self.last_words()}"
                await asyncio.sleep(0.01)

    def last_words(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-4000:]

    async def kill(self) -> None:
        """End the backend as a power cut would; its tasks keep running."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """End the backend as an administrator would; its tasks keep running."""
        await self._end(signal.SIGTERM)

    async def _end(self, signum: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signum)
            await asyncio.to_thread(self.process.wait, 60)

    def processes(self) -> list[psutil.Process]:
        """Every process that works for this backend: tasks, whatever they started, and the launcher."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                told = process.environ().get("MESOS_SANDBOX", "") + " ".join(process.cmdline())
                if str(self.state_dir) in told and (self.process is None or process.pid != self.process.pid):
                    found.append(process)
        return found

    def tasks(self) -> list[psutil.Process]:
        """Every process of a task."""
        found = []
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                if str(self.state_dir) in process.environ().get("MESOS_SANDBOX", ""):
                    found.append(process)
        return found

    async def destroy(self) -> None:
        """End the backend and everything that works for it."""
        await self.kill()
        for _ in range(50):
            processes = self.processes()
            if not processes:
                break
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            await asyncio.sleep(0.02)
        self.client.close()


class WarmBackend(RunningBackend):
    """A `RunningBackend` that is forked from a process which has imported it."""

    def begin(self) -> None:
        """Start the backend without waiting for it."""
        without_interpreter = self.command()[3:]
        self.process = nursery().fork(without_interpreter, self.whole_environment(), self.log)


@pytest.fixture
def port_range() -> tuple[int, int]:
    """Ports for the tasks of one backend, apart from those that the demo uses."""
    return backend_ports()


@pytest.fixture
async def own_backend(tmp_path: Path, port_range: tuple[int, int]) -> AsyncIterator[RunningBackend]:
    """A backend that no other test has had, or will have."""
    running = WarmBackend(tmp_path / "state", port_range)
    try:
        await running.start()
        yield running
    finally:
        await running.destroy()


@pytest.fixture
def backend(own_backend: RunningBackend) -> RunningBackend:
    """The backend of a test; a room whose tests can share one has its own idea of it."""
    return own_backend

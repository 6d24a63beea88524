"""Clusters on a real backend, and how their tests wait."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import RunningBackend, task_id_of
from kept import Kept
from sites import Site, site_for_one

from hubfleet.workers import MarathonCluster

GROUP = "/jupyter/alice/dask"


async def until(condition: Callable[[], Any], seconds: float = 100.0, what: str = "") -> Any:
    """Wait until a condition holds, and return what it returned."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what or condition}"
        await asyncio.sleep(0.02)


class Runs:
    """Counts how often each task really ran: every run leaves a file behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._gate = folder.with_name(f"{folder.name}-may-end")

    def counting(self, pause: float = 0.0, *, held: bool = False) -> Callable[[int], int]:
        """Return a task that leaves its trace, takes its time and gives the square.

        One that is held does not end before `let_go`, however long the test takes until then.
        """
        folder, gate = str(self.folder), str(self._gate) if held else ""

        def square(number: int) -> int:
            import tempfile
            import time
            from pathlib import Path

            tempfile.NamedTemporaryFile(prefix=f"{number}-", dir=folder, delete=False).close()
            time.sleep(pause)
            while gate and not Path(gate).exists():
                time.sleep(0.02)
            return number * number

        return square

    def let_go(self) -> None:
        """Let the tasks that are held end."""
        self._gate.touch()

    def most(self) -> int:
        """Return how often the task ran that ran most often."""
        counts: dict[str, int] = {}
        for file in self.folder.iterdir():
            number = file.name.partition("-")[0]
            counts[number] = counts.get(number, 0) + 1
        return max(counts.values())

    def total(self) -> int:
        """Return how many runs there were."""
        return len(list(self.folder.iterdir()))


def kill_tasks(backend: Any, of: str = "") -> list[int]:
    """Kill the processes of tasks, those with a text in the id if one is given; return whom.

    One that starts may have run a shell, which has ended since it was found.
    """
    killed = []
    for process in backend.tasks():
        with contextlib.suppress(psutil.Error):
            if of in task_id_of(process):
                process.kill()
                killed.append(process.pid)
    return killed


def command_lines(backend: Any) -> str:
    """The command lines of all that works for a backend, as everybody on the machine sees them."""
    lines = []
    for process in backend.processes():
        with contextlib.suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return "\n".join(lines)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the surrounding server may have set must not reach a cluster."""
    for name in list(os.environ):
        if name.startswith(("JUPYTERHUB_", "HUBFLEET_", "MARATHON_", "MESOS_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    kept = Kept(tmp_path_factory.mktemp("kept"))
    yield kept
    asyncio.run(kept.end())


@pytest.fixture
async def backend(kept: Kept) -> AsyncIterator[RunningBackend]:
    """A backend with nothing in it, whose workers are forked."""
    yield await kept.lend()
    await kept.take_back()


@pytest.fixture
def arguments(backend: Any) -> dict[str, Any]:
    """What a cluster on the test's backend needs to be told."""
    return {
        "url": backend.url,
        "token": backend.admin_token,
        "group": GROUP,
        "cpus": 0.1,
        "asynchronous": True,
    }


@pytest.fixture
async def cluster(arguments: dict[str, Any]) -> AsyncIterator[MarathonCluster]:
    async with MarathonCluster(**arguments) as running:
        yield running


@pytest.fixture
def of_kernels() -> Iterator[dict[str, Any]]:
    """What a kernel's manager is told: to speak by sockets in files, and to wait for the kernel's end.

    Of ports that are free when they are chosen, one may be taken by another test when the kernel binds it.
    """
    with tempfile.TemporaryDirectory() as folder:  # whose path is short, as sockets need it
        yield {"transport": "ipc", "connection_file": f"{folder}/kernel.json", "shutdown_wait_time": 60.0}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A backend beside a hub that knows several users by their tokens."""
    folder = tmp_path / "site"
    folder.mkdir()
    async with site_for_one(folder) as running:
        yield running

"""A cluster ends with what it belongs to, however that ends: neither app nor worker stays.

The lease is shorter here than it is by default; the rest is as it is for everybody.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager
from rest import eventually
from sites import Site

from hubfleet.api import labels
from hubfleet.workers import MarathonCluster
from hubfleet.workers.lease import LEASE_SECONDS

from .conftest import GROUP, until

pytestmark = pytest.mark.long

CLUSTER = """
from hubfleet.workers import MarathonCluster
cluster = MarathonCluster(n_workers=2, cpus=0.1, lease_seconds=6)
client = cluster.get_client()
client.wait_for_workers(2, timeout=90)
assert client.submit(sum, [1, 2]).result(timeout=90) == 3
"""


@pytest.fixture
def server(backend: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The environment that hubfleet's spawner gives a notebook server."""
    monkeypatch.setenv("HUBFLEET_URL", backend.url)
    monkeypatch.setenv("HUBFLEET_DASK_GROUP", GROUP)
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", backend.admin_token)
    return backend


class Kernel:
    """A real kernel, as a notebook has it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.manager = KernelManager(kernel_name="python3", **settings)
        self.manager.start_kernel()
        self._connect()

    def _connect(self) -> None:
        self._client = self.manager.blocking_client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=120)

    def run(self, code: str) -> None:
        reply = self._client.execute_interactive(
            code, timeout=200, output_hook=lambda message: None, stop_on_error=True
        )
        assert reply["content"]["status"] == "ok", reply["content"]

    @property
    def pid(self) -> int:
        found: int = self.manager.provisioner.process.pid  # type: ignore[union-attr]
        return found

    def restart(self, now: bool) -> None:
        self._client.stop_channels()
        self.manager.restart_kernel(now=now)
        self._connect()

    def close(self) -> None:
        self._client.stop_channels()
        with contextlib.suppress(RuntimeError):
            self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel(server: Any, of_kernels: dict[str, Any]) -> Iterator[Kernel]:
    running = Kernel(of_kernels)
    try:
        yield running
    finally:
        running.close()


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python that does not outlive its test, whatever that finds."""
    with subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE) as running:
        try:
            yield running
        finally:
            running.kill()


async def has_no_apps(server: Any) -> bool:
    return not await server.client.list_apps()


async def is_clean(server: Any) -> None:
    """Wait until neither app nor task is there, by itself."""
    for _ in range(600):
        if not await server.client.list_apps() and not server.tasks():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(await server.client.list_apps(), server.tasks())


async def test_the_workers_of_a_kernel_that_is_killed_end(server: Any, kernel: Kernel) -> None:
    await asyncio.to_thread(kernel.run, CLUSTER)
    (app,) = await server.client.list_apps()
    assert app.labels[labels.LEASE] == "6"
    os.kill(kernel.pid, signal.SIGKILL)
    await is_clean(server)


@pytest.mark.parametrize("now", [False, True])
async def test_a_restarted_kernel_leaves_nothing_and_may_have_the_name_again(
    server: Any, kernel: Kernel, now: bool
) -> None:
    code = CLUSTER.replace("MarathonCluster(", "MarathonCluster('mine', ")
    await asyncio.to_thread(kernel.run, code)
    await asyncio.to_thread(kernel.restart, now)
    await is_clean(server)
    await asyncio.to_thread(kernel.run, code)
    assert len(await server.client.list_apps()) == 1


@pytest.mark.parametrize("signum", ["SIGINT", "SIGTERM", "SIGKILL"])
async def test_a_script_that_is_ended_leaves_nothing(server: Any, tmp_path: Path, signum: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(CLUSTER + "print('computing', flush=True)\nimport time\ntime.sleep(600)\n")
    with process(str(script)) as running:
        assert running.stdout is not None
        assert await asyncio.to_thread(running.stdout.readline) == b"computing\n"
        running.send_signal(signal.Signals[signum])
        await asyncio.to_thread(running.wait, 100)
    await is_clean(server)


async def test_a_fork_of_a_process_that_was_killed_keeps_nothing(server: Any) -> None:
    """As `multiprocessing` makes them: a child must not hold what its parent held."""
    code = (
        CLUSTER
        + """
import os, time
child = os.fork()
if child == 0:
    time.sleep(600)
print(child, flush=True)
time.sleep(600)
"""
    )
    with process("-c", code) as running:
        assert running.stdout is not None
        child = int(await asyncio.to_thread(running.stdout.readline))
        running.kill()
        try:
            await eventually(partial(has_no_apps, server))
        finally:
            # Until now it lived, and has the scheduler's connections: a worker may wait for an answer there.
            os.kill(child, signal.SIGKILL)
    await is_clean(server)


async def test_a_cluster_that_computes_longer_than_its_lease_stays(arguments: dict[str, Any]) -> None:
    """Also while its event loop is held up, as by a cell that does not await."""
    import time

    async with MarathonCluster(n_workers=1, lease_seconds=4, **arguments) as cluster:
        await until(lambda: cluster.scheduler.workers if cluster.scheduler else None)
        for _ in range(6):
            time.sleep(0.9)
        count = await cluster.marathon_workers.refresh()
        assert not count.gone
        assert count.instances == 1


async def test_a_backend_that_was_away_longer_than_the_lease_finds_the_cluster_again(
    arguments: dict[str, Any], backend: Any
) -> None:
    async with MarathonCluster(n_workers=1, lease_seconds=4, **arguments) as cluster:
        assert cluster.scheduler is not None
        workers = cluster.scheduler.workers
        (before,) = await until(lambda: set(workers))
        await backend.kill()
        for _ in range(5):
            await asyncio.sleep(0.9)
        await backend.start()
        for _ in range(5):
            await asyncio.sleep(0.9)
        assert not (await cluster.marathon_workers.refresh()).gone
        assert set(workers) == {before}


async def test_the_workers_of_an_expired_token_end(
    site: Site, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    site.hub.owners["fresh"] = site.hub.owners["token-of-alice"]
    given = {**arguments, "url": site.backend.url, "token": "fresh", "lease_seconds": 6}
    cluster = await MarathonCluster(n_workers=1, **given)
    try:
        await until(lambda: site.backend.tasks(), what="a worker")
        del site.hub.owners["fresh"]
        # A backend that starts asks the hub anew; this one would remember for 30 s that the token was good.
        await site.backend.kill()
        await site.backend.start()
        await until(lambda: not site.backend.tasks(), 60, what="its end")
        assert await site.backend.client.list_apps() == []
        await until(lambda: "keeps" in caplog.text, what="the user is told")
        assert "fresh" not in caplog.text
    finally:
        cluster.marathon_workers._ours = False
        await cluster.close()


def test_after_a_minute_nothing_is_left() -> None:
    from hubfleet.backend.hub import REMEMBERED_SECONDS

    assert LEASE_SECONDS + REMEMBERED_SECONDS <= 60

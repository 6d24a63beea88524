"""Dashboards answer their owner, and no other user of the machine."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from typing import Any

import pytest
import requests
from distributed import Client, Worker

from hubfleet.workers import MarathonCluster, guard

from .conftest import until


def connected(family: socket.AddressFamily, bind: str, to: str) -> tuple[socket.socket, socket.socket]:
    listening = socket.create_server((bind, 0), family=family, dualstack_ipv6=bind == "::")
    near = socket.create_connection((to, listening.getsockname()[1]))
    far, _ = listening.accept()
    listening.close()
    return near, far


@pytest.mark.parametrize(
    ("family", "bind", "to"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1"),
        (socket.AF_INET6, "::1", "::1"),
        (socket.AF_INET6, "::", "127.0.0.1"),
    ],
)
def test_the_kernel_says_whose_the_other_end_is(family: socket.AddressFamily, bind: str, to: str) -> None:
    near, far = connected(family, bind, to)
    with near, far:
        assert guard.owner_of_peer(far) == os.geteuid()
        assert guard.owner_of_peer(near) == os.geteuid()


def test_the_other_end_of_another_account_is_told_apart() -> None:
    """Where the tests may be somebody else, the kernel's word is that of somebody else."""
    other = 65534 if os.geteuid() == 0 else None
    with socket.create_server(("127.0.0.1", 0)) as listening:
        connect = f"exec 3<>/dev/tcp/127.0.0.1/{listening.getsockname()[1]}; read -u 3"
        with subprocess.Popen(["bash", "-c", connect], user=other, cwd="/") as process:
            listening.settimeout(30)
            far, _ = listening.accept()
            with far:
                found = guard.owner_of_peer(far)
                process.kill()
        expected = os.geteuid() if other is None else other
        assert found == expected
        assert guard.may_come(found, {0, os.geteuid()}) == (found in (0, os.geteuid()))


@pytest.mark.parametrize(
    ("owner", "welcome", "answered"),
    [(1000, {1000, 0}, True), (0, {1000, 0}, True), (1001, {1000, 0}, False), (None, {1000, 0}, False)],
)
def test_the_owner_and_root_are_answered(owner: int | None, welcome: set[int], answered: bool) -> None:
    assert guard.may_come(owner, welcome) is answered


async def test_the_other_end_of_a_connection_that_is_gone_is_nobodys() -> None:
    near, far = connected(socket.AF_INET, "127.0.0.1", "127.0.0.1")
    near.close()
    far.close()
    assert guard.owner_of_peer(far) is None


def status_of(port: int, host: str = "127.0.0.1") -> int | None:
    try:
        return requests.get(f"http://{host}:{port}/health", timeout=60).status_code
    except requests.exceptions.ConnectionError:
        return None


async def test_a_workers_server_answers_only_its_account(
    monkeypatch: pytest.MonkeyPatch, cluster: MarathonCluster
) -> None:
    """The others are doubled: to be somebody else takes root. What the kernel says is tested above."""
    async with Worker(cluster.scheduler_address, security=cluster.security, dashboard=False) as worker:
        port = worker.http_server.port
        guard.protect(worker)
        assert await asyncio.to_thread(status_of, port) == 200
        monkeypatch.setattr(guard, "owner_of_peer", lambda connection: 54321)
        assert await asyncio.to_thread(status_of, port) is None
        monkeypatch.setattr(guard, "owner_of_peer", lambda connection: None)
        assert await asyncio.to_thread(status_of, port) is None


async def test_the_workers_of_a_cluster_are_guarded(cluster: MarathonCluster) -> None:
    await cluster.scale(1)
    assert cluster.scheduler is not None
    workers = cluster.scheduler.workers
    await until(lambda: workers)
    (state,) = workers.values()
    assert await asyncio.to_thread(status_of, state.services["dashboard"]) == 200
    async with Client(cluster, asynchronous=True) as client:
        answer = await client.run(lambda dask_worker: dask_worker.http_server.handle_stream.__name__)
    assert list(answer.values()) == ["guarded"]


@pytest.mark.parametrize(("address", "guarded"), [("127.0.0.1:0", True), (":0", False)])
async def test_the_schedulers_dashboard_is_guarded_unless_all_are_to_see_it(
    arguments: dict[str, Any], address: str, guarded: bool
) -> None:
    async with MarathonCluster(dashboard_address=address, **arguments) as cluster:
        assert cluster.scheduler is not None
        handler = cluster.scheduler.http_server.handle_stream
        assert (handler.__name__ == "guarded") is guarded
        assert await asyncio.to_thread(status_of, cluster.scheduler.http_server.port) == 200

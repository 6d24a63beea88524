"""How a cluster ends: when it is closed, once or twice, and when nobody has anything for it to do."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from typing import Any

import pytest
from distributed import Scheduler

from hubfleet.workers import MarathonCluster
from hubfleet.workers.scheduling import quiet_end

from .conftest import until

INTERRUPTED = """
import asyncio, json, os, signal, sys
from hubfleet.api.client import Client
from hubfleet.workers import MarathonCluster

create_app, arguments = Client.create_app, json.load(sys.stdin)

async def and_then_somebody_presses_ctrl_c(self, app, *arguments):
    created = await create_app(self, app, *arguments)
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(0.3)
    return created

Client.create_app = and_then_somebody_presses_ctrl_c
try:
    MarathonCluster("slow", **arguments)
except KeyboardInterrupt:
    Client.create_app = create_app
    with MarathonCluster("slow", **arguments) as cluster:
        print(cluster.status.name)
"""

LEFT_ALONE = """
import json, sys
from hubfleet.workers import MarathonCluster

cluster = MarathonCluster(n_workers=2, **json.load(sys.stdin))
cluster.wait_for_workers(1, timeout=60)
"""


async def test_an_idle_cluster_ends_and_takes_its_workers_along(
    arguments: dict[str, Any], backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, computed = Scheduler.check_idle, asyncio.Event()
    # Else a busy machine may have it end before there was anything to do.
    monkeypatch.setattr(Scheduler, "check_idle", lambda self: look(self) if computed.is_set() else None)
    async with MarathonCluster(n_workers=1, idle_timeout="1.5s", **arguments) as cluster:
        async with cluster.get_client() as client:
            assert await client.submit(sum, [1, 2]) == 3
            computed.set()
            await until(lambda: cluster.status.name == "closed", 60, "it ends")
        assert await backend.client.list_apps() == []
        assert any("nothing to do for 1.5 s" in line for _, line in cluster._cluster_manager_logs)
        await cluster.close()


async def test_closing_twice_and_at_once_is_closing(arguments: dict[str, Any], backend: Any) -> None:
    cluster = await MarathonCluster(n_workers=1, **arguments)
    first, second = cluster._close(), cluster._close()
    await first
    await second
    await cluster.close()
    assert cluster.status.name == "closed"
    assert await backend.client.list_apps() == []


def test_a_cluster_of_a_script_closes_twice(backend: Any, arguments: dict[str, Any]) -> None:
    with MarathonCluster(**{**arguments, "asynchronous": False}) as cluster:
        assert cluster.scale(1) is None
        cluster.close()
        cluster.close()
    assert cluster.status.name == "closed"


@pytest.mark.parametrize("scheduler", ["here", "app"])
def test_an_interrupted_start_leaves_nothing_and_the_next_one_can_have_the_name(
    scheduler: str, backend: Any, arguments: dict[str, Any]
) -> None:
    given = json.dumps({**arguments, "asynchronous": False, "scheduler": scheduler})
    command = [sys.executable, "-c", INTERRUPTED]
    found = subprocess.run(command, input=given, text=True, capture_output=True, timeout=250, check=False)
    assert found.stdout.split() == ["running"], found.stderr


async def test_a_script_that_closes_nothing_ends_without_a_trace_of_it(
    arguments: dict[str, Any], backend: Any
) -> None:
    # One of the two workers has no room, and why is asked until the end.
    given = {**arguments, "asynchronous": False, "cpus": 50}
    script = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LEFT_ALONE), stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    _, complaints = await asyncio.wait_for(script.communicate(json.dumps(given).encode()), 200)
    assert script.returncode == 0
    assert "Traceback" not in complaints.decode()
    await until(lambda: not backend.tasks(), 60, "its workers have ended")
    assert await backend.client.list_apps() == []


def test_what_the_end_of_a_scheduler_cancels_is_not_logged_as_a_failure(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = logging.getLogger("distributed.scheduler")

    def fail(error: BaseException) -> None:
        try:
            raise error
        except BaseException:
            log.exception("")

    with quiet_end():
        fail(asyncio.CancelledError("a worker that leaves"))
        fail(ValueError("a fault"))
        log.error("a word")
    fail(asyncio.CancelledError("in the middle of its life"))
    assert "a worker that leaves" not in caplog.text
    assert all(each in caplog.text for each in ("a fault", "a word", "in the middle of its life"))

"""What happens to a running server is noticed as it happens, and means what its administrator says."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from jupyterhub.utils import utcnow
from ports import keeping

from hubfleet.api import labels
from hubfleet.spawner.link import close_links


class RunningHub:
    """What JupyterHub's handlers do around a spawn: the route, and the callback for the end."""

    def __init__(self, hub: Any) -> None:
        self.hub = hub
        self.routes: dict[str, str] = {}
        self.stopped = asyncio.Event()
        hub.settings["proxy"] = self

    async def add_user(self, user: Any, server_name: str = "") -> None:
        self.routes[user.name] = user.spawners[server_name].server.host

    async def spawn(self, name: str) -> Any:
        """Start a server as a login does; JupyterHub's own poll is an hour away."""
        self.hub.config.MarathonSpawner.poll_interval = 3600
        user = self.hub.user(name)
        await user.spawn()
        spawner = user.spawner

        async def user_stopped() -> None:
            del self.routes[name]
            await user.stop()
            self.stopped.set()

        spawner.add_poll_callback(user_stopped)
        await self.add_user(user)
        return spawner


@pytest.fixture
async def running_hub(hub: Any) -> AsyncIterator[RunningHub]:
    yield RunningHub(hub)
    await close_links()


def end_processes(backend: Any, signum: signal.Signals) -> None:
    for process in backend.tasks():
        process.send_signal(signum)


async def test_a_restarted_server_is_routed_before_the_next_poll(
    running_hub: RunningHub, hub: Any, backend: Any
) -> None:
    spawner = await running_hub.spawn("alice")
    before = running_hub.routes["alice"]
    with keeping(spawner.server.port):
        end_processes(backend, signal.SIGKILL)
        await hub.eventually(lambda: asyncio.sleep(0, running_hub.routes["alice"] != before))
    assert running_hub.routes["alice"] == spawner.server.host
    assert spawner.orm_spawner.state["task_id"] == spawner._task_id
    assert not running_hub.stopped.is_set()


async def test_a_server_that_ended_well_is_not_started_again(
    running_hub: RunningHub, hub: Any, backend: Any
) -> None:
    await running_hub.spawn("alice")
    end_processes(backend, signal.SIGTERM)  # upon which a Jupyter server ends with exit status 0
    await asyncio.wait_for(running_hub.stopped.wait(), 60)
    assert "alice" not in running_hub.routes
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_where_nothing_is_to_be_restarted_a_killed_server_is_stopped_with_the_reason(
    running_hub: RunningHub, hub: Any, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hub.config.MarathonSpawner.restart_after_failure = False
    await running_hub.spawn("alice")
    with caplog.at_level("WARNING"):
        end_processes(backend, signal.SIGKILL)
        await asyncio.wait_for(running_hub.stopped.wait(), 60)
    assert "Killed" in caplog.text
    assert "restart_after_failure is off" in caplog.text
    await hub.eventually(lambda: hub.nothing_left(backend))


@pytest.mark.parametrize(("signum", "ends"), [(signal.SIGTERM, True), (signal.SIGKILL, False)])
async def test_an_end_that_no_hub_saw_is_judged_by_the_next(
    hub: Any, backend: Any, signum: signal.Signals, ends: bool
) -> None:
    user = hub.user("alice")
    await user.spawn()
    task_id = user.spawner._task_id
    user.spawner.stop_polling()
    await close_links()
    end_processes(backend, signum)

    async def replaced() -> bool:
        tasks = (await backend.client.get_app("/jupyter/alice/notebook")).tasks
        return any(task.running and task.id != task_id for task in tasks)

    await hub.eventually(replaced)
    again = hub.user("alice").spawner
    assert (await again.poll() == 0) is ends
    if ends:
        await hub.eventually(lambda: hub.nothing_left(backend))
    else:
        assert again._task_id != task_id


async def test_a_kept_server_is_never_idle(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.update({"autotimeout": 3600, "app_labels": {labels.KEEP: "true"}})
    user = hub.user("alice")
    await user.spawn()
    spawner = user.spawner
    spawner.orm_spawner.last_activity = utcnow(with_tz=False) - timedelta(days=3)
    assert await spawner.poll() is None
    assert utcnow(with_tz=False) - spawner.orm_spawner.last_activity < timedelta(minutes=1)


async def test_while_nothing_happens_to_a_server_a_poll_is_a_look_up(
    running_hub: RunningHub, hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawner = await running_hub.spawn("alice")
    first = spawner._task_id
    async with asyncio.timeout(60):
        while not spawner._is_as_judged():  # and from this look to the poll nothing else has its turn
            await asyncio.sleep(0.02)
    with monkeypatch.context() as patch:
        patch.setattr(spawner, "_judge", lambda: pytest.fail("it is judged anew"))
        assert hub.at_once(spawner.poll()) is None
    end_processes(backend, signal.SIGKILL)

    async def judged_where_it_was_started_again() -> bool:
        return spawner._task_id not in ("", first) and spawner._is_as_judged()

    await hub.eventually(judged_where_it_was_started_again)
    await spawner.stop(now=True)
    assert await spawner.poll() == 0


async def test_another_backend_is_linked_to_when_the_configuration_changes(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", marathon_host="http://127.0.0.1:1")
    first = spawner._link()
    assert spawner._link() is first
    spawner.marathon_host = "http://127.0.0.1:2"
    assert spawner._link() is not first
    spawner.marathon_host = "http://127.0.0.1:1"
    assert spawner._link() is first
    await close_links()
    assert spawner._link() is not first, "that one is closed"
    await close_links()

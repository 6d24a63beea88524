"""The watcher against a real backend: it sees, it says when it does not, and it sees again."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import RunningBackend
from ports import free_port
from rest import eventually
from watching import always, gone, heard, small

from hubfleet.api.client import Client
from hubfleet.api.news import with_task_update
from hubfleet.api.status import AppStatus, Event
from hubfleet.api.watcher import StateUnknown, Watcher

pytestmark = pytest.mark.usefixtures("both_ways")


def runs(count: int) -> Any:
    return lambda app: app is not None and app.tasks_running == count


@pytest.fixture
async def watcher(backend: RunningBackend) -> AsyncIterator[Watcher]:
    watcher = Watcher(backend.client, "/jupyter")
    watcher.start()
    assert await watcher.wait_sighted(60)
    yield watcher
    await watcher.close()


async def blind(watcher: Watcher) -> None:
    async with asyncio.timeout(60):
        while watcher.sighted:
            await asyncio.sleep(0.01)


async def test_an_app_is_seen_from_its_start_to_its_removal(
    watcher: Watcher, backend: RunningBackend
) -> None:
    client = backend.client
    assert watcher.lookup("/jupyter/a") is None
    await client.create_app(small("/jupyter/a", instances=2))
    found = await watcher.wait_for("/jupyter/a", runs(2), 60)
    assert found is not None
    assert all(task.ports and task.host and task.started_at for task in found.tasks)
    await client.kill_and_scale([found.tasks[0].id])
    await watcher.wait_for("/jupyter/a", runs(1), 60)
    await client.delete_app("/jupyter/a")
    await watcher.wait_for("/jupyter/a", gone, 60)
    assert watcher.apps() == []


async def test_the_end_of_a_task_is_seen_with_its_failure(watcher: Watcher, backend: RunningBackend) -> None:
    await backend.client.create_app(small("/jupyter/a", cmd="sleep 0.1; exit 5", backoffSeconds=600))
    found = await watcher.wait_for("/jupyter/a", lambda app: bool(app and app.last_task_failure), 60)
    assert found is not None
    assert found.last_task_failure is not None
    assert found.last_task_failure.message == "Command exited with status 5"
    await watcher.wait_for("/jupyter/a", runs(0), 60)


async def test_health_is_seen(watcher: Watcher, backend: RunningBackend) -> None:
    check = {"protocol": "TCP", "intervalSeconds": 1}
    command = "exec python3 -m http.server $PORT0"
    await backend.client.create_app(small("/jupyter/a", cmd=command, healthChecks=[check]))
    found = await watcher.wait_for("/jupyter/a", lambda app: bool(app and app.tasks_healthy), 60)
    assert found is not None
    assert found.tasks[0].health_check_results[0].alive


async def test_a_question_costs_no_request_and_others_groups_are_not_remembered(
    watcher: Watcher, backend: RunningBackend
) -> None:
    await backend.client.create_app(small("/elsewhere/a", instances=0))
    await backend.client.create_app(small("/jupyter2/a", instances=0))
    await backend.client.create_app(small("/jupyter/a", instances=0))
    await watcher.wait_for("/jupyter/a", lambda app: app is not None, 60)
    assert [app.id for app in watcher.apps()] == ["/jupyter/a"]
    assert watcher.lookup("/elsewhere/a") is None


async def test_events_of_one_app_are_heard_from_then_on(watcher: Watcher, backend: RunningBackend) -> None:
    heard: list[Event] = []

    async def listen() -> None:
        async for event in watcher.events("/jupyter/a"):
            heard.append(event)
            if event.event_type == "deployment_success":
                return

    listeners = [asyncio.create_task(listen()) for _ in range(2)]
    await asyncio.sleep(0)
    await backend.client.create_app(small("/jupyter/b", instances=0))
    await backend.client.create_app(small("/jupyter/a"))
    async with asyncio.timeout(60):
        await asyncio.gather(*listeners)
    assert {app_id for event in heard for app_id in event.app_ids} == {"/jupyter/a"}
    states = [event["taskStatus"] for event in heard if event.event_type == "status_update_event"]
    assert sorted(states) == ["TASK_RUNNING", "TASK_RUNNING", "TASK_STAGING", "TASK_STAGING"]
    assert watcher._listeners == {}


async def test_while_the_backend_is_down_nothing_is_taken_for_gone(
    watcher: Watcher, backend: RunningBackend
) -> None:
    await backend.client.create_app(small("/jupyter/stays"))
    until_told = "until [ -e go ]; do sleep 0.02; done; exit 1"
    await backend.client.create_app(small("/jupyter/ends", cmd=until_told, backoffSeconds=600))
    before = await watcher.wait_for("/jupyter/stays", runs(1), 60)
    ends = await watcher.wait_for("/jupyter/ends", runs(1), 60)
    assert ends is not None
    await backend.kill()
    await blind(watcher)
    with pytest.raises(StateUnknown, match="/jupyter/stays is unknown"):
        watcher.lookup("/jupyter/stays")
    with pytest.raises(StateUnknown):
        watcher.apps()
    waiting = asyncio.create_task(watcher.wait_for("/jupyter/stays", gone, 0.3))
    with pytest.raises(TimeoutError):
        await waiting

    # Meanwhile the world goes on: one task has ended, and another backend's client changes apps.
    (backend.state_dir / "sandboxes" / ends.tasks[0].id / "go").touch()
    async with asyncio.timeout(60):
        while len(await asyncio.to_thread(backend.tasks)) > 1:
            await asyncio.sleep(0.02)
    await backend.start()
    await backend.client.create_app(small("/jupyter/new", instances=0))
    assert await watcher.wait_sighted(60)
    after = await watcher.wait_for("/jupyter/stays", runs(1), 60)
    assert before is not None
    assert after is not None
    assert [task.id for task in after.tasks] == [task.id for task in before.tasks]
    await watcher.wait_for("/jupyter/ends", runs(0), 60)
    await watcher.wait_for("/jupyter/new", lambda app: app is not None, 60)


async def test_an_app_that_was_removed_unseen_is_gone_when_seen_again(backend: RunningBackend) -> None:
    relay = Relay(backend.port)
    await relay.open()
    client = Client(relay.url, token=backend.admin_token)
    watcher = Watcher(client)
    watcher.start()
    try:
        await backend.client.create_app(small("/a", instances=0))
        await watcher.wait_for("/a", lambda app: app is not None, 60)
        await relay.cut()
        await blind(watcher)
        await backend.client.delete_app("/a")
        await backend.client.create_app(small("/b", instances=0))
        await relay.open()
        await watcher.wait_for("/a", gone, 60)
        assert [app.id for app in watcher.apps()] == ["/b"]
    finally:
        await watcher.close()
        client.close()
        await relay.cut()


class Relay:
    """A connection to the backend that can be cut and held up, as a network can."""

    def __init__(self, target: int) -> None:
        self.target, self.port = target, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.delay = 0.0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._relay, "127.0.0.1", self.port)

    async def cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        self._writers |= {writer, back}
        await asyncio.gather(
            self._copy(reader, back, slow=False), self._copy(there, writer, slow=True), return_exceptions=True
        )
        for each in (writer, back):
            each.transport.abort()
            self._writers.discard(each)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slow: bool) -> None:
        while chunk := await reader.read(1 << 20):
            if slow and b"text/event-stream" not in chunk[:2000] and b"\r\ndata: " not in chunk:
                await asyncio.sleep(self.delay)  # answers come late, events at once
            writer.write(chunk)
        writer.close()


async def test_an_answer_that_events_overtook_is_not_believed(backend: RunningBackend) -> None:
    """The list and each single answer are old when they come; what events said meanwhile stands."""
    relay = Relay(backend.port)
    await relay.open()
    client = Client(relay.url, token=backend.admin_token)
    watcher = Watcher(client, relist_seconds=0.05)
    await backend.client.create_app(small("/old", instances=0))
    watcher.start()
    try:
        assert await watcher.wait_sighted(60)
        removed = ["/old", "/new/0", "/new/2", "/new/4"]
        ends = [asyncio.create_task(heard(watcher, app_id, "app_terminated_event")) for app_id in removed]
        relay.delay = 0.15
        for number in range(6):
            await backend.client.create_app(small(f"/new/{number}"))
            await asyncio.sleep(0.05)
        await backend.client.delete_app("/old")
        for number in range(0, 6, 2):
            await backend.client.delete_app(f"/new/{number}")
            await asyncio.sleep(0.05)
        relay.delay = 0.0
        await asyncio.gather(*ends)
        await always(watcher, *removed, there=False)
        for number in range(1, 6, 2):
            await watcher.wait_for(f"/new/{number}", runs(1), 60)
        assert {app.id for app in watcher.apps()} == {"/new/1", "/new/3", "/new/5"}
    finally:
        await watcher.close()
        client.close()
        await relay.cut()


async def test_the_second_url_is_followed_when_the_first_is_dead(backend: RunningBackend) -> None:
    client = Client([f"http://127.0.0.1:{free_port()}", backend.url], token=backend.admin_token)
    watcher = Watcher(client)
    watcher.start()
    try:
        await backend.client.create_app(small("/a"))
        await watcher.wait_for("/a", runs(1), 60)
    finally:
        await watcher.close()
        client.close()


async def test_closing_leaves_no_thread_behind(backend: RunningBackend) -> None:
    watcher = Watcher(backend.client)
    watcher.start()
    assert await watcher.wait_sighted(60)
    assert backend.process is not None
    backend.process.send_signal(signal.SIGSTOP)  # so that no sign of life ends the wait for the next one
    async with asyncio.timeout(20):  # well before a stream that is silent is given up
        await watcher.close()
        with pytest.raises(StateUnknown):
            watcher.apps()
        while any(thread.name == "marathon-events" for thread in threading.enumerate()):
            await asyncio.sleep(0.01)


async def test_closing_while_nobody_answers_is_quick(backend: RunningBackend) -> None:
    """A server that takes the connection and says nothing."""
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
    client = Client(f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}", timeout=60)
    watcher = Watcher(client)
    watcher.start()
    assert not await watcher.wait_sighted(0.1)
    async with asyncio.timeout(20):
        await watcher.close()
    client.close()
    silent.close()


async def test_no_token_is_logged_while_following(
    backend: RunningBackend, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    watcher = Watcher(backend.client)
    watcher.start()
    await backend.client.create_app(small("/a", env={"TOKEN": "sesame"}))
    await watcher.wait_for("/a", runs(1), 60)
    await backend.kill()
    await eventually(lambda: asyncio.sleep(0, "cannot follow" in caplog.text))
    await watcher.close()
    text = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert backend.admin_token not in text
    assert "sesame" not in text


def update(status: str, task_id: str = "t", **fields: Any) -> Event:
    body = {"eventType": "status_update_event", "timestamp": "2026-01-01T00:00:00.000Z", "taskId": task_id}
    return Event.from_wire({**body, "taskStatus": status, "appId": "/a", "host": "h", "ports": [1], **fields})


def test_a_task_update_moves_the_tasks_and_the_counts() -> None:
    app = AppStatus.from_wire({"id": "/a", "cmd": "x"})
    staged = with_task_update(app, update("TASK_STAGING"))
    assert (staged.tasks_staged, staged.tasks_running, staged.tasks[0].started_at) == (1, 0, None)
    running = with_task_update(staged, update("TASK_RUNNING"))
    assert (running.tasks_staged, running.tasks_running, len(running.tasks)) == (0, 1, 1)
    assert running.tasks[0].started_at is not None
    healthy = running.model_copy(deep=True)
    healthy.tasks[0].health_check_results = [
        AppStatus.from_wire(
            {
                "id": "/a",
                "tasks": [{"id": "t", "appId": "/a", "state": "x", "healthCheckResults": [{"alive": True}]}],
            }
        )
        .tasks[0]
        .health_check_results[0]
    ]
    assert with_task_update(healthy, update("TASK_RUNNING")).tasks_healthy == 1
    ended = with_task_update(healthy, update("TASK_FAILED"))
    assert (ended.tasks, ended.tasks_running, ended.tasks_healthy) == ([], 0, 0)
    assert app.tasks == [], "what was handed out does not change"

"""What the answer to a creation tells, the watcher need not ask for; what is gone never comes back by it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from conftest import RunningBackend

from hubfleet.api.app import App
from hubfleet.api.client import Client
from hubfleet.api.status import AppStatus, Event
from hubfleet.api.watcher import Watcher

pytestmark = pytest.mark.usefixtures("both_ways")

CREATED = "2026-01-01T00:00:01.000Z"


class BusyClient(Client):
    """A client of a backend that answers no question about an app."""

    async def get_app(self, app_id: str) -> AppStatus:
        await asyncio.Event().wait()
        raise AssertionError


@pytest.fixture
async def watcher(backend: RunningBackend) -> AsyncIterator[Watcher]:
    client = BusyClient(backend.url, token=backend.admin_token)
    watcher = Watcher(client)
    watcher.start()
    assert await watcher.wait_sighted(60)
    yield watcher
    await watcher.close()
    client.close()


async def test_an_app_is_seen_to_run_without_a_question(watcher: Watcher, backend: RunningBackend) -> None:
    app = App.model_validate({"id": "/new", "cmd": "exec sleep 600", "cpus": 0.01, "mem": 1})
    watcher.learn(await backend.client.create_app(app))
    found = await watcher.wait_for("/new", lambda app: app is not None and app.tasks_running == 1, 60)
    assert found is not None
    assert found.tasks[0].ports


async def test_events_that_came_before_the_answer_count(watcher: Watcher) -> None:
    watcher._take(event("status_update_event", "02", taskId="t", taskStatus="TASK_RUNNING", ports=[7]))
    watcher.learn(created())
    assert [task.ports for task in watcher.apps()[0].tasks] == [[7]]


async def test_events_of_a_former_app_of_this_id_do_not_count(watcher: Watcher) -> None:
    watcher._take(event("status_update_event", "00", taskId="t", taskStatus="TASK_RUNNING", ports=[7]))
    watcher._take(event("app_terminated_event", "00"))
    watcher.learn(created())
    assert [app.tasks for app in watcher.apps()] == [[]]


async def test_what_was_removed_before_the_answer_came_stays_gone(watcher: Watcher) -> None:
    watcher._take(event("app_terminated_event", "02"))
    watcher.learn(created())
    assert watcher.apps() == []


async def test_what_memory_holds_already_is_newer_than_the_answer(watcher: Watcher) -> None:
    watcher.learn(created())
    watcher._take(event("status_update_event", "02", taskId="t", taskStatus="TASK_RUNNING", ports=[7]))
    watcher.learn(created())
    assert watcher.apps()[0].tasks_running == 1


async def test_who_waits_for_a_state_is_woken_by_another_one_only(watcher: Watcher) -> None:
    watcher.learn(created())
    asked: list[AppStatus | None] = []

    def running(app: AppStatus | None) -> bool:
        asked.append(app)
        return app is not None and app.tasks_running == 1

    waiting = asyncio.create_task(watcher.wait_for("/a", running, 60))
    await asyncio.sleep(0)
    known = event("api_post_event", "02", appDefinition={"id": "/a", "version": CREATED})
    task = {"taskId": "t", "ports": [7]}
    for told in (
        known,
        event("status_update_event", "03", taskStatus="TASK_STAGING", **task),
        known,
        event("status_update_event", "04", taskStatus="TASK_RUNNING", **task),
    ):
        watcher._take(told)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await waiting
    assert [len(app.tasks) for app in asked if app is not None] == [0, 1, 1]


async def test_events_of_some_types_are_heard_and_no_others(watcher: Watcher) -> None:
    events = watcher.events("/a", "app_terminated_event", "status_update_event")
    heard = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    watcher._take(event("failed_health_check_event", "02", taskId="t"))
    watcher._take(event("status_update_event", "03", taskId="t", taskStatus="TASK_KILLED"))
    watcher._take(event("app_terminated_event", "04"))
    assert (await heard).event_type == "status_update_event"
    assert (await anext(events)).event_type == "app_terminated_event"
    await events.aclose()  # type: ignore[attr-defined]
    assert watcher._listeners == {}


async def test_a_blind_watcher_learns_nothing(backend: RunningBackend) -> None:
    watcher = Watcher(backend.client)
    watcher.learn(created())
    assert watcher._apps == {}


def created() -> AppStatus:
    return AppStatus.from_wire({"id": "/a", "cmd": "x", "version": CREATED})


def event(kind: str, second: str, **fields: object) -> Event:
    timestamp = f"2026-01-01T00:00:{second}.000Z"
    version = CREATED if second > "01" else "2026-01-01T00:00:00.000Z"
    body = {"eventType": kind, "timestamp": timestamp, "appId": "/a", "host": "h", "version": version}
    return Event.from_wire({**body, **fields})


class CountingClient(Client):
    """A client that counts the questions about single apps."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.asked: list[str] = []

    async def get_app(self, app_id: str) -> AppStatus:
        self.asked.append(app_id)
        return await super().get_app(app_id)


@pytest.fixture
async def watched(backend: RunningBackend) -> AsyncIterator[tuple[CountingClient, Watcher]]:
    client = CountingClient(backend.url, token=backend.admin_token)
    watcher = Watcher(client)
    watcher.start()
    try:
        assert await watcher.wait_sighted(60)
        yield client, watcher
    finally:
        await watcher.close()
        client.close()


async def test_an_app_lives_and_ends_without_a_question(watched: tuple[CountingClient, Watcher]) -> None:
    client, watcher = watched
    app = App.model_validate({"id": "/new", "cmd": "exec sleep 600", "cpus": 0.01, "mem": 1})
    with watcher.expecting("/new"):
        watcher.learn(await client.create_app(app))
    await watcher.wait_for("/new", lambda app: bool(app and app.tasks and not app.deployments), 60)
    await client.delete_app("/new")
    await watcher.wait_for("/new", lambda app: app is None, 60)
    # Asking for another one shows that nothing about this one is still to be asked.
    await client.create_app(app.model_copy(update={"id": "/other"}))
    await watcher.wait_for("/other", lambda app: app is not None, 60)
    assert set(client.asked) == {"/other"}


async def test_an_expected_app_whose_answer_never_came_is_asked_for(
    backend: RunningBackend, watched: tuple[CountingClient, Watcher]
) -> None:
    client, watcher = watched
    app = App.model_validate({"id": "/new", "cmd": "exec sleep 600", "cpus": 0.01, "mem": 1})
    with watcher.expecting("/new"):
        await backend.client.create_app(app)  # whoever expects it does not hear of it
        async with asyncio.timeout(60):
            while "/new" not in watcher._before:
                await asyncio.sleep(0.01)
        assert client.asked == []
    await watcher.wait_for("/new", lambda app: app is not None, 60)

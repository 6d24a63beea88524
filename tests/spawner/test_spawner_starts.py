"""Starts that fail, are given up, or meet an app that is there: the reason is told, nothing is left."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.api.errors import BackendUnreachable
from hubfleet.api.status import AppStatus
from hubfleet.api.wire import parse_timestamp
from hubfleet.spawner import submission
from hubfleet.spawner.errors import StartRefused
from hubfleet.spawner.launch import newest_running, url_of
from hubfleet.spawner.link import close_links


async def test_a_server_that_ends_at_once_fails_with_the_reason_and_leaves_no_app(
    hub: Any, backend: Any
) -> None:
    hub.config.MarathonSpawner.cmd = [sys.executable, "-c", "raise SystemExit(7)"]
    user = hub.user("alice")
    with pytest.raises(StartRefused, match="ended 3 times while it started") as refused:
        await user.spawn()
    assert refused.value.reason == "crashed"
    assert "7" in refused.value.message.partition("The backend says")[2]
    await hub.eventually(lambda: hub.nothing_left(backend))
    assert await user.spawner.poll() is not None


async def test_a_server_that_succeeds_at_the_second_attempt_is_served_where_it_then_runs(
    hub: Any, backend: Any, stand_in: list[str], tmp_path: Path
) -> None:
    once = "import os, sys; os.path.exists(m := sys.argv[1]) or (open(m, 'w').close(), sys.exit(1)); "
    once += "sys.argv = sys.argv[2:]; exec(open(sys.argv[0]).read())"
    hub.config.MarathonSpawner.cmd = [sys.executable, "-c", once, str(tmp_path / "tried"), stand_in[1]]
    user = hub.user("alice")
    await user.spawn()
    assert (await hub.ask(user.spawner.server.url))["env"]["JUPYTERHUB_USER"] == "alice"
    assert "attempt 2 of 3" in " ".join(user.spawner._told.messages)


async def test_what_the_backend_refuses_fails_at_once_with_its_words(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.marathon_constraints = [["hostname", "SOMEWHERE"]]
    with pytest.raises(StartRefused, match="operator must be one of") as refused:
        await asyncio.wait_for(hub.user("alice").spawn(), 60)
    assert refused.value.reason == "backend-refused"


async def test_a_wrong_token_is_said_to_be_one(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.marathon_token = "wrong"
    with pytest.raises(StartRefused, match=r"c\.MarathonSpawner\.marathon_token") as refused:
        await hub.user("alice").spawn()
    assert refused.value.reason == "backend-access"


async def test_a_server_that_finds_no_place_says_what_it_waits_for(
    hub: Any, backend: Any, too_late: Any
) -> None:
    await backend.client.create_app(App(id="/full", cmd="sleep 1000", cpus=64))

    async def placed() -> int:
        return int((await backend.client.get_app("/full")).tasks_running)

    await hub.eventually(placed)
    user = hub.user("alice")
    heard: list[str] = []

    async def listen(messages: AsyncIterator[dict[str, Any]]) -> None:
        async for message in messages:
            heard.append(message["message"])

    listeners: list[asyncio.Task[None]] = []

    def is_told() -> bool:
        if user.spawner._start_pending and not listeners:
            listeners.append(asyncio.create_task(listen(user.spawner.progress())))
        return any(" cpus" in sentence for sentence in heard)

    refused = await too_late(user, is_told)
    assert re.search(r"did not start within 240 seconds: waiting.* cpus", refused.message)
    assert refused.reason == "start-timeout"
    await asyncio.wait_for(listeners[0], 60)
    assert any(sentence.startswith("Waiting") for sentence in heard)

    async def only_the_other() -> bool:
        return [app.id for app in await backend.client.list_apps()] == ["/full"]

    await hub.eventually(only_the_other)


async def test_a_server_for_which_no_machine_is_large_enough_fails_at_once(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.cpu_limit = 1000.0
    with pytest.raises(StartRefused, match="1000 cpus asked, but there are 64") as refused:
        await asyncio.wait_for(hub.user("alice").spawn(), 60)
    assert refused.value.reason == "backend-refused"


async def test_a_server_that_never_answers_says_where_it_runs(hub: Any, backend: Any, too_late: Any) -> None:
    hub.config.MarathonSpawner.environment = {"STAND_IN_DELAY": "600"}
    user = hub.user("alice")
    refused = await too_late(
        user, lambda: any(sentence.startswith("Started at") for sentence in user.spawner._told.messages)
    )
    assert re.search(r"runs at 127\.0\.0\.1:\d+, but no server answers", refused.message)
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_a_cancelled_start_leaves_no_app(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.environment = {"STAND_IN_DELAY": "600"}
    user = hub.user("alice")
    spawn = asyncio.create_task(user.spawn())
    await hub.eventually(lambda: asyncio.sleep(0, backend.tasks()))
    assert await user.spawner.poll() is None, "a server that starts is no dead one"
    spawn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await spawn
    await hub.eventually(lambda: hub.nothing_left(backend))


def submit_late(spawner: Any) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold each submission back; one event says that it is on its way, the other one lets it arrive."""
    client = spawner._link().client
    create, on_its_way, arrives = client.create_app, asyncio.Event(), asyncio.Event()

    async def create_late(app: App) -> Any:
        on_its_way.set()
        await arrives.wait()
        return await create(app)

    client.create_app = create_late
    return on_its_way, arrives


async def test_a_submission_that_arrives_after_the_cancellation_leaves_no_app(hub: Any, backend: Any) -> None:
    spawner = hub.user("alice").spawner
    on_its_way, arrives = submit_late(spawner)
    start = asyncio.create_task(spawner.start())
    await asyncio.wait_for(on_its_way.wait(), 60)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    arrives.set()
    await hub.eventually(lambda: asyncio.sleep(0, not spawner._link().reaper.holds(spawner.app_id)))
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_a_foreign_app_survives_a_start_cancelled_before_it_was_recognised(
    hub: Any, backend: Any
) -> None:
    theirs = App(id="/jupyter/alice/notebook", cmd="sleep 1000", labels={labels.HUB: "another hub"})
    await backend.client.create_app(theirs)
    spawner = hub.user("alice").spawner
    on_its_way, arrives = submit_late(spawner)
    start = asyncio.create_task(spawner.start())
    await asyncio.wait_for(on_its_way.wait(), 60)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    arrives.set()
    await hub.eventually(lambda: asyncio.sleep(0, not spawner._link().reaper.holds(spawner.app_id)))
    assert (await backend.client.get_app(theirs.id)).cmd == "sleep 1000"


async def test_a_server_whose_app_is_not_there_yet_is_not_taken_for_ended(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    assert await user.spawner._link().sees()
    on_its_way, arrives = submit_late(user.spawner)
    spawn = asyncio.create_task(user.spawn())
    await asyncio.wait_for(on_its_way.wait(), 60)
    assert await user.spawner.poll() is None
    arrives.set()
    await spawn
    assert await user.spawner.poll() is None


async def test_a_backend_that_is_too_slow_once_is_asked_again(
    hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "PATIENCE_SECONDS", 0.01)
    user = hub.user("alice")
    client = user.spawner._link().client
    create, asked = client.create_app, []

    async def too_slow_at_first(app: App) -> Any:
        asked.append(app.id)
        if len(asked) == 1:
            await asyncio.sleep(0.1)  # as long as its patience, and longer
            raise BackendUnreachable("no answer came in time")
        return await create(app)

    client.create_app = too_slow_at_first
    await user.spawn()
    assert len(asked) == 2
    assert (await hub.ask(user.spawner.server.url))["env"]["JUPYTERHUB_USER"] == "alice"


async def test_what_happens_before_the_answer_to_the_submission_is_told(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    client = user.spawner._link().client
    create = client.create_app

    async def answered_late(app: App) -> Any:
        created = await create(app)
        await hub.eventually(lambda: asyncio.sleep(0, backend.tasks()))
        return created

    client.create_app = answered_late
    assert await user.spawner._link().sees()
    await user.spawn()
    assert any(sentence.startswith("Being prepared") for sentence in user.spawner._told.messages)


async def test_an_app_removed_while_it_starts_fails_at_once(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.environment = {"STAND_IN_DELAY": "600"}
    spawn = asyncio.create_task(hub.user("alice").spawn())
    await hub.eventually(lambda: asyncio.sleep(0, backend.tasks()))
    await backend.client.delete_app("/jupyter/alice/notebook")
    with pytest.raises(StartRefused, match="was removed from the backend while it started") as refused:
        await asyncio.wait_for(spawn, 60)
    assert refused.value.reason == "removed"


async def test_an_app_of_somebody_else_is_left_alone(hub: Any, backend: Any) -> None:
    theirs = App(id="/jupyter/alice/notebook", cmd="sleep 1000", labels={labels.HUB: "another hub"})
    await backend.client.create_app(theirs)
    user = hub.user("alice")
    with pytest.raises(StartRefused, match="labels do not say that it is this server") as refused:
        await user.spawn()
    assert refused.value.reason == "conflict"
    assert (await backend.client.get_app(theirs.id)).cmd == "sleep 1000"


async def test_a_leftover_of_this_server_is_replaced(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    old = (await hub.ask(user.spawner.server.url))["env"]["JUPYTERHUB_API_TOKEN"]
    # a hub that was killed before it stored anything of this server
    user.spawner.orm_spawner.state = {}
    user.spawner.server = None
    hub.db.commit()
    await close_links()
    again = hub.user("alice")
    assert await again.spawner.poll() == 0
    await again.spawn()
    assert (await hub.ask(again.spawner.server.url))["env"]["JUPYTERHUB_API_TOKEN"] != old
    app = await backend.client.get_app("/jupyter/alice/notebook")
    assert len(app.tasks) == 1
    assert len(await backend.client.list_apps()) == 1


def test_a_task_of_the_former_definition_is_not_the_server() -> None:
    def task(name: str, version: str, **fields: Any) -> dict[str, Any]:
        place = {"id": name, "appId": "/a", "state": "TASK_RUNNING", "host": "h", "ports": [1]}
        return {**place, "version": version, "startedAt": version, **fields}

    old, new, newer = (f"2026-01-01T00:00:0{second}.000Z" for second in (1, 2, 3))
    tasks = [task("old", old), task("new", new), task("newer", newer)]
    status = AppStatus.from_wire({"id": "/a", "tasks": tasks})
    assert newest_running(status).id == "newer"
    status = AppStatus.from_wire({"id": "/a", "tasks": [task("old", old)]})
    assert newest_running(status, parse_timestamp(old)).id == "old"
    assert newest_running(status, parse_timestamp(new)) is None
    for useless in ({"state": "TASK_KILLING"}, {"ports": []}, {"host": ""}):
        status = AppStatus.from_wire({"id": "/a", "tasks": [task("new", new, **useless)]})
        assert newest_running(status) is None


@pytest.mark.parametrize(
    ("host", "url"),
    [("10.0.0.4", "http://10.0.0.4:80"), ("::1", "http://[::1]:80"), ("[fe80::2]", "http://[fe80::2]:80")],
)
def test_an_address_of_any_kind_makes_a_url(host: str, url: str) -> None:
    assert url_of("http", host, 80) == url


async def test_a_user_may_start_again_right_after_a_stop(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    for _ in range(3):
        await user.spawn()
        await user.spawner.stop(now=True)
        await user.stop()
    await hub.eventually(lambda: hub.nothing_left(backend))

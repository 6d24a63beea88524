"""Outages of the backend and restarts of the hub: what is not known is not lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from jupyterhub import orm
from sqlalchemy import inspect

from hubfleet.api.app import App
from hubfleet.spawner import stopping
from hubfleet.spawner.link import close_links


async def test_while_the_backend_is_down_nothing_is_known_and_nothing_is_lost(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    url = user.spawner.server.url
    await backend.kill()
    assert await hub.eventually(lambda: asyncio.sleep(0, not user.spawner._link().watcher.sighted))
    assert await user.spawner.poll() is None
    assert await user.spawner.get_url() == url
    assert (await hub.ask(url))["env"]["JUPYTERHUB_USER"] == "alice"
    await backend.start()
    assert await hub.eventually(lambda: asyncio.sleep(0, user.spawner._link().watcher.sighted))
    assert await user.spawner.poll() is None
    assert await user.spawner.get_url() == url
    await user.stop()
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_a_stop_during_an_outage_is_done_after_it(
    hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "UNANSWERED_SECONDS", 0.3)
    user = hub.user("alice")
    await user.spawn()
    await backend.kill()
    await user.stop()
    assert backend.tasks(), "nobody could stop it yet"
    await backend.start()
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_a_start_takes_an_app_off_the_list_of_those_to_be_deleted(
    hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "UNANSWERED_SECONDS", 0.1)
    user = hub.user("alice")
    await user.spawn()
    await backend.kill()
    await user.stop()
    await backend.start()
    await user.spawn()
    assert not user.spawner._link().reaper.holds("/jupyter/alice/notebook")
    assert (await hub.ask(user.spawner.server.url))["env"]["JUPYTERHUB_USER"] == "alice"


async def test_a_restarted_hub_finds_its_servers(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    url = user.spawner.server.url
    await close_links()
    hub.config.MarathonSpawner.app_prefix = "changed"
    again = hub.user("alice").spawner
    assert await again.poll() is None
    assert await again.get_url() == url
    assert again.app_id == "/jupyter/alice/notebook"
    assert again._link().watcher.lookup(again.app_id) is not None, "it is followed where it is"
    await again.stop()
    assert await hub.nothing_left(backend)


async def test_a_hub_killed_during_a_start_finds_the_server_by_its_place(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    url = user.spawner.server.url
    user.spawner.orm_spawner.state = {}
    user.spawner.server.port = 0
    hub.db.commit()
    await close_links()
    again = hub.user("alice").spawner
    assert await again.poll() is None
    assert await again.get_url() == url


async def test_where_the_server_will_be_is_in_the_database_before_anything_is_done_for_it(
    hub: Any, backend: Any
) -> None:
    seen = {}

    async def look(spawner: Any) -> None:
        assert not inspect(spawner.orm_spawner).modified, "it is written, and not only noted"
        seen.update(spawner.orm_spawner.state)

    hub.config.MarathonSpawner.pre_spawn_hook = look
    user = hub.user("alice")
    await user.spawn()
    assert seen == {"app_id": "/jupyter/alice/notebook", "group": "/jupyter", "task_id": ""}
    assert user.spawner.orm_spawner.state == seen | {"task_id": user.spawner._task_id}
    await user.stop()
    assert user.spawner.orm_spawner.state == {}


async def test_a_place_that_was_noted_for_a_start_may_be_anothers(hub: Any, backend: Any) -> None:
    """The hub was killed before its app was submitted, and at its place is one of another hub."""
    app = App.model_validate(
        {"id": "/jupyter/alice/notebook", "cmd": "exec sleep 600", "cpus": 0.01, "mem": 1}
    )
    await backend.client.create_app(app)

    async def runs() -> int:
        return int((await backend.client.get_app(app.id)).tasks_running)

    await hub.eventually(runs)
    spawner = hub.spawner("alice")
    row = spawner.orm_spawner
    row.server = orm.Server(
        proto="http", ip="127.0.0.1", port=1, cookie_name="alice", base_url="/user/alice/"
    )
    row.state = {"app_id": app.id, "group": "/jupyter", "task_id": ""}
    hub.db.commit()
    again = hub.user("alice").spawner

    async def is_ended() -> bool:
        return await again.poll() == 0

    assert await hub.eventually(is_ended)  # not at once, if the app is about to be read again
    await hub.user("alice").spawner.stop()
    assert (await backend.client.get_app(app.id)).tasks


async def test_a_server_whose_app_went_while_the_hub_was_down_has_ended(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    await close_links()
    await backend.client.delete_app("/jupyter/alice/notebook")
    again = hub.user("alice").spawner
    assert await again.poll() == 0


async def test_a_hub_that_starts_without_its_backend_takes_its_servers_for_running(
    hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubfleet.spawner.link.FIRST_SIGHT_SECONDS", 0.2)
    user = hub.user("alice")
    await user.spawn()
    url = user.spawner.server.url
    await close_links()
    await backend.kill()
    again = hub.user("alice").spawner
    assert await asyncio.wait_for(again.poll(), 60) is None
    assert await again.get_url() == url

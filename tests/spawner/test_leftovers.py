"""Apps that no server owns are found and removed; those of other hubs, and those of servers, never."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.spawner import leftovers, stopping
from hubfleet.spawner.link import close_links


async def apps(backend: Any) -> set[str]:
    return {app.id for app in await backend.client.list_apps()}


def marked(app_id: str, hub_id: str, user: str, server: str = "") -> App:
    marks = {labels.HUB: hub_id, labels.USER: user, labels.SERVER: server}
    return App(id=app_id, cmd="exec sleep 1000", cpus=0.01, mem=1, labels=marks)


async def test_leftovers_are_removed_and_nothing_else(
    hub: Any, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hub.config.MarathonSpawner.leftover_grace = 1
    hub_id = hub.spawner("nobody").hub_id
    await close_links()
    for app in (
        marked("/jupyter/deleted/notebook", hub_id, "deleted"),
        marked("/jupyter/alice/servers/old", hub_id, "alice", "old"),
        marked("/former-prefix/alice/notebook", hub_id, "alice"),
        marked("/jupyter/carol/notebook", "another hub", "carol"),
        App(id="/jupyter/unmarked", cmd="exec sleep 1000", cpus=0.01, mem=1),
    ):
        await backend.client.create_app(app)
    user = hub.user("alice")
    with caplog.at_level("WARNING", "hubfleet.spawner.leftovers"):
        await user.spawn()
        kept = {"/jupyter/alice/notebook", "/jupyter/carol/notebook", "/jupyter/unmarked"}

        async def only_the_kept() -> bool:
            return await apps(backend) == kept

        await hub.eventually(only_the_kept)
    assert "/jupyter/deleted/notebook is an app of this hub (user 'deleted', server '')" in caplog.text
    assert "/jupyter/deleted/notebook is removed" in caplog.text
    assert await user.spawner.poll() is None


async def test_a_renamed_users_server_is_no_leftover(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.leftover_grace = 0
    user = hub.user("alice")
    await user.spawn()
    user.orm_user.name = "alice-of-old"
    hub.db.commit()
    await backend.client.create_app(marked("/jupyter/x", user.spawner.hub_id, "nobody"))

    async def the_leftover_is_gone() -> bool:
        return await apps(backend) == {"/jupyter/alice/notebook"}

    await hub.eventually(the_leftover_is_gone)


async def test_a_stop_that_a_killed_hub_did_not_finish_is_finished_by_the_next(
    hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "UNANSWERED_SECONDS", 0.1)
    hub.config.MarathonSpawner.leftover_grace = 0.5
    user = hub.user("alice")
    await user.spawn()
    await backend.kill()
    await user.stop()  # JupyterHub forgets the server
    await close_links()  # the hub is killed
    await backend.start()
    assert backend.tasks()
    hub.spawner("bob")  # the next hub shows somebody their page
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_without_a_grace_leftovers_are_only_told(
    hub: Any, backend: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "LOOK_SECONDS", 0.1)
    hub.config.MarathonSpawner.leftover_grace = None
    spawner = hub.spawner("bob")
    await backend.client.create_app(marked("/jupyter/x", spawner.hub_id, "nobody"))
    with caplog.at_level("WARNING", "hubfleet.spawner.leftovers"):
        await hub.eventually(lambda: asyncio.sleep(0, "no server owns it" in caplog.text))
    assert await apps(backend) == {"/jupyter/x"}

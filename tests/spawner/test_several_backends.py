"""Servers of one hub on several backends: each is started, known after a restart, and stopped at its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from conftest import RunningBackend, WarmBackend
from jupyterhub import orm
from ports import hub_ports

from hubfleet.spawner.link import close_links


@pytest.fixture
async def second(tmp_path: Path) -> AsyncIterator[RunningBackend]:
    (tmp_path / "second").mkdir()
    first, _, last = hub_ports().partition("-")  # none that the other backend of this test gives
    running = WarmBackend(tmp_path / "second" / "state", (int(first), int(last)))
    try:
        await running.start()
        yield running
    finally:
        await running.destroy()


async def ids(backend: RunningBackend) -> list[str]:
    return [app.id for app in await backend.client.list_apps()]


async def test_a_group_has_its_servers_on_another_backend(
    hub: Any, backend: RunningBackend, second: RunningBackend
) -> None:
    hub.config.MarathonSpawner.other_backends = {second.url: second.admin_token}
    hub.config.MarathonSpawner.group_overrides = {
        "elsewhere": {"groups": ["elsewhere"], "spawner_override": {"marathon_host": second.url}}
    }
    alice, bob = hub.user("alice"), hub.user("bob")
    bob.orm_user.groups = [orm.Group(name="elsewhere")]
    hub.db.commit()
    await alice.spawn()
    await bob.spawn()
    assert (await ids(backend), await ids(second)) == (
        ["/jupyter/alice/notebook"],
        ["/jupyter/bob/notebook"],
    )
    assert (await hub.ask(bob.spawner.server.url))["env"]["HUBFLEET_URL"] == second.url

    # The hub is started again: nothing has applied the group's overrides when it asks for its servers.
    await close_links()
    alice, bob = hub.user("alice"), hub.user("bob")
    for user in (alice, bob):
        assert await user.spawner.poll() is None
        assert await user.spawner.get_url() == user.spawner.server.url
    assert bob.spawner.marathon_host == backend.url
    assert second.admin_token not in str(bob.spawner.get_state())
    await bob.stop()
    await alice.stop()
    assert await ids(backend) == await ids(second) == []


async def test_a_backend_that_is_no_longer_configured_has_moved(hub: Any, backend: RunningBackend) -> None:
    spawner = hub.spawner("alice")
    spawner.load_state({"app_id": "/jupyter/alice/notebook", "backend": "http://no.such.backend:1"})
    assert spawner._link().address.urls == (backend.url,)

"""What groups were: how long it is remembered, and that nothing is remembered wrongly."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from hubfleet.api.app import App
from hubfleet.backend.drivers import Offer
from hubfleet.backend.events import EventBus
from hubfleet.backend.group_store import KEPT_VERSIONS
from hubfleet.backend.normal import normal
from hubfleet.backend.orchestrator.changes import Changes
from hubfleet.backend.state import State
from hubfleet.backend.store import Store


class World:
    """Changes on a store, of which nothing follows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path)
        self.state = State(self.store)
        offers = [Offer("here", cpus=4, mem=1000, disk=1000)]
        self.changes = Changes(self.state, EventBus(), lambda: offers, lambda _: None)

    def put(self, app_id: str, **fields: Any) -> None:
        body = {"id": app_id, "cmd": "x", "instances": 0, **fields}
        self.changes.put(normal(App.model_validate(body)), force=True)

    def rows(self, table: str) -> int:
        with sqlite3.connect(self.path) as database:
            return int(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def reopened(self) -> World:
        self.store.close()
        return World(self.path)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store.sqlite")


def test_so_many_versions_of_each_group_are_kept_and_no_more(world: World) -> None:
    world.put("/quiet/app")
    (first,) = world.state.groups.versions("/quiet")
    for number in range(KEPT_VERSIONS + 10):
        world.put("/busy/app", labels={"n": str(number)})
    groups = world.state.groups
    assert len(groups.versions("/busy")) == len(groups.versions("")) == KEPT_VERSIONS
    assert groups.versions("/quiet") == [first], "what others do costs a group no version"
    for number, version in enumerate(reversed(groups.versions("/busy"))):
        snapshot = groups.at("/busy", version)
        assert snapshot is not None
        assert f'"n":"{number + 10}"' in snapshot.apps["/busy/app"]
    assert world.rows("group_parts") == KEPT_VERSIONS + 1
    expected = groups.versions("/busy")
    again = world.reopened().state.groups
    assert again.versions("/busy") == expected
    assert again.version("/busy") == expected[0]


def test_of_a_group_that_is_gone_only_those_above_it_know(world: World) -> None:
    world.put("/a/b/app", env={"SECRET": "of-the-former"})
    (version,) = world.state.groups.versions("/a/b")
    world.put("/a/other")
    world.changes.remove("/a/b/app")
    groups = world.state.groups
    assert groups.versions("/a/b") == []
    assert groups.version("/a/b") is None
    world.put("/a/b/app")
    assert groups.at("/a/b", version) is None, "a group of the same name may be somebody else's"
    before = groups.at("/a", version)
    assert before is not None
    assert "of-the-former" in before.apps["/a/b/app"]
    for number in range(KEPT_VERSIONS):
        world.put("/a/other", labels={"n": str(number)})
    assert groups.at("/a", version) is None
    assert world.rows("group_parts") == KEPT_VERSIONS + 1, "it is forgotten with the versions that knew it"


def test_a_store_of_before_is_taken_over_as_it_is(world: World) -> None:
    for app_id in ("/a/one", "/a/two", "/b"):
        world.put(app_id)
    expected = {app_id: record.app.version for app_id, record in world.state.apps.items()}
    with sqlite3.connect(world.path) as database:
        database.execute("DELETE FROM group_parts WHERE id != '/b'")
        database.execute(
            "INSERT INTO group_parts VALUES ('/gone', 'app', '', '2001-01-01T00:00:00.000Z', NULL, '{}')"
        )
        database.execute("DELETE FROM group_versions")
    world = world.reopened()
    groups = world.state.groups
    assert groups.version("/a") == expected["/a/two"]
    now = groups.at("", groups.versions("")[0])
    assert now is not None
    assert now.apps.keys() == expected.keys()
    assert groups.versions("/a") == sorted([expected["/a/one"], expected["/a/two"]], reverse=True)  # type: ignore[type-var]
    versions = groups.versions("")
    assert world.reopened().state.groups.versions("") == versions

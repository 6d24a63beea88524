"""Groups as the API shows them: a tree of JSON, made in pieces."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from hubfleet.backend.server.grouptree import GroupTree, Shown

ALL = {"group.groups", "group.apps", "group.pods"}
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def tree(group: str, *app_ids: str, made: tuple[str, ...] = (), embeds: set[str] = ALL) -> Any:
    apps = {app_id: ('{"id":', json.dumps(app_id), "}") for app_id in app_ids}
    pieces = GroupTree(group, apps, made).pieces(embeds, lambda each: Shown(NOON, [f"/of{each}"]))
    return json.loads("".join(pieces))


def whole(group: str, apps: list[str], groups: list[Any]) -> Any:
    return {
        "id": group or "/",
        "dependencies": [f"/of{group}"],
        "version": "2026-01-01T12:00:00.000Z",
        "apps": [{"id": app_id} for app_id in apps],
        "pods": [],
        "groups": groups,
    }


def test_apps_and_groups_lie_where_their_ids_say() -> None:
    inner = whole("/a/b", ["/a/b/c"], [])
    assert tree("", "/a/b/c", "/a/d", "/e") == whole("", ["/e"], [whole("/a", ["/a/d"], [inner])])
    assert tree("/a/b", "/a/b/c") == inner


def test_a_group_without_apps_is_shown_where_it_was_made() -> None:
    empty = whole("/a/b/c", [], [])
    assert tree("", made=("/a/b/c",)) == whole("", [], [whole("/a", [], [whole("/a/b", [], [empty])])])
    assert tree("/a", "/a/x", made=("/a",)) == whole("/a", ["/a/x"], [])


def test_less_is_shown_to_who_asks_for_less() -> None:
    bare = {"dependencies": ["/of"], "version": "2026-01-01T12:00:00.000Z"}
    assert tree("", "/a", "/b/c", embeds={"group.apps"}) == {"id": "/", **bare, "apps": [{"id": "/a"}]}
    assert tree("", "/a", embeds={"group.groups"}) == {"id": "/", **bare, "groups": []}
    never = GroupTree("", {}).pieces(set(), lambda _: Shown(None, []))
    assert json.loads("".join(never))["version"] == "1970-01-01T00:00:00.000Z"

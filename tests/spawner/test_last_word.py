"""What an administrator may still change of an app, and what nobody may."""

from __future__ import annotations

from typing import Any

import pytest
from tornado.web import HTTPError

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.spawner.errors import StartRefused
from hubfleet.spawner.last_word import merged

APP = {
    "id": "/jupyter/alice/notebook",
    "cmd": "exec x",
    "instances": 1,
    "env": {"A": "1", "B": "2"},
    "labels": {labels.HUB: "h", labels.USER: "alice", labels.SERVER: "", "team": "physics"},
    "constraints": [["rack", "UNIQUE"]],
    "backoffFactor": 2.0,
}


@pytest.mark.parametrize(
    ("changes", "field", "value"),
    [
        ({"env": {"B": "3", "C": "4"}}, "env", {"A": "1", "B": "3", "C": "4"}),
        ({"env": {"A": None}}, "env", {"B": "2"}),
        ({"constraints": [["zone", "UNIQUE"]]}, "constraints", [["zone", "UNIQUE"]]),
        ({"backoffFactor": None}, "backoff_factor", 1.15),
        ({"acceptedResourceRoles": ["jupyter"]}, "accepted_resource_roles", ["jupyter"]),
    ],
)
def test_objects_are_merged_none_removes_and_all_else_replaces(
    changes: dict[str, Any], field: str, value: Any
) -> None:
    assert getattr(merged(App.from_wire(APP), changes), field) == value


def test_what_a_newer_marathon_knows_goes_on() -> None:
    assert merged(App.from_wire(APP), {"newField": {"a": 1}}).to_wire()["newField"] == {"a": 1}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"id": "/jupyter/bob/notebook"}, "may not change the app's id"),
        ({"instances": 2}, "a server has exactly one"),
        ({"labels": {labels.USER: "bob"}}, "may not change the label HUBFLEET_USER"),
        ({"labels": None}, "may not change the label HUBFLEET_HUB"),
        ({"labels": {labels.SERVER: None}}, "may not change the label HUBFLEET_SERVER"),
    ],
)
def test_an_app_stays_the_same_servers(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        merged(App.from_wire(APP), changes)


async def test_extra_app_config_reaches_the_app(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", extra_app_config={"labels": {"team": "physics"}, "cpus": 0.5})
    app = await spawner.app_to_submit()
    assert app.labels["team"] == "physics"
    assert app.labels[labels.USER] == "alice"
    assert app.cpus == 0.5


async def change(spawner: Any, app: App) -> None:
    app.labels["queue"] = f"of {spawner.user.name}"


def replace(spawner: Any, app: App) -> dict[str, Any]:
    return {**app.to_wire(), "labels": {**app.labels, "queue": f"of {spawner.user.name}"}}


@pytest.mark.parametrize("hook", [change, replace])
async def test_a_hook_changes_the_app_or_returns_another(small_hub: Any, hook: Any) -> None:
    spawner = small_hub.spawner("alice", modify_app_hook=hook, extra_app_config={"labels": {"queue": "no"}})
    assert (await spawner.app_to_submit()).labels["queue"] == "of alice"


def steal(spawner: Any, app: App) -> None:
    app.id = "/jupyter/bob/notebook"


def nonsense(spawner: Any, app: App) -> None:
    app.cpus = "the secret word"  # type: ignore[assignment]


def break_down(spawner: Any, app: App) -> None:
    raise RuntimeError("the hook is broken")


@pytest.mark.parametrize(
    ("hook", "said"), [(steal, "the app's id"), (nonsense, "cpus"), (break_down, "the hook is broken")]
)
async def test_a_hook_that_fails_refuses_the_start_in_words(small_hub: Any, hook: Any, said: str) -> None:
    spawner = small_hub.spawner("alice", modify_app_hook=hook)
    with pytest.raises(StartRefused, match=said) as refused:
        await spawner.app_to_submit()
    assert refused.value.reason == "configuration"
    assert "the secret word" not in refused.value.message


async def test_a_hook_may_refuse_in_its_own_words(small_hub: Any) -> None:
    def refuse(spawner: Any, app: App) -> None:
        raise HTTPError(403, "not on Sundays")

    with pytest.raises(HTTPError, match="not on Sundays"):
        await small_hub.spawner("alice", modify_app_hook=refuse).app_to_submit()

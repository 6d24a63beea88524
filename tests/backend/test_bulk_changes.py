"""Changes of several apps at once, and of one by PATCH: all of it happens, or nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import LINGERING, RunningBackend
from rest import Rest, eventually, stream

SMALL: dict[str, Any] = {"cmd": "exec sleep 600", "cpus": 0.01, "mem": 1}


async def test_some_apps_are_made_and_changed_in_one_deployment(rest: Rest) -> None:
    await rest.create("/bulk/old", env={"A": "1"})
    await rest.running("/bulk/old")
    await rest.deployed()
    body = [{"id": "/bulk/old", "instances": 2}, {"id": "bulk/new", **SMALL}]
    async with stream(rest.url, rest.headers["Authorization"].partition(" ")[2]) as heard:
        answer = await rest("PUT", "/v2/apps", body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["deploymentId"] == answer.headers["Marathon-Deployment-Id"]
        await rest.running("/bulk/old", 2)
        await rest.running("/bulk/new")
        await heard.until("deployment_success")
        (done,) = [event for event in heard.events if event["eventType"] == "deployment_success"]
        assert done["id"] == answer.json()["deploymentId"]
        scaled = {action["app"] for action in done["plan"]["steps"][-1]["actions"]}
        assert scaled == {"/bulk/old", "/bulk/new"}
    assert "api_post_event" not in heard.types(), "only changes of one app are told as such"
    assert (await rest.app("/bulk/old"))["env"] == {"A": "1"}


async def test_a_bulk_patch_makes_nothing(shared_rest: Rest) -> None:
    await shared_rest.create("/patch/there", instances=0)
    await shared_rest.deployed()
    both = [{"id": "/patch/there", "cpus": 0.02}, {"id": "/patch/missing", **SMALL}]
    answer = await shared_rest("PATCH", "/v2/apps", both)
    assert (answer.status_code, answer.json()) == (404, {"message": "App '/patch/missing' does not exist"})
    assert (await shared_rest.app("/patch/there"))["cpus"] == 0.01
    assert (await shared_rest("PATCH", "/v2/apps", both[:1])).status_code == 200
    assert (await shared_rest.app("/patch/there"))["cpus"] == 0.02
    single = await shared_rest("PATCH", "/v2/apps/patch/missing", SMALL)
    assert (single.status_code, single.json()) == (404, {"message": "App '/patch/missing' does not exist"})


async def test_a_patch_replaces_given_fields_only(shared_rest: Rest) -> None:
    await shared_rest.create("/patched", instances=0, env={"A": "1"}, labels={"a": "b"})
    await shared_rest.deployed()
    answer = await shared_rest("PATCH", "/v2/apps/patched?partialUpdate=false", {"env": {"B": "2"}})
    assert (answer.status_code, answer.json().keys()) == (200, {"version", "deploymentId"})
    app = await shared_rest.app("/patched")
    assert (app["env"], app["labels"], app["cpus"]) == ({"B": "2"}, {"a": "b"}, 0.01)


async def test_changes_of_one_app_in_a_list_build_on_each_other(shared_rest: Rest) -> None:
    twice = [{"id": "/twice", **SMALL, "instances": 0}, {"id": "/twice", "labels": {"a": "b"}}]
    assert (await shared_rest("PUT", "/v2/apps", twice)).status_code == 200
    app = await shared_rest.app("/twice")
    assert (app["cmd"], app["labels"]) == (SMALL["cmd"], {"a": "b"})


async def test_whole_definitions_in_a_list_replace_all(shared_rest: Rest) -> None:
    await shared_rest.create("/whole", instances=0, env={"A": "1"})
    await shared_rest.deployed()
    whole = [{"id": "/whole", **SMALL, "instances": 0}]
    assert (await shared_rest("PUT", "/v2/apps?partialUpdate=false", whole)).status_code == 200
    assert "env" not in await shared_rest.app("/whole")


@pytest.mark.parametrize(
    ("query", "second", "status", "found"),
    [
        ("", {"id": "/ok", "cpus": -1}, 422, "(1)/cpus"),
        ("", {"id": "/ok", "cmd": "a", "args": ["x"]}, 422, "(1)"),
        ("", {"id": "/bulk/bad name", **SMALL}, 422, "(1)/id"),
        ("", {"id": "/none", "cpus": 1}, 422, "(1)"),
        ("", {"id": 7}, 422, "(1)/id"),
        ("", "x", 422, "(1)"),
        ("", {"cmd": "x"}, 422, "requirement failed: App Update must have app id set"),
        ("?partialUpdate=false", {"cmd": "x"}, 422, "must have app id set"),
        ("", {"id": "/ok", "version": "2001-01-01T00:00:00.000Z"}, 404, "does not exist in version"),
        ("", {"id": "/ok", "version": "x"}, 422, "Invalid timestamp provided 'x'."),
        ("", {"id": "/ok/below", **SMALL}, 422, "/ok is an app, so it cannot hold the app /ok/below"),
    ],
)
async def test_one_bad_change_spoils_the_list(
    shared_rest: Rest, query: str, second: Any, status: int, found: str
) -> None:
    if (await shared_rest("GET", "/v2/apps/ok")).status_code == 404:
        await shared_rest.create("/ok", instances=0)
        await shared_rest.deployed()
    before = await shared_rest.get("/v2/apps")
    first = {"id": "/ok", **SMALL, "instances": 0, "cpus": 0.5}
    answer = await shared_rest("PUT", f"/v2/apps{query}", [first, second])
    assert answer.status_code == status, answer.text
    assert found in answer.text
    assert await shared_rest.get("/v2/apps") == before


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_a_list_is_a_list_and_not_too_long(shared_rest: Rest, method: str) -> None:
    answer = await shared_rest(method, "/v2/apps", {"id": "/x", **SMALL})
    assert answer.json()["details"] == [{"path": "/", "errors": ["error.expected.jsarray"]}]
    answer = await shared_rest(method, "/v2/apps", [{"id": "/x"}] * 1001)
    assert (answer.status_code, answer.json()["message"]) == (
        422,
        "1001 apps in one change, of at most 1000: send them in parts",
    )
    assert (await shared_rest(method, "/v2/apps", [])).status_code == 200


async def test_a_list_is_locked_as_a_whole(rest: Rest) -> None:
    await rest.create("/busy", cpus=60, instances=2)  # the second never fits: the deployment stays
    (running,) = await rest.get("/v2/deployments")
    body = [{"id": "/free", **SMALL, "instances": 0}, {"id": "/busy", "instances": 1}]
    refused = await rest("PUT", "/v2/apps", body)
    assert (refused.status_code, refused.json()["deployments"]) == (409, [{"id": running["id"]}])
    assert (await rest("GET", "/v2/apps/free")).status_code == 404
    assert (await rest("PUT", "/v2/apps?force=TRUE", body)).status_code == 200
    await rest.deployed()


async def test_a_restart_replaces_all_tasks_of_the_same_definition(
    rest: Rest, backend: RunningBackend
) -> None:
    await rest.create("/again", cmd=LINGERING, instances=2, taskKillGracePeriodSeconds=300)
    old = await rest.running("/again", 2)
    await rest.deployed()
    await backend.deaf(2)
    before = await rest.app("/again")
    answer = await rest("POST", "/v2/apps/again/restart")
    assert (answer.status_code, answer.json().keys()) == (200, {"version", "deploymentId"})
    (deployment,) = await rest.get("/v2/deployments")
    assert deployment["steps"] == [{"actions": [{"action": "RestartApplication", "app": "/again"}]}]
    assert deployment["affectedPods"] == []
    assert deployment["currentActions"] == [
        {"action": "RestartApplication", "app": "/again", "readinessCheckResults": []}
    ]
    assert (await rest("POST", "/v2/apps/again/restart")).status_code == 409

    async def old_ones_die() -> bool:
        states = {task["id"]: task["state"] for task in await rest.tasks("/again")}
        return [states[task["id"]] for task in old] == ["TASK_KILLING"] * 2

    await eventually(old_ones_die)
    backend.let_end(*(task["id"] for task in old))
    await rest.deployed()
    new = await rest.running("/again", 2)
    assert {task["id"] for task in new}.isdisjoint(task["id"] for task in old)
    after = await rest.app("/again")
    assert after["versionInfo"]["lastConfigChangeAt"] == answer.json()["version"] == after["version"]
    assert {**after, "version": 0, "versionInfo": 0, "tasks": 0} == {
        **before,
        "version": 0,
        "versionInfo": 0,
        "tasks": 0,
    }
    none = await rest("POST", "/v2/apps/nothing/restart")
    assert (none.status_code, none.json()) == (404, {"message": "App '/nothing' does not exist"})


async def test_a_long_list_holds_up_nobody_and_loses_no_change_of_others(rest: Rest) -> None:
    ids = [f"/long/a{number}" for number in range(300)]
    made = await rest("PUT", "/v2/apps", [{"id": app_id, **SMALL, "instances": 0} for app_id in ids])
    assert made.status_code == 200
    await rest.deployed()
    body = [{"id": app_id, "labels": {"changed": "yes"}} for app_id in ids]
    whole = asyncio.create_task(rest("PUT", "/v2/apps?force=true", body))
    others = []
    while not whole.done() and len(others) < len(ids):
        app_id = ids[len(others)]
        others.append(app_id)
        assert (await rest("PUT", f"/v2/apps{app_id}?force=true", {"mem": 7})).status_code == 200
    assert (await whole).status_code == 200, (await whole).text
    await rest.deployed()
    apps = {app["id"]: app for app in (await rest.get("/v2/apps"))["apps"]}
    assert [app_id for app_id in ids if apps[app_id]["labels"] != {"changed": "yes"}] == []
    assert [app_id for app_id in others if apps[app_id]["mem"] != 7] == []


async def test_who_reads_hears_all_of_a_change_of_a_thousand_apps(
    rest: Rest, backend: RunningBackend
) -> None:
    checks = [{"protocol": "TCP"}, {"protocol": "HTTP"}]
    apps = [
        {"id": f"/crowd/a{number}", **SMALL, "instances": 0, "healthChecks": checks} for number in range(1000)
    ]
    async with stream(backend.url, backend.admin_token) as heard:
        assert (await rest("PUT", "/v2/apps", apps)).status_code == 200
        await eventually(lambda: asyncio.sleep(0, heard.raw.count(b"event: deployment_success") == 1))
        assert not heard.ended.is_set(), "more events at once than a reader may have before it"
        assert heard.types().count("add_health_check_event") == 2 * len(apps)
        assert (await rest("DELETE", "/v2/groups/crowd")).status_code == 200
        await eventually(lambda: asyncio.sleep(0, heard.raw.count(b"event: deployment_success") == 2))
    types = heard.types()
    assert types.count("remove_health_check_event") == 2 * len(apps)
    assert types.count("app_terminated_event") == len(apps)
    stamps = [event["timestamp"] for event in heard.events]
    assert stamps == sorted(stamps), "what was prepared before is told as of the moment it happened"

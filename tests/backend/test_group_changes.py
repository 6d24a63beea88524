"""Groups made, changed, rolled back and ended from a body: what becomes of the apps in them."""

from __future__ import annotations

from typing import Any

from conftest import RunningBackend
from rest import Rest, stream

SMALL: dict[str, Any] = {"cmd": "exec sleep 600", "cpus": 0.01, "mem": 1, "instances": 0}


def small(app_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": app_id, **SMALL, **fields}


async def ids(rest: Rest, group: str) -> list[str]:
    """The apps and, with a slash behind them, the groups in a group, at any depth."""

    def within(body: Any) -> list[str]:
        inner = [each for child in body["groups"] for each in (child["id"] + "/", *within(child))]
        return sorted([*(app["id"] for app in body["apps"]), *inner])

    return within(await rest.get(f"/v2/groups{group}"))


async def change(rest: Rest, method: str, path: str, body: Any = None) -> dict[str, Any]:
    answer = await rest(method, f"/v2/groups{path}", body)
    assert answer.status_code == (201 if method == "POST" else 200), answer.text
    found: dict[str, Any] = answer.json()
    if "deploymentId" in found:
        assert answer.headers["Marathon-Deployment-Id"] == found["deploymentId"]
        await rest.deployed()
    return found


async def test_a_group_is_made_with_all_that_is_in_it(shared_rest: Rest) -> None:
    body = {
        "id": "made",
        "apps": [small("one"), small("/made/two")],
        "groups": [{"id": "deep", "groups": [{"id": "/made/deep/er", "apps": [small("three")]}]}],
        "something": "unknown",
    }
    answer = await shared_rest("POST", "/v2/groups", body)
    assert (answer.status_code, answer.headers["Location"]) == (201, "/v2/groups/made")
    assert answer.json().keys() == {"version", "deploymentId"}
    expected = ["/made/deep/", "/made/deep/er/", "/made/deep/er/three", "/made/one", "/made/two"]
    assert await ids(shared_rest, "/made") == expected
    again = await shared_rest("POST", "/v2/groups/made", {})
    message = "Group /made is already created. Use PUT to change this group."
    assert (again.status_code, again.json()) == (409, {"message": message})
    taken = await shared_rest("POST", "/v2/groups/made", {"id": "one"})
    message = "An app with the path /made/one already exists."
    assert (taken.status_code, taken.json()) == (409, {"message": message})
    below = await change(shared_rest, "POST", "/made/deep", {"id": "other"})
    assert below.keys() == {"version", "deploymentId"}
    assert "/made/deep/other/" in await ids(shared_rest, "/made")


async def test_what_a_body_leaves_out_stays_and_what_it_names_is_replaced(shared_rest: Rest) -> None:
    await change(
        shared_rest,
        "POST",
        "/changed",
        {
            "apps": [small("a", env={"A": "1"}), small("b")],
            "groups": [{"id": "x", "apps": [small("c")]}, {"id": "y", "apps": [small("d")]}],
        },
    )
    await change(shared_rest, "PUT", "/changed", {"apps": [small("a"), small("e")]})
    assert await ids(shared_rest, "/changed") == [
        *("/changed/a", "/changed/e", "/changed/x/", "/changed/x/c", "/changed/y/", "/changed/y/d")
    ]
    assert "env" not in await shared_rest.app("/changed/a"), "a definition in a group is a whole one"
    await change(shared_rest, "PUT", "/changed", {"groups": [{"id": "x"}, {"id": "z"}]})
    assert await ids(shared_rest, "/changed") == [
        *("/changed/a", "/changed/e", "/changed/x/", "/changed/x/c", "/changed/z/")
    ]
    await change(shared_rest, "PUT", "/changed", {"id": "z", "apps": [small("f")]})
    await change(shared_rest, "PUT", "/changed", {"id": "/changed", "apps": [], "groups": []})
    assert await ids(shared_rest, "/changed") == []


async def test_what_is_read_may_be_written_again(shared_rest: Rest) -> None:
    await change(shared_rest, "POST", "/same", {"apps": [small("a")], "groups": [{"id": "b"}]})
    read = await shared_rest.get("/v2/groups/same?embed=group.apps")
    version = read.pop("version")
    refused = await shared_rest("PUT", "/v2/groups/same", {**read, "version": version})
    assert refused.json()["details"] == [
        {"path": "/version", "errors": ["not allowed in conjunction with other properties."]}
    ]
    await change(shared_rest, "PUT", "/same", read)
    assert (await shared_rest.get("/v2/groups/same"))["version"] == version, "nothing has changed"


async def test_a_dry_run_says_what_would_be_done(shared_rest: Rest) -> None:
    await change(shared_rest, "POST", "/dry", {"apps": [small("old"), small("kept")]})
    before = await shared_rest.get("/v2/groups/dry")
    body = {"apps": [small("kept", instances=2), small("new", dependencies=["kept"])]}
    plan = await change(shared_rest, "PUT", "/dry?dryRun=true", body)
    assert plan == {
        "steps": [
            {"actions": [{"action": "StopApplication", "app": "/dry/old"}]},
            {"actions": [{"action": "StartApplication", "app": "/dry/new"}]},
            {"actions": [{"action": "ScaleApplication", "app": "/dry/kept"}]},
            {"actions": [{"action": "ScaleApplication", "app": "/dry/new"}]},
        ]
    }
    assert (await change(shared_rest, "PUT", "/dry?dryRun=true", {"scaleBy": 3})) == {"steps": []}
    wrong = await shared_rest("PUT", "/v2/groups/dry?dryRun=true", {"apps": [small("x", mem=1e9)]})
    assert wrong.status_code == 422
    assert await shared_rest.get("/v2/groups/dry") == before
    assert await shared_rest.get("/v2/deployments") == []


async def test_a_group_goes_back_to_what_it_was(rest: Rest, backend: RunningBackend) -> None:
    await change(rest, "POST", "/team", {"apps": [small("a"), small("b")], "dependencies": ["/base"]})
    first = await rest.get("/v2/groups/team")
    await change(rest, "PUT", "/team", {"groups": [{"id": "in", "apps": [small("c")]}]})
    assert (await rest("PUT", "/v2/apps/team/a", {"env": {"A": "1"}})).status_code == 200
    assert (await rest("DELETE", "/v2/apps/team/b")).status_code == 200
    await rest.deployed()
    await rest.create("/elsewhere", instances=0)
    last = await rest.get("/v2/groups/team")
    versions = await rest.get("/v2/groups/team/versions")
    assert versions == sorted(versions, reverse=True)
    assert (versions[0], versions[-1], len(versions)) == (last["version"], first["version"], 4)
    assert len(await rest.get("/v2/groups/versions")) == 5
    await backend.kill()
    await backend.start()
    assert await rest.get("/v2/groups/team/versions") == versions
    then = await rest.get(f"/v2/groups/team/versions/{first['version']}")
    assert then == first
    inner = await rest.get(f"/v2/groups/team/versions/{versions[2]}?embed=group.groups")
    assert (inner["groups"][0]["id"], "apps" in inner) == ("/team/in", False)
    whole = await rest.get(f"/v2/groups/versions/{versions[1]}")
    assert [group["id"] for group in whole["groups"]] == ["/team"]
    await change(rest, "PUT", "/team", {"version": first["version"]})
    assert await ids(rest, "/team") == ["/team/a", "/team/b"]
    back = await rest.get("/v2/groups/team")
    assert ("env" in back["apps"][0], back["dependencies"]) == (False, ["/base"])
    await change(rest, "DELETE", "/team")
    root = await rest.get("/v2/groups/versions")
    await change(rest, "PUT", "/", {"version": root[1]})
    assert await ids(rest, "") == ["/elsewhere", "/team/", "/team/a", "/team/b"]


async def test_empty_groups_stay_until_they_are_ended(rest: Rest, backend: RunningBackend) -> None:
    await change(rest, "POST", "/kept/inner", {})
    await rest.create("/kept/inner/app", instances=0)
    await rest.create("/passing/app", instances=0)
    for app_id in ("/kept/inner/app", "/passing/app"):
        assert (await rest("DELETE", f"/v2/apps{app_id}")).status_code == 200
    await rest.deployed()
    assert (await rest("GET", "/v2/groups/passing")).status_code == 404, "only apps made it a group"
    await backend.kill()
    await backend.start()
    assert await ids(rest, "") == ["/kept/", "/kept/inner/"]
    await rest.create("/kept", instances=0)
    assert await ids(rest, "") == ["/kept"], "an app takes the place of groups that hold none"
    await change(rest, "DELETE", "")
    assert await ids(rest, "") == []


async def test_groups_come_after_those_they_depend_on(shared_rest: Rest) -> None:
    one = {"instances": 1}
    body = {
        "groups": [
            {
                "id": "service",
                "dependencies": ["../base"],
                "apps": [small("web", **one, dependencies=["api"]), small("api", **one)],
            },
            {"id": "base", "apps": [small("db", **one), small("cache", **one)]},
        ]
    }
    plan = (await change(shared_rest, "PUT", "/stack?dryRun=true", body))["steps"]
    levels = [{action["app"] for action in step["actions"]} for step in plan[1:]]
    assert levels == [
        {"/stack/base/db", "/stack/base/cache"},
        {"/stack/service/api"},
        {"/stack/service/web"},
    ]
    await change(shared_rest, "PUT", "/stack", body)
    shown = await shared_rest.get("/v2/groups/stack/service")
    assert shown["dependencies"] == ["/stack/base"]
    assert {app["id"]: app.get("dependencies") for app in shown["apps"]} == {
        "/stack/service/web": ["/stack/service/api"],
        "/stack/service/api": None,
    }
    # The order holds for what comes later too, also where only the group says it.
    scaled = (await change(shared_rest, "PUT", "/stack?dryRun=true", {"scaleBy": 2}))["steps"]
    assert [{action["app"] for action in step["actions"]} for step in scaled] == levels
    circle = await shared_rest("PUT", "/v2/apps/stack/base/db", {"dependencies": ["/stack/service"]})
    assert circle.json()["details"] == [
        {"path": "/", "errors": ["Dependency graph has cyclic dependencies."]}
    ]


async def test_a_group_ends_with_what_its_apps_own(shared_rest: Rest) -> None:
    await change(shared_rest, "POST", "/owner", {"apps": [small("a")]})
    await shared_rest.create("/owned/by", instances=0, labels={"HUBFLEET_OWNER": "/owner/a"})
    await shared_rest.deployed()
    await change(shared_rest, "DELETE", "/owner")
    assert (await shared_rest("GET", "/v2/apps/owned/by")).status_code == 404
    assert (await shared_rest("GET", "/v2/groups/owner")).status_code == 404


async def test_a_change_is_told_once_and_so_is_a_refused_one(
    shared: RunningBackend, shared_rest: Rest
) -> None:
    await shared_rest.create("/told/busy", cpus=60, instances=2)  # the second never fits
    (running,) = await shared_rest.get("/v2/deployments")
    async with stream(shared.url, shared.admin_token) as heard:
        refused = await shared_rest("PUT", "/v2/groups/told", {"scaleBy": 2})
        assert (refused.status_code, refused.json()["deployments"]) == (409, [{"id": running["id"]}])
        assert (await shared_rest("DELETE", "/v2/groups/told")).status_code == 409
        ended = await shared_rest("DELETE", "/v2/groups/told?force=true")
        assert ended.status_code == 200
        await heard.until("group_change_success")
        await shared_rest.deployed()
        many = {"apps": [small("a"), small("b")]}
        made = await shared_rest("POST", "/v2/groups/told/deep", many)
        await heard.until("group_change_success", 2)
        await shared_rest.deployed()
    events = [event for event in heard.events if event["eventType"].startswith("group_change")]
    for event in events:
        event.pop("timestamp")
    first, second = events[0].pop("version"), events[1].pop("version")
    assert first < second < ended.json()["version"]
    failed = {"eventType": "group_change_failed", "groupId": "/", "reason": refused.json()["message"]}
    assert events == [
        failed,
        failed,
        {"eventType": "group_change_success", "groupId": "/", "version": ended.json()["version"]},
        {"eventType": "group_change_success", "groupId": "/told", "version": made.json()["version"]},
    ]


async def test_only_that_no_role_is_enforced_can_be_said(shared_rest: Rest) -> None:
    await change(shared_rest, "POST", "/roles", {"enforceRole": False, "groups": [{"id": "in"}]})
    for body in ({"enforceRole": False}, {}, {"enforceRole": None, "x": 1}):
        answer = await shared_rest("PATCH", "/v2/groups/roles", body)
        assert (answer.status_code, answer.content) == (200, b"")
    assert (await shared_rest("PATCH", "/v2/groups/roles", {"enforceRole": True})).status_code == 422
    assert (await shared_rest("PATCH", "/v2/groups/roles/in", {})).status_code == 422
    assert (await shared_rest("PATCH", "/v2/groups", {})).status_code == 422


async def test_a_group_may_have_the_name_of_what_is_said_of_groups(shared_rest: Rest) -> None:
    for name in ("apps", "versions"):
        await change(shared_rest, "PUT", f"/named/{name}", {"apps": [small("x")]})
        assert f"/named/{name}/x" in await ids(shared_rest, "/named")
        await change(shared_rest, "DELETE", f"/named/{name}")


async def test_cancelling_a_change_of_a_group_brings_it_back(shared_rest: Rest) -> None:
    await change(shared_rest, "POST", "/undone", {"apps": [small("a")], "groups": [{"id": "empty"}]})
    before = await shared_rest.get("/v2/groups/undone?embed=group.groups")
    body = {"apps": [small("b", cpus=60, instances=2)], "groups": [], "dependencies": ["/x"]}
    assert (await shared_rest("PUT", "/v2/groups/undone", body)).status_code == 200
    (running,) = await shared_rest.get("/v2/deployments")
    assert (await shared_rest("DELETE", f"/v2/deployments/{running['id']}")).status_code == 200
    await shared_rest.deployed()
    after = await shared_rest.get("/v2/groups/undone?embed=group.groups")
    assert await ids(shared_rest, "/undone") == ["/undone/a", "/undone/empty/"]
    assert {**after, "version": 0, "groups": 0} == {**before, "version": 0, "groups": 0}

"""What may be asked about apps and tasks: selections, embedded parts, groups, versions, states."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import RunningBackend
from rest import Rest, eventually


async def ids(rest: Rest, query: str) -> set[str]:
    return {app["id"] for app in (await rest.get(f"/v2/apps?{query}"))["apps"]}


async def test_apps_are_selected_by_label_id_and_command_together(shared_rest: Rest) -> None:
    await shared_rest.create("/select/one", instances=0, labels={"tier": "web", "env": "qa"})
    await shared_rest.create("/select/two", instances=0, labels={"tier": "db"}, cmd="echo Two")
    await shared_rest.create("/select/three", instances=0)
    assert await ids(shared_rest, "label=tier") == {"/select/one", "/select/two"}
    assert await ids(shared_rest, "label=tier%20in%20(web,x),env==qa") == {"/select/one"}
    assert await ids(shared_rest, "label=env!=prod") == {"/select/one"}
    assert await ids(shared_rest, "label=tier&cmd=TWO&id=select") == {"/select/two"}
    assert await ids(shared_rest, "id=/select/t&label=") == {"/select/two", "/select/three"}
    refused = await shared_rest("GET", "/v2/apps?label=tier=web")
    assert refused.status_code == 422
    assert refused.json()["message"].startswith("Can not parse label selector tier=web. Reason: ")


ALWAYS = {"tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy", "deployments"}
ASKED = {"tasks", "lastTaskFailure", "tasksStats"}


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("", set()),
        ("embed=apps.tasks", {"tasks"}),
        ("embed=app.tasks", {"tasks"}),
        ("embed=group.apps.tasks", {"tasks"}),
        ("embed=tasks", {"tasks"}),
        ("embed=lastTaskFailure&embed=counts", {"lastTaskFailure"}),
        ("embed=apps.failures", {"tasks", "lastTaskFailure"}),
        ("embed=apps.taskStats", {"tasksStats"}),
        ("embed=apps.deployments&embed=nonsense&embed=x.tasks", set()),
    ],
)
async def test_lists_embed_what_is_asked_for(shared_rest: Rest, query: str, parts: set[str]) -> None:
    if (await shared_rest("GET", "/v2/apps/embed")).status_code == 404:
        await shared_rest.create("/embed", cmd="[ -e no ] || { touch no; exit 1; }", backoffSeconds=100)

        async def failed() -> bool:
            return "lastTaskFailure" in await shared_rest.app("/embed")

        await eventually(failed)
    (app,) = (await shared_rest.get(f"/v2/apps?id=/embed&{query}"))["apps"]
    assert app.keys() >= ALWAYS
    assert app.keys() & ASKED == parts


async def test_an_app_alone_shows_its_tasks_and_statistics_on_demand(shared_rest: Rest) -> None:
    await shared_rest.create("/alone", instances=2)
    await shared_rest.running("/alone", 2)
    app = await shared_rest.app("/alone")
    assert len(app["tasks"]) == 2
    assert "tasksStats" not in app
    stats = (await shared_rest.get("/v2/apps/alone?embed=app.taskStats"))["app"]["tasksStats"]
    assert stats.keys() == {"startedAfterLastScaling", "withLatestConfig", "totalSummary"}
    total = stats["totalSummary"]["stats"]
    assert total["counts"] == {"staged": 0, "running": 2, "healthy": 0, "unhealthy": 0}
    assert 0 <= total["lifeTime"]["averageSeconds"] < 60
    assert 0 <= total["lifeTime"]["medianSeconds"] < 60


async def test_a_star_means_all_apps_of_a_group(shared_rest: Rest) -> None:
    for app_id in ("/star/a", "/star/b/c", "/starry"):
        await shared_rest.create(app_id)
        await shared_rest.running(app_id)
    found = (await shared_rest.get("/v2/apps/star/*"))["*"]
    assert {app["id"] for app in found} == {"/star/a", "/star/b/c"}
    assert all(len(app["tasks"]) == 1 for app in found)
    assert {app["id"] for app in (await shared_rest.get("/v2/apps/*"))["*"]} >= {"/star/a", "/starry"}
    tasks = (await shared_rest.get("/v2/apps/star/*/tasks"))["tasks"]
    assert {task["appId"] for task in tasks} == {"/star/a", "/star/b/c"}
    none = await shared_rest("GET", "/v2/apps/nowhere/*")
    assert (none.status_code, none.json()) == (404, {"message": "Group '/nowhere' does not exist"})


async def test_all_tasks_are_listed_by_status_with_their_service_ports(shared_rest: Rest) -> None:
    await shared_rest.create("/ports", portDefinitions=[{"port": 11001}, {"port": 11002}])
    await shared_rest.create("/portless", portDefinitions=[])
    for app_id in ("/ports", "/portless"):
        await shared_rest.running(app_id)

    async def listed(query: str) -> dict[str, Any]:
        tasks = (await shared_rest.get(f"/v2/tasks{query}"))["tasks"]
        return {task["appId"]: task for task in tasks if task["appId"] in ("/ports", "/portless")}

    found = await listed("")
    assert found["/ports"]["servicePorts"] == [11001, 11002]
    assert len(found["/ports"]["ports"]) == 2
    assert found["/portless"]["servicePorts"] == found["/portless"]["ports"] == []
    assert (await listed("?status=running")).keys() == {"/ports", "/portless"}
    assert await listed("?status=staging") == {}
    assert await listed("?status[]=staging&status=running") == found
    assert await listed("?status=nonsense") == found
    (task,) = await shared_rest.tasks("/ports")
    assert task["servicePorts"] == [], "only the list of all tasks fills them"


async def test_versions_are_kept_and_shown_bare(shared_rest: Rest) -> None:
    await shared_rest.create("/versions-of", instances=0, env={"A": "1"})
    first = (await shared_rest.app("/versions-of"))["version"]
    await shared_rest.deployed()
    await shared_rest("PUT", "/v2/apps/versions-of", {"env": {"A": "2"}})
    second = (await shared_rest.app("/versions-of"))["version"]
    await shared_rest.deployed()
    assert await shared_rest.get("/v2/apps/versions-of/versions") == {"versions": [second, first]}
    old = await shared_rest.get(f"/v2/apps//versions-of/versions/{first}")
    assert (old["id"], old["env"], old["version"]) == ("/versions-of", {"A": "1"}, first)
    assert not old.keys() & (ALWAYS | ASKED)
    same_moment = first.replace("Z", "+00:00")
    assert await shared_rest.get(f"/v2/apps/versions-of/versions/{same_moment}") == old
    bad = await shared_rest("GET", "/v2/apps/versions-of/versions/yesterday")
    assert bad.status_code == 422
    assert bad.json()["message"] == (
        "Invalid timestamp provided 'yesterday'. Expecting ISO-8601 datetime string."
    )
    missing = "2001-01-01T00:00:00.000Z"
    gone = await shared_rest("GET", f"/v2/apps/versions-of/versions/{missing}")
    assert gone.json() == {"message": f"App '/versions-of' does not exist in version {missing}"}
    assert gone.status_code == 404
    rollback = await shared_rest("PATCH", "/v2/apps/versions-of", {"version": same_moment})
    assert rollback.status_code == 200
    assert (await shared_rest.app("/versions-of"))["env"] == {"A": "1"}
    for path in ("", f"/{first}"):
        none = await shared_rest("GET", f"/v2/apps/nothing/versions{path}")
        assert (none.status_code, none.json()) == (404, {"message": "App '/nothing' does not exist"})


async def test_a_long_list_comes_whole(rest: Rest, backend: RunningBackend) -> None:
    """More than is sent at once: apps with long labels, and more tasks of one app than fit into one turn."""
    text = "x" * 50_000
    await rest("PUT", "/v2/apps", [{"id": f"/long/{n}", "cmd": "x", "instances": 0} for n in range(300)])
    for number in range(30):
        await rest("PATCH", f"/v2/apps/long/{number}?force=true", {"labels": {"text": text}})
    apps = (await rest.get("/v2/apps"))["apps"]
    assert {app["id"] for app in apps} == {f"/long/{n}" for n in range(300)}
    assert sum(app["labels"].get("text") == text for app in apps) == 30

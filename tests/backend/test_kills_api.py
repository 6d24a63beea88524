"""Tasks ended over the API: one, those of a host, all; replaced, wiped or scaled away; and delays reset."""

from __future__ import annotations

from typing import Any

import pytest
from rest import Rest, eventually


@pytest.fixture
async def app(rest: Rest) -> list[dict[str, Any]]:
    """The tasks of an app of three."""
    await rest.create("/victims", instances=3)
    tasks = await rest.running("/victims", 3)
    await rest.deployed()
    return tasks


def instance_of(task: dict[str, Any]) -> str:
    return str(task["id"]).rpartition("._app.")[0]


async def test_all_tasks_of_an_app_are_killed_and_replaced(rest: Rest, app: list[dict[str, Any]]) -> None:
    answer = await rest("DELETE", "/v2/apps/victims/tasks")
    assert answer.status_code == 200
    assert {task["id"] for task in answer.json()["tasks"]} == {task["id"] for task in app}
    assert await rest.get("/v2/deployments") == []

    async def others() -> bool:
        tasks = await rest.tasks("/victims")
        return {task["id"] for task in tasks}.isdisjoint(task["id"] for task in app) and len(tasks) == 3

    await eventually(others)
    replaced = await rest.running("/victims", 3)
    assert {instance_of(task) for task in replaced} == {instance_of(task) for task in app}


async def test_tasks_are_killed_by_their_host(rest: Rest, app: list[dict[str, Any]]) -> None:
    nowhere = await rest("DELETE", "/v2/apps/victims/tasks?host=elsewhere")
    assert (nowhere.status_code, nowhere.json()) == (200, {"tasks": []})
    here = await rest("DELETE", f"/v2/apps/victims/tasks?host={app[0]['host']}&scale=true")
    assert here.json().keys() == {"version", "deploymentId"}
    await rest.deployed()
    assert (await rest.app("/victims"))["instances"] == 0
    assert await rest.tasks("/victims") == []


async def test_a_wiped_task_is_replaced_by_another_instance(rest: Rest, app: list[dict[str, Any]]) -> None:
    victim = app[0]
    answer = await rest("DELETE", f"/v2/apps/victims/tasks/{victim['id']}?wipe=true")
    assert (answer.status_code, answer.json()["task"]["id"]) == (200, victim["id"])

    async def replaced() -> bool:
        instances = {instance_of(task) for task in await rest.tasks("/victims")}
        return len(instances) == 3 and instance_of(victim) not in instances

    await eventually(replaced)
    assert (await rest.app("/victims"))["instances"] == 3


async def test_one_task_is_killed_and_scaled_away(rest: Rest, app: list[dict[str, Any]]) -> None:
    victim = app[1]["id"]
    answer = await rest("DELETE", f"/v2/apps/victims/tasks/{victim}?scale=True")
    assert answer.json().keys() == {"version", "deploymentId"}
    await rest.deployed()
    assert {task["id"] for task in await rest.running("/victims", 2)} == {app[0]["id"], app[2]["id"]}


async def test_what_is_not_there_cannot_be_killed(rest: Rest, app: list[dict[str, Any]]) -> None:
    task = app[0]["id"]
    gone = task.rpartition(".")[0] + ".7"
    for path, message in (
        (f"/victims/tasks/{gone}", f"Task '{gone}' does not exist"),
        ("/victims/tasks/nonsense", "Task 'nonsense' does not exist"),
        (f"/nothing/tasks/{task}", "App '/nothing' does not exist"),
        ("/nothing/tasks", "App '/nothing' does not exist"),
        ("/nothing/tasks?scale=true", "Path '/nothing' does not exist"),
        (f"/nothing/tasks/{task}?scale=true", "Path '/nothing' does not exist"),
        ("/*/tasks", "App '/*' does not exist"),
    ):
        answer = await rest("DELETE", f"/v2/apps{path}")
        assert (answer.status_code, answer.json()) == (404, {"message": message})
    for path in ("", f"/{task}"):
        both = await rest("DELETE", f"/v2/apps/victims/tasks{path}?scale=true&wipe=true")
        message = "You cannot use scale and wipe at the same time."
        assert (both.status_code, both.json()) == (400, {"message": message})
    await rest.create("/empty", instances=0)
    empty = await rest("DELETE", "/v2/apps/empty/tasks?scale=true")
    assert (empty.status_code, empty.json()) == (404, {"message": "Path '/empty' does not exist"})
    assert await rest.running("/victims", 3) == app


async def test_a_locked_app_is_scaled_by_kills_only_with_force(rest: Rest) -> None:
    await rest.create("/locked", cpus=30, instances=3)  # the third never fits: the deployment stays
    tasks = await rest.running("/locked", 2)
    path = f"/v2/apps/locked/tasks/{tasks[0]['id']}?scale=true"
    assert (await rest("DELETE", path)).status_code == 409
    assert (await rest("DELETE", f"/v2/apps/locked/tasks/{tasks[0]['id']}")).status_code == 200
    await rest.create("/other", instances=1)
    (other,) = await rest.running("/other")
    await eventually(lambda: no_deployment_of(rest, "/other"))
    both = {"ids": [other["id"], tasks[1]["id"]]}
    refused = await rest("POST", "/v2/tasks/delete?scale=true", both)
    assert refused.status_code == 409
    assert (await rest.app("/other"))["instances"] == 1, "all or nothing"
    assert [task["id"] for task in await rest.tasks("/other")] == [other["id"]]


async def no_deployment_of(rest: Rest, app_id: str) -> bool:
    return not (await rest.app(app_id))["deployments"]


async def test_a_held_back_app_is_let_go(rest: Rest) -> None:
    await rest.create("/held", cmd="exit 1", backoffSeconds=3600, maxLaunchDelaySeconds=3600)

    async def held() -> bool:
        queue = (await rest.get("/v2/queue"))["queue"]
        return bool(queue) and queue[0]["delay"]["timeLeftSeconds"] > 3000

    await eventually(held)
    first = (await rest.app("/held"))["lastTaskFailure"]["taskId"]
    answer = await rest("DELETE", "/v2/queue/held/delay")
    assert (answer.status_code, answer.content) == (204, b"")

    async def tried_again() -> bool:
        return bool((await rest.app("/held"))["lastTaskFailure"]["taskId"] != first)

    await eventually(tried_again)
    for app_id in ("/held", "/nothing"):
        await rest("DELETE", "/v2/apps/held")
        gone = await rest("DELETE", f"/v2/queue{app_id}/delay")
        message = f"Application {app_id} not found in tasks queue."
        assert (gone.status_code, gone.json()) == (404, {"message": message})

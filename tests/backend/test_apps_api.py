"""Apps over the API: made, shown, changed and ended, with real tasks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import LINGERING, RunningBackend, task_id_of
from rest import Rest, eventually


async def is_all_that_runs(backend: RunningBackend, *task_ids: str) -> bool:
    """Whether each of these tasks, and no other, has a process; one that is being executed shows none."""
    return {task_id_of(process) for process in await asyncio.to_thread(backend.tasks)} == set(task_ids)


CREATED = {"tasksStaged": 0, "tasksRunning": 0, "tasksHealthy": 0, "tasksUnhealthy": 0}


async def test_an_app_from_its_making_to_its_end(rest: Rest, backend: RunningBackend) -> None:
    response = await rest(
        "POST", "/v2/apps", {"id": "/a/b", "cmd": "exec sleep 600", "instances": 2, "cpus": 0.1}
    )
    assert response.status_code == 201
    assert response.headers["Location"].endswith("/v2/apps/a/b")
    made = response.json()
    deployment = response.headers["Marathon-Deployment-Id"]
    assert made["deployments"] == [{"id": deployment}]
    assert CREATED.items() <= made.items()
    assert "versionInfo" not in made

    tasks = await rest.running("/a/b", 2)
    await rest.deployed()
    app = await rest.app("/a/b")
    assert (app["tasksRunning"], app["tasksStaged"], app["deployments"]) == (2, 0, [])
    assert app["version"] == made["version"] == app["versionInfo"]["lastConfigChangeAt"]
    assert {task["id"] for task in app["tasks"]} == {task["id"] for task in tasks}
    assert len({task["ports"][0] for task in tasks}) == 2
    for task in tasks:
        assert task["version"] == made["version"]
        assert task["startedAt"] >= task["stagedAt"]
    await eventually(lambda: is_all_that_runs(backend, *(task["id"] for task in tasks)))

    response = await rest("DELETE", "/v2/apps/a/b")
    assert response.status_code == 200
    assert response.json().keys() == {"version", "deploymentId"}
    gone = await rest("GET", "/v2/apps/a/b")
    assert (gone.status_code, gone.json()) == (404, {"message": "App '/a/b' does not exist"})
    await rest.deployed()
    assert backend.tasks() == []

    async def only_output_is_left() -> bool:
        sandboxes = (backend.state_dir / "sandboxes").iterdir()
        left = {file.name for sandbox in sandboxes for file in sandbox.iterdir()}
        return left <= {"stdout", "stderr"}

    await eventually(only_output_is_left)


async def test_answers_carry_marathons_headers(shared_rest: Rest) -> None:
    response = await shared_rest("GET", "/v2/apps")
    assert response.headers["Cache-Control"] == "no-cache, no-store, must-revalidate"
    assert (response.headers["Pragma"], response.headers["Expires"]) == ("no-cache", "0")
    assert "Etag" not in response.headers


async def test_the_task_gets_its_environment_and_ports(shared_rest: Rest) -> None:
    script = (
        "import http.server, json, os; "
        "handler = type('H', (http.server.BaseHTTPRequestHandler,), {'do_GET': lambda h: "
        "(h.send_response(200), h.end_headers(), h.wfile.write(json.dumps(dict(os.environ)).encode()))}); "
        "http.server.HTTPServer(('', int(os.environ['PORT_WEB'])), handler).serve_forever()"
    )
    await shared_rest.create(
        "/environment",
        cmd=f'exec {sys.executable} -c "$SCRIPT"',
        env={"SCRIPT": script, "MULTI": "a\nb='ü'"},
        labels={"some.key": "v"},
        portDefinitions=[{"name": "web"}, {"port": 8080}],
    )
    (task,) = await shared_rest.running("/environment")
    reach = Rest(f"http://127.0.0.1:{task['ports'][0]}", None)

    async def answers() -> dict[str, str] | None:
        try:
            found: dict[str, str] = (await reach("GET", "/")).json()
        except OSError:
            return None
        return found

    found = await eventually(answers)
    assert found["PORT0"] == found["PORT"] == str(task["ports"][0])
    assert found["PORT_8080"] == found["PORT1"] == str(task["ports"][1])
    assert found["MULTI"] == "a\nb='ü'"
    assert found["MESOS_TASK_ID"] == task["id"]
    assert found["MARATHON_APP_LABEL_SOME_KEY"] == "v"
    assert Path(found["MESOS_SANDBOX"]).name == task["id"]
    assert "HUBFLEET_BACKEND_TOKEN" not in found


async def test_arguments_run_without_a_shell(shared_rest: Rest, shared: RunningBackend) -> None:
    await shared_rest("POST", "/v2/apps", {"id": "/arguments", "args": ["/bin/sleep", "611"], "cpus": 0.01})
    await shared_rest.running("/arguments")

    async def runs() -> bool:
        with contextlib.suppress(psutil.Error):  # one of another test, which has ended
            return ["/bin/sleep", "611"] in [process.cmdline() for process in shared.tasks()]
        return False

    await eventually(runs)


async def test_ids_are_found_with_any_slashes_and_only_as_they_are(shared_rest: Rest) -> None:
    await shared_rest.create("slashes/here", instances=0)
    for path in ("/slashes/here", "//slashes/here", "/slashes/here/", "/slashes%2Fhere"):
        assert (await shared_rest.get(f"/v2/apps{path}"))["app"]["id"] == "/slashes/here"
    for path in ("/slashes//here", "/slashes", "/Slashes/here"):
        assert (await shared_rest("GET", f"/v2/apps{path}")).status_code == 404


async def test_lists_are_filtered_by_id_and_command(shared_rest: Rest) -> None:
    await shared_rest.create("/filter/one", cmd="echo First", instances=0)
    await shared_rest.create("/filter/two", cmd="echo second", instances=0)

    async def listed(query: str) -> set[str]:
        apps = (await shared_rest.get(f"/v2/apps?{query}"))["apps"]
        assert all("tasks" not in app and "deployments" in app for app in apps)
        return {app["id"] for app in apps}

    assert await listed("id=FILTER/o") == {"/filter/one"}
    assert await listed("id=filter&cmd=SECOND") == {"/filter/two"}


async def test_a_name_is_taken_once(shared_rest: Rest) -> None:
    body = {"id": "/race", "cmd": "exec sleep 600", "cpus": 0.01}
    answers = await asyncio.gather(*(shared_rest("POST", "/v2/apps", body) for _ in range(12)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [201] + [409] * 11
    assert {answer.json()["message"] for answer in answers if answer.status_code == 409} == {
        "An app with id [/race] already exists."
    }
    await shared_rest.running("/race")


async def test_an_app_is_no_group_and_a_group_no_app(shared_rest: Rest) -> None:
    await shared_rest.create("/place/app", instances=0)
    for app_id in ("/place", "/place/app/below"):
        refused = await shared_rest("POST", "/v2/apps", {"id": app_id, "cmd": "x"})
        assert refused.status_code == 422
        assert refused.json()["details"][0]["path"] == "/id"


# -- changes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"cmd": "exec sleep 601"},
        {"cpus": 0.02},
        {"mem": 2},
        {"disk": 3},
        {"env": {"A": "1"}},
        {"labels": {"a": "b"}},
        {"portDefinitions": [{"port": 11017, "protocol": "tcp", "name": "x"}]},
        {"healthChecks": [{"protocol": "TCP", "gracePeriodSeconds": 600}]},
        {"upgradeStrategy": {"minimumHealthCapacity": 0.0, "maximumOverCapacity": 0.5}},
        {"backoffSeconds": 3.0},
        {"backoffFactor": 2.0},
        {"maxLaunchDelaySeconds": 30.0},
        {"taskKillGracePeriodSeconds": 1},
        {"killSelection": "OLDEST_FIRST"},
        {"unreachableStrategy": {"inactiveAfterSeconds": 1, "expungeAfterSeconds": 2}},
        {"instances": 0},
    ],
)
async def test_a_partial_change_replaces_its_field_and_no_other(
    shared_rest: Rest, change: dict[str, Any]
) -> None:
    app_id = "/partial/" + next(iter(change)).lower()
    await shared_rest.create(app_id, instances=0, env={"KEPT": "1", "A": "0"}, labels={"kept": "1"})
    before = await shared_rest.app(app_id)
    answer = await shared_rest("PUT", f"/v2/apps{app_id}?force=true", change)
    assert answer.status_code == 200, answer.text
    after = await shared_rest.app(app_id)
    expected = {**before, **change}
    volatile = {"version", "versionInfo", "deployments", "healthChecks"}
    assert {name: after[name] for name in after.keys() - volatile} == {
        name: expected[name] for name in expected.keys() - volatile
    }
    if "healthChecks" in change:
        assert change["healthChecks"][0].items() <= after["healthChecks"][0].items()
    changed = "instances" not in change
    assert (after["version"] > before["version"]) is changed
    await shared_rest.deployed()


async def test_a_change_of_nothing_touches_nothing(shared_rest: Rest) -> None:
    await shared_rest.create("/same")
    (task,) = await shared_rest.running("/same")
    await shared_rest.deployed()
    before = await shared_rest.app("/same")
    for body in ({}, {"instances": 1}, before | {"version": None}, {"cmd": None, "args": None}):
        answer = await shared_rest("PUT", "/v2/apps/same", body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["version"] > before["version"]
    after = await shared_rest.app("/same")
    assert (after["version"], after["tasks"][0]["id"]) == (before["version"], task["id"])


async def test_scaling_keeps_the_tasks_and_a_new_command_replaces_them(rest: Rest) -> None:
    await rest.create("/web", instances=1)
    (first,) = await rest.running("/web")
    await rest.deployed()
    assert (await rest("PUT", "/v2/apps/web", {"instances": 3})).status_code == 200
    three = await rest.running("/web", 3)
    assert first["id"] in {task["id"] for task in three}
    await rest.deployed()
    app = await rest.app("/web")
    assert app["versionInfo"]["lastScalingAt"] == app["version"] > app["versionInfo"]["lastConfigChangeAt"]

    assert (await rest("PUT", "/v2/apps/web", {"cmd": "exec sleep 601"})).status_code == 200
    await rest.deployed()
    replaced = await rest.running("/web", 3)
    assert {task["id"] for task in replaced}.isdisjoint(task["id"] for task in three)
    app = await rest.app("/web")
    assert {task["version"] for task in replaced} == {app["versionInfo"]["lastConfigChangeAt"]}

    body = json.loads(json.dumps({"version": three[0]["version"]}))
    assert (await rest("PUT", "/v2/apps/web", body)).status_code == 200
    await rest.deployed()
    assert (await rest.app("/web"))["cmd"] == "exec sleep 600"


async def test_a_whole_put_makes_or_replaces(shared_rest: Rest) -> None:
    body = {"cmd": "exec sleep 600", "cpus": 0.01, "env": {"A": "1"}, "id": "/ignored"}
    made = await shared_rest("PUT", "/v2/apps/put/here", body)
    assert made.status_code == 201
    assert made.json().keys() == {"version", "deploymentId"}
    await shared_rest.running("/put/here")
    replaced = await shared_rest(
        "PUT", "/v2/apps/put/here?partialUpdate=False&force=True", {"cmd": "exec sleep 9", "instances": 0}
    )
    assert replaced.status_code == 200
    app = await shared_rest.app("/put/here")
    assert ("env" in app, app["cpus"], app["id"]) == (False, 1.0, "/put/here")


async def test_an_unknown_version_is_no_rollback(shared_rest: Rest) -> None:
    await shared_rest.create("/rollback", instances=0)
    answer = await shared_rest("PUT", "/v2/apps/rollback", {"version": "2001-01-01T00:00:00.000Z"})
    assert answer.status_code == 404
    assert answer.json()["message"].startswith("App '/rollback' does not exist in version")
    answer = await shared_rest("PUT", "/v2/apps/rollback", {"version": "yesterday"})
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("Invalid timestamp provided 'yesterday'.")
    mixed = await shared_rest("PUT", "/v2/apps/rollback", {"version": "2001-01-01T00:00:00.000Z", "cmd": "x"})
    assert "may only be combined with the 'id' field" in mixed.json()["details"][0]["errors"][0]


async def test_a_deployment_locks_its_app_unless_forced(rest: Rest) -> None:
    made = await rest.create("/locked", cmd="exec sleep 600", cpus=40)
    await rest.running("/locked")
    await rest.deployed()
    # A second one does not fit beside the first, so the deployment stays open.
    grown = (await rest("PUT", "/v2/apps/locked", {"instances": 2})).json()
    refused = await rest("PUT", "/v2/apps/locked", {"instances": 1})
    assert refused.status_code == 409
    assert refused.json()["deployments"] == [{"id": grown["deploymentId"]}]
    assert "Override with the option '?force=true'" in refused.json()["message"]
    assert (await rest.app("/locked"))["instances"] == 2
    forced = await rest("PUT", "/v2/apps/locked?force=true", {"instances": 1})
    assert forced.status_code == 200
    await rest.deployed()
    assert (await rest.app("/locked"))["versionInfo"]["lastConfigChangeAt"] == made["version"]


async def test_a_reverted_deployment_restores_what_was(rest: Rest) -> None:
    await rest.create("/back", cpus=40)
    await rest.running("/back")
    await rest.deployed()
    grown = (await rest("PUT", "/v2/apps/back", {"instances": 2, "labels": {"new": "1"}})).json()
    reverted = await rest("DELETE", f"/v2/deployments/{grown['deploymentId']}")
    assert reverted.status_code == 200
    await rest.deployed()
    app = await rest.app("/back")
    assert (app["instances"], app["labels"]) == (1, {})
    unknown = await rest("DELETE", f"/v2/deployments/{grown['deploymentId']}")
    assert unknown.status_code == 404


@pytest.mark.parametrize("force", [True, False])
async def test_an_app_made_anew_while_the_old_one_dies(
    rest: Rest, backend: RunningBackend, force: bool
) -> None:
    """The old life's task is not taken over, and nothing is left of it in the end."""
    await rest.create("/again", cmd=LINGERING, taskKillGracePeriodSeconds=300)
    (old,) = await rest.running("/again")
    await rest.deployed()
    await backend.deaf(1)
    await rest("DELETE", "/v2/apps/again")
    body = {"id": "/again", "cmd": "exec sleep 600", "cpus": 0.01}
    answer = await rest("POST", f"/v2/apps?force={force}", body)
    assert answer.status_code == (201 if force else 409), answer.text
    backend.let_end(old["id"])
    if not force:
        await rest.deployed()
        assert (await rest("POST", "/v2/apps", body)).status_code == 201
    await rest.deployed()
    (new,) = await rest.running("/again")
    assert new["id"] != old["id"]
    await eventually(lambda: is_all_that_runs(backend, new["id"]))


async def test_a_single_instance_never_runs_twice(rest: Rest, backend: RunningBackend) -> None:
    none_over = {"minimumHealthCapacity": 0, "maximumOverCapacity": 0}
    await rest.create("/single", cmd=LINGERING, upgradeStrategy=none_over, taskKillGracePeriodSeconds=300)
    (old,) = await rest.running("/single")
    await rest.deployed()
    await backend.deaf(1)
    await rest("PUT", "/v2/apps/single", {"env": {"A": "1"}})
    counts = []
    for _ in range(20):
        counts.append(len(await rest.tasks("/single")))
    backend.let_end(old["id"])
    while await rest.get("/v2/deployments"):
        counts.append(len(await rest.tasks("/single")))
    assert max(counts) == 1
    (new,) = await rest.running("/single")
    assert new["id"] != old["id"]


# -- the rest -----------------------------------------------------------------------------


async def test_more_instances_than_fit_wait_with_the_reason(rest: Rest) -> None:
    await rest.create("/big", cpus=30, mem=100, instances=3)

    async def waiting() -> Any:
        tasks = await rest.running("/big", 2)
        queue = (await rest.get("/v2/queue?embed=explanation"))["queue"]
        return queue if len(tasks) == 2 and queue and "explanation" in queue[0] else None

    (item,) = await eventually(waiting)
    assert (item["count"], item["app"]["id"]) == (1, "/big")
    assert item["explanation"] == "waiting for 30 cpus; 4 of 64 free"
    history = (await rest.get("/v2/history/apps/big"))["history"]
    assert "Waiting for 30 cpus; 4 of 64 free" in [each["message"] for each in history]
    assert item["delay"] == {"timeLeftSeconds": 0, "overdue": True}
    rejects = item["processedOffersSummary"]["rejectSummaryLastOffers"]
    assert [step for step in rejects if step["declined"]] == [
        {"reason": "InsufficientCpus", "declined": 1, "processed": 1}
    ]
    assert len(await rest.get("/v2/deployments")) == 1
    await rest("PUT", "/v2/apps/big?force=true", {"instances": 2})
    await rest.deployed()
    assert (await rest.get("/v2/queue"))["queue"] == []


async def test_a_thousand_instances_do_not_stop_the_backend(rest: Rest, backend: RunningBackend) -> None:
    """They wait; meanwhile others are served, and all of them go at once."""
    assert backend.process is not None
    process = psutil.Process(backend.process.pid)

    def worked() -> float:
        return sum(
            process.cpu_times()[:2]
        )  # a machine that does something else at the moment counts for nothing

    await rest.create("/many", cpus=60, instances=5000)
    before = worked()
    assert (await rest("GET", "/ping")).text == "pong"
    assert worked() - before < 2
    assert (await rest("DELETE", "/v2/apps/many")).status_code == 200
    await rest.deployed()


async def test_ping_and_info(shared_rest: Rest) -> None:
    anybody = Rest(shared_rest.url, None)
    assert (await anybody("GET", "/ping")).text == "pong"
    assert (await anybody("GET", "/ping", headers={"Accept": "application/json"})).text == '"pong"'
    info = await shared_rest.get("/v2/info")
    assert (info["name"], info["elected"]) == ("marathon", True)
    assert all(isinstance(info[key], dict) for key in ("marathon_config", "zookeeper_config", "http_config"))
    assert (await anybody("GET", "/v2/info")).status_code == 401

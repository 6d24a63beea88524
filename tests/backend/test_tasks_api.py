"""Tasks over the API: killed, replaced, restarted with back-off, judged by health checks."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import LINGERING, STUBBORN, RunningBackend, task_id_of
from driving import ask_launcher
from rest import Rest, eventually


async def pids(backend: RunningBackend, task_id: str) -> set[int]:
    return {process.pid for process in backend.tasks() if task_id_of(process) == task_id}


async def test_tasks_are_killed_and_the_count_lowered_in_one_change(
    rest: Rest, backend: RunningBackend
) -> None:
    # Until they may end the plan is to be seen.
    await rest.create("/workers", cmd=LINGERING, instances=5, taskKillGracePeriodSeconds=600)
    tasks = await rest.running("/workers", 5)
    await rest.deployed()
    await backend.deaf(5)
    victims = [task["id"] for task in tasks[1:4]]
    answer = await rest(
        "POST", "/v2/tasks/delete?scale=true", {"ids": [*victims, victims[0], "gone.instance-1._app.1"]}
    )
    assert answer.status_code == 200
    assert answer.json().keys() == {"version", "deploymentId"}
    plans = await rest.get("/v2/deployments")
    assert [plan["id"] for plan in plans] == [answer.json()["deploymentId"]]
    assert plans[0]["steps"] == [{"actions": [{"action": "ScaleApplication", "app": "/workers"}]}]
    backend.let_end(*victims)
    await rest.deployed()
    left = {tasks[0]["id"], tasks[4]["id"]}
    assert {task["id"] for task in await rest.running("/workers", 2)} == left
    assert (await rest.app("/workers"))["instances"] == 2
    assert {task_id_of(process) for process in backend.tasks()} - {""} == left


async def test_a_task_that_dies_already_is_not_counted_twice(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/dying", cmd=LINGERING, instances=3, taskKillGracePeriodSeconds=600)
    tasks = await rest.running("/dying", 3)
    await rest.deployed()
    await backend.deaf(3)
    body = {"ids": [tasks[0]["id"]]}
    first = await rest("POST", "/v2/tasks/delete?scale=true", body)
    assert first.status_code == 200
    for _ in range(2):
        again = await rest("POST", "/v2/tasks/delete?scale=true&force=true", body)
        assert again.status_code == 200
    assert (await rest.app("/dying"))["instances"] == 2
    backend.let_end(tasks[0]["id"])
    await rest.deployed()
    assert len(await rest.running("/dying", 2)) == 2


async def test_killing_the_tasks_of_an_app_that_ends_has_nothing_to_scale(
    rest: Rest, backend: RunningBackend
) -> None:
    await rest.create("/ending", cmd=LINGERING, taskKillGracePeriodSeconds=600)
    (task,) = await rest.running("/ending")
    await backend.deaf(1)
    await rest("DELETE", "/v2/apps/ending")
    answer = await rest("POST", "/v2/tasks/delete?scale=true", {"ids": [task["id"]]})
    assert (answer.status_code, answer.json()) == (404, {"message": "Path '/ending' does not exist"})
    assert (await rest("POST", "/v2/tasks/delete", {"ids": [task["id"]]})).status_code == 200
    backend.let_end(task["id"])
    await rest.deployed()


async def test_nothing_to_kill_is_a_change_of_nothing(shared_rest: Rest) -> None:
    for scale in ("true", "false"):
        answer = await shared_rest(
            "POST", f"/v2/tasks/delete?scale={scale}", {"ids": ["a.instance-1._app.1"]}
        )
        assert answer.status_code == 200
    assert answer.json() == {"tasks": []}
    await shared_rest.deployed()


async def test_a_killed_task_is_replaced_under_its_instance_at_once(shared_rest: Rest) -> None:
    await shared_rest.create("/kill", backoffSeconds=60)
    (task,) = await shared_rest.running("/kill")
    await shared_rest.deployed()
    answer = await shared_rest("POST", "/v2/tasks/delete", {"ids": [task["id"]]})
    assert [each["id"] for each in answer.json()["tasks"]] == [task["id"]]

    async def replaced() -> Any:
        tasks = await shared_rest.tasks("/kill")
        return [each for each in tasks if each["id"] != task["id"] and each["state"] == "TASK_RUNNING"]

    (new,) = await eventually(replaced)
    assert new["id"] == task["id"].removesuffix("1") + "2"
    assert "lastTaskFailure" not in await shared_rest.app("/kill")


async def test_what_ignores_sigterm_is_killed_after_its_grace(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/stubborn", cmd=STUBBORN, taskKillGracePeriodSeconds=1)
    (task,) = await rest.running("/stubborn")
    await backend.deaf(1)
    begun = asyncio.get_running_loop().time()
    await rest("DELETE", "/v2/apps/stubborn")
    await rest.deployed()
    assert asyncio.get_running_loop().time() - begun > 1, "its grace is a second"
    assert not await pids(backend, task["id"])


async def test_a_kill_reaches_the_whole_tree(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/tree", cmd="setsid sleep 601 & sleep 602 & (sleep 603 & exec sleep 604)")
    await rest.running("/tree")
    await eventually(lambda: asyncio.sleep(0, len(backend.tasks()) >= 4))
    await rest("DELETE", "/v2/apps/tree")
    await rest.deployed()
    assert backend.tasks() == []


@pytest.mark.parametrize(
    ("cmd", "state", "message"),
    [
        ("echo to stderr >&2; exit 3", "TASK_FAILED", "Command exited with status 3"),
        ("kill -9 $$", "TASK_FAILED", "Command terminated with signal Killed"),
        ("exit 0", None, None),
    ],
)
async def test_what_ends_is_started_again_and_the_failure_told(
    shared_rest: Rest, cmd: str, state: str | None, message: str | None
) -> None:
    app_id = f"/ends-{abs(hash(cmd))}"
    await shared_rest.create(app_id, cmd=cmd, backoffSeconds=0.05, backoffFactor=1)

    async def third() -> Any:
        tasks = await shared_rest.tasks(app_id)
        return [task for task in tasks if int(task["id"].rpartition(".")[2]) >= 3]

    await eventually(third)
    app = (await shared_rest.get(f"/v2/apps{app_id}?embed=app.stderr"))["app"]
    failure = app.get("lastTaskFailure", {})
    assert (failure.get("state"), failure.get("message")) == (state, message)
    if "stderr" in cmd:
        assert failure["stderr"] == "to stderr"
        assert "stderr" not in (await shared_rest.app(app_id))["lastTaskFailure"]
    await shared_rest("DELETE", f"/v2/apps{app_id}")
    await shared_rest.deployed()


async def test_a_command_that_is_not_there_is_an_error_with_a_sentence(shared_rest: Rest) -> None:
    body = {"id": "/nothing", "args": ["no-such-program"], "cpus": 0.01}
    await shared_rest("POST", "/v2/apps", body)

    async def failed() -> Any:
        return (await shared_rest.app("/nothing")).get("lastTaskFailure")

    failure = await eventually(failed)
    assert (failure["state"], failure["message"]) == ("TASK_ERROR", "command not found: no-such-program")
    await shared_rest("DELETE", "/v2/apps/nothing")
    await shared_rest.deployed()


async def test_the_back_off_is_told_in_the_queue_and_kept_when_scaling(shared_rest: Rest) -> None:
    await shared_rest.create("/held", cmd="exit 1", backoffSeconds=3000, maxLaunchDelaySeconds=3000)

    async def waiting() -> Any:
        queue = (await shared_rest.get("/v2/queue?embed=explanation"))["queue"]
        return [item for item in queue if item["app"]["id"] == "/held" and "lastTaskFailure" not in item]

    async def held() -> Any:
        items = await waiting()
        return items if items and items[0]["delay"]["timeLeftSeconds"] > 2000 else None

    (item,) = await eventually(held)
    assert item["delay"]["overdue"] is False
    assert "its last task ended; the next one is started in" in item["explanation"]
    await shared_rest("PUT", "/v2/apps/held?force=true", {"instances": 3})

    async def three() -> bool:
        return (await waiting())[0]["count"] == 3

    await eventually(three)
    assert (await waiting())[0]["delay"]["timeLeftSeconds"] > 2000
    assert await shared_rest.tasks("/held") == []
    # A new configuration may be better, and is tried at once.
    await shared_rest("PUT", "/v2/apps/held?force=true", {"cmd": "exec sleep 600", "instances": 1})
    await shared_rest.running("/held")


async def test_a_task_that_hides_its_output_behind_a_pipe_hurts_nobody(shared_rest: Rest) -> None:
    await shared_rest.create("/pipe", cmd="rm stderr; mkfifo stderr; exit 1", backoffSeconds=0.05)

    async def failed() -> Any:
        return (await shared_rest.app("/pipe")).get("lastTaskFailure")

    assert (await eventually(failed))["state"] == "TASK_FAILED"
    assert (await shared_rest("DELETE", "/v2/apps/pipe")).status_code == 200
    await shared_rest.deployed()


async def test_a_task_killed_before_it_began_and_one_that_ended_before_it_began(rest: Rest) -> None:
    """Many at once, so that kills meet every point of a start."""
    for round_ in range(5):
        await rest.create(f"/hasty-{round_}", cmd="exit 0" if round_ % 2 else "sleep 60", instances=8)
        await asyncio.sleep(0.01 * round_)
        assert (await rest("DELETE", f"/v2/apps/hasty-{round_}")).status_code == 200
    await rest.deployed()
    assert (await rest.get("/v2/queue"))["queue"] == []


# -- health -------------------------------------------------------------------------------

SERVER = (
    "import http.server, os\n"
    "class Handler(http.server.BaseHTTPRequestHandler):\n"
    "    def do_GET(self):\n"
    "        self.send_response(503 if os.path.exists(os.environ['ILL']) else 200)\n"
    "        self.end_headers()\n"
    "http.server.HTTPServer(('', int(os.environ['PORT0'])), Handler).serve_forever()\n"
)
CHECK = {"protocol": "HTTP", "path": "/", "intervalSeconds": 1, "timeoutSeconds": 60}


async def test_health_is_counted_and_an_ill_task_replaced(shared_rest: Rest, tmp_path: Any) -> None:
    ill = tmp_path / "ill"
    ill.touch()
    answer = await shared_rest(
        "POST",
        "/v2/apps",
        {
            "id": "/health",
            "args": [sys.executable, "-c", SERVER],
            "cpus": 0.01,
            "env": {"ILL": str(ill)},
            "healthChecks": [{**CHECK, "maxConsecutiveFailures": 1, "gracePeriodSeconds": 600}],
        },
    )
    assert answer.status_code == 201, answer.text
    (task,) = await shared_rest.running("/health")
    assert (await shared_rest.app("/health"))["deployments"], "running is not healthy yet"
    ill.unlink()
    await shared_rest.deployed()
    app = await shared_rest.app("/health")
    assert (app["tasksHealthy"], app["tasksUnhealthy"]) == (1, 0)
    (result,) = app["tasks"][0]["healthCheckResults"]
    assert result["alive"] is True
    assert result["firstSuccess"] <= result["lastSuccess"]
    ill.touch()

    async def replaced() -> Any:
        tasks = await shared_rest.tasks("/health")
        return [each for each in tasks if each["id"] != task["id"]]

    await eventually(replaced)
    failure = (await shared_rest.app("/health"))["lastTaskFailure"]
    assert failure["state"] == "TASK_KILLED"
    assert failure["message"] == (
        "Task was killed since health check failed. Reason: 503 Service Unavailable"
    )
    assert failure["taskId"] == task["id"]


async def test_a_definition_with_its_first_check_replaces_tasks_without_a_gap(rest: Rest) -> None:
    """The old task serves until the new one is healthy, though by the new checks it never was."""
    fields = {"args": [sys.executable, "-c", SERVER], "env": {"ILL": "/nonexistent"}, "cpus": 0.01}
    assert (await rest("POST", "/v2/apps", {"id": "/first", **fields})).status_code == 201
    (old,) = await rest.running("/first")
    await rest.deployed()
    await rest("PUT", "/v2/apps/first", {"healthChecks": [CHECK]})
    while await rest.get("/v2/deployments"):
        tasks = {task["id"]: task for task in await rest.tasks("/first")}
        new = [task for task in tasks.values() if task["id"] != old["id"]]
        healthy = any(result["alive"] for task in new for result in task["healthCheckResults"])
        assert healthy or tasks[old["id"]]["state"] == "TASK_RUNNING"
    assert len(await rest.running("/first")) == 1


async def test_an_ill_task_while_its_app_is_scaled_away(rest: Rest) -> None:
    """The health kill and the scale kill meet; both want the same end."""
    check = {**CHECK, "gracePeriodSeconds": 0, "maxConsecutiveFailures": 1}
    await rest.create("/ill", cmd=STUBBORN, healthChecks=[check], instances=2, taskKillGracePeriodSeconds=1)

    async def killing() -> Any:
        return [task for task in await rest.tasks("/ill") if task["state"] == "TASK_KILLING"]

    await eventually(killing)
    assert (await rest("PUT", "/v2/apps/ill?force=true", {"instances": 0})).status_code == 200
    await rest.deployed()
    assert await rest.tasks("/ill") == []


async def test_two_tasks_never_get_one_port_and_too_few_are_told(tmp_path: Path) -> None:
    """As many ports as tasks ask for; the tasks do not listen, so that only the reservation parts them."""
    backend = RunningBackend(tmp_path / "state", (24100, 24135))
    rest = Rest(backend.url, backend.admin_token)
    try:
        await backend.start()
        await asyncio.gather(
            *(rest.create(f"/ports/{n}", instances=4, portDefinitions=[{}, {}, {}]) for n in range(3))
        )
        await asyncio.gather(*(rest.running(f"/ports/{n}", 4) for n in range(3)))
        tasks = [task for n in range(3) for task in await rest.tasks(f"/ports/{n}")]
        assert sorted(port for task in tasks for port in task["ports"]) == list(range(24100, 24136))
        await rest.create("/ports/late", portDefinitions=[{}])

        async def told() -> Any:
            items = (await rest.get("/v2/queue?embed=explanation"))["queue"]
            return items and items[0].get("explanation")

        assert await eventually(told) == "waiting for 1 free ports; the place has 0 left"
        await rest("PUT", "/v2/apps/ports/0", {"instances": 3})
        await rest.running("/ports/late")
    finally:
        await backend.destroy()


async def test_a_launcher_that_is_killed_loses_no_task(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/launched", instances=2)
    before = await rest.running("/launched", 2)
    os.kill(ask_launcher(backend.state_dir, "hello")["pid"], signal.SIGKILL)
    await rest.create("/after")
    await rest.running("/after")
    assert await rest.running("/launched", 2) == before
    assert all(psutil.pid_exists(process.pid) for process in backend.tasks())
    await rest("DELETE", "/v2/apps/launched")
    await rest.deployed()

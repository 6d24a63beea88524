"""A backend that is killed, at any moment, and started again: no task is lost, doubled or left over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import requests
from conftest import STUBBORN, RunningBackend, task_id_of
from rest import Rest, eventually


async def task_ids(backend: RunningBackend) -> Counter[str]:
    """How many processes the tasks have; each here is one process."""
    found = map(task_id_of, await asyncio.to_thread(backend.tasks))
    return Counter(filter(None, found))


def kill(process: psutil.Process) -> None:
    """Kill a process, unless it has ended since it was found."""
    with contextlib.suppress(psutil.Error):
        process.kill()


async def test_a_killed_backend_finds_its_tasks_again(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/kept/one", instances=2)
    await rest.create("/kept/two", labels={"a": "b"})
    before = [await rest.running("/kept/one", 2), await rest.running("/kept/two")]
    await rest.deployed()
    apps = await rest.get("/v2/apps?embed=tasks")
    for end in (backend.kill, backend.stop):
        await end()
        assert sum((await task_ids(backend)).values()) == 3
        await backend.start()
        assert [await rest.tasks("/kept/one"), await rest.tasks("/kept/two")] == before
        assert await rest.get("/v2/apps?embed=tasks") == apps
    assert await rest.get("/v2/deployments") == []


async def test_ends_that_nobody_saw_are_known_afterwards(rest: Rest, backend: RunningBackend) -> None:
    until_told = "until [ -e go ]; do sleep 0.02; done; exit 7"
    await rest.create("/ended", cmd=until_told, backoffSeconds=3000, maxLaunchDelaySeconds=3000)
    (task,) = await rest.running("/ended")
    await backend.kill()
    (backend.state_dir / "sandboxes" / task["id"] / "go").touch()

    async def over() -> bool:
        return not await task_ids(backend)

    await eventually(over)
    await backend.start()
    app = await rest.app("/ended")
    assert app["lastTaskFailure"]["taskId"] == task["id"]
    assert app["lastTaskFailure"]["message"] == "Command exited with status 7"
    (item,) = (await rest.get("/v2/queue"))["queue"]
    assert item["delay"]["timeLeftSeconds"] > 2000, "the back-off is counted also for what nobody saw"


def terminated(backend: RunningBackend) -> int:
    """How many tasks have been sent SIGTERM, as the backend has written it down."""
    count = "SELECT count(json_extract(body, '$.terminated_uptime')) FROM instances"
    with contextlib.closing(sqlite3.connect(backend.state_dir / "backend.sqlite")) as database:
        return int(database.execute(count).fetchone()[0])


async def test_a_kill_that_was_ordered_is_carried_out_after_the_restart(
    rest: Rest, backend: RunningBackend
) -> None:
    await rest.create("/scaled", cmd=STUBBORN, instances=3, taskKillGracePeriodSeconds=600)
    await rest.create("/gone", cmd=STUBBORN, taskKillGracePeriodSeconds=600)
    await rest.running("/scaled", 3)
    await rest.running("/gone")
    await rest.deployed()
    await backend.deaf(4)
    await rest("PUT", "/v2/apps/scaled", {"instances": 1})
    await rest("DELETE", "/v2/apps/gone")
    await backend.kill()
    await backend.start()
    assert len(await rest.get("/v2/deployments")) == 2
    await eventually(lambda: asyncio.sleep(0, terminated(backend) == 3))
    await backend.kill()
    # As if it had been away until their grace was over.
    with sqlite3.connect(backend.state_dir / "backend.sqlite") as database:
        long_ago = "json_set(body, '$.terminated_uptime', json_extract(body, '$.terminated_uptime') - 600)"
        database.execute(
            f"UPDATE instances SET body = {long_ago} WHERE json_extract(body, '$.terminated_uptime') > 0"
        )
    await backend.start()
    await rest.deployed()
    assert len(await rest.running("/scaled")) == 1
    assert [task_id.partition(".")[0] for task_id in await task_ids(backend)] == ["scaled"]


async def test_tasks_that_die_unseen_while_they_are_to_end_leave_nothing(
    rest: Rest, backend: RunningBackend
) -> None:
    """The store says they are to be killed, the engine that they are gone: then they are gone."""
    await rest.create("/dying", cmd=STUBBORN, instances=2, taskKillGracePeriodSeconds=60)
    await rest.running("/dying", 2)
    await rest.deployed()
    await backend.deaf(2)
    await rest("DELETE", "/v2/apps/dying")
    await backend.kill()
    for process in backend.tasks():
        kill(process)

    async def over() -> bool:
        return not await task_ids(backend)

    await eventually(over)
    for _ in range(2):
        await backend.start()
        await rest.deployed()
        assert (await rest.get("/v2/apps"))["apps"] == []
        await backend.kill()


async def test_an_app_without_its_owner_goes_at_the_restart(rest: Rest, backend: RunningBackend) -> None:
    """As after a store was restored in which the owner is not: nothing may live on for nobody."""

    await rest.create("/owner")
    await rest.create("/owned", labels={"HUBFLEET_OWNER": "/owner"})
    await rest.running("/owned")
    await rest.deployed()
    await backend.kill()
    with sqlite3.connect(backend.state_dir / "backend.sqlite") as database:
        database.execute("DELETE FROM apps WHERE id = '/owner'")
    await backend.start()
    await rest.deployed()
    assert (await rest.get("/v2/apps"))["apps"] == []
    await eventually(lambda: _none(task_ids(backend)))


async def test_a_deployment_whose_app_is_gone_already_ends_at_the_restart(
    rest: Rest, backend: RunningBackend
) -> None:
    """As after a kill between the end of the app's last task and the end of its deployment."""
    await rest.create("/gone", cpus=60, instances=2)
    assert len(await rest.get("/v2/deployments")) == 1
    await backend.kill()
    with sqlite3.connect(backend.state_dir / "backend.sqlite") as database:
        database.execute("DELETE FROM apps")
        database.execute("DELETE FROM instances")
    await backend.start()
    await rest.deployed()


async def _none(counted: Awaitable[Counter[str]]) -> bool:
    return not await counted


async def _equal(counted: Awaitable[Counter[str]], expected: Counter[str]) -> bool:
    return await counted == expected


async def test_a_store_that_was_moved_away_ends_nobodys_tasks(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/stranger")
    await rest.running("/stranger")
    await backend.kill()
    before = await task_ids(backend)
    for path in backend.state_dir.glob("backend.sqlite*"):
        shutil.move(path, backend.state_dir / f"old-{path.name}")
    for _ in range(2):
        await backend.start()
        assert (await rest.get("/v2/apps"))["apps"] == []
        await rest.create("/own")
        await rest.running("/own")
        await rest("DELETE", "/v2/apps/own")
        await rest.deployed()
        assert await task_ids(backend) == before
        await backend.kill()
    assert "no app here knows it; it is left alone" in backend.log.read_text()


async def test_after_a_reboot_all_that_is_defined_is_started_again(
    rest: Rest, backend: RunningBackend
) -> None:
    """Nothing runs any more, and the ids of the processes are by now somebody else's."""
    await rest.create("/kept", instances=2, backoffSeconds=0)
    before = {task["id"] for task in await rest.running("/kept", 2)}
    await rest.deployed()
    await backend.kill()
    for process in backend.processes():
        kill(process)
    stranger = subprocess.Popen(["sleep", "600"], start_new_session=True)
    try:
        journal = backend.state_dir / "launcher.journal"
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        of_former_boot = [{**line, "boot": "former", "pid": stranger.pid} for line in lines if "boot" in line]
        assert len(of_former_boot) == 2
        journal.write_text("".join(f"{json.dumps(line)}\n" for line in of_former_boot))
        await backend.start()
        expected = Counter(task_id.replace("._app.1", "._app.2") for task_id in before)
        await eventually(lambda: _equal(task_ids(backend), expected))
        assert {task["id"] for task in await rest.running("/kept", 2)} == set(expected)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_a_copy_that_is_put_back_gives_no_id_to_two_tasks(
    rest: Rest, backend: RunningBackend, tmp_path: Path
) -> None:
    """What was started after the copy is ended, and none of it is taken for what follows."""
    store = backend.state_dir / "backend.sqlite"
    await rest.create("/copied", backoffSeconds=0)
    (task,) = await rest.running("/copied")
    await rest.deployed()
    with sqlite3.connect(store) as database, sqlite3.connect(tmp_path / "copy") as copy:
        database.backup(copy)
    kill(backend.tasks()[0])
    second, third = (task["id"].replace("._app.1", f"._app.{n}") for n in (2, 3))
    await eventually(lambda: _equal(task_ids(backend), Counter([second])))
    await backend.stop()
    shutil.copy(tmp_path / "copy", store)
    for left in ("-wal", "-shm"):
        Path(f"{store}{left}").unlink(missing_ok=True)
    await backend.start()
    await eventually(lambda: _equal(task_ids(backend), Counter([third])))
    assert [each["id"] for each in await rest.running("/copied")] == [third]
    assert (await rest.app("/copied"))["lastTaskFailure"]["taskId"] == task["id"]
    assert f"{second} runs on the engine, but no app here wants it" in backend.log.read_text()


async def test_old_definitions_last_as_long_as_their_tasks(rest: Rest, backend: RunningBackend) -> None:
    """More versions than are kept pass while one task of the first is still there."""
    await rest.create("/old")
    (task,) = await rest.running("/old")
    await rest.deployed()
    for number in range(60):
        answer = await rest("PUT", "/v2/apps/old?force=true", {"labels": {"n": str(number)}, "cpus": 64})
        assert answer.status_code == 200
    await backend.kill()
    await backend.start()
    tasks = await rest.tasks("/old")
    assert task["id"] in [found["id"] for found in tasks]
    await rest("DELETE", "/v2/apps/old")
    await rest.deployed()


@pytest.mark.parametrize("round_", range(4))
async def test_kills_at_random_moments(rest: Rest, backend: RunningBackend, round_: int) -> None:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # shown when the test fails
    chance = random.Random(seed)
    accepted: dict[str, int] = {}  # what the backend said yes to
    unsure: set[str] = set()  # where it was killed before it said anything

    async def one_change() -> None:
        app_id = f"/random/{chance.randrange(4)}"
        choice = chance.random()
        try:
            if choice < 0.45:
                count = chance.randrange(1, 4)
                unsure.add(app_id)
                body = {"cmd": "exec sleep 600", "cpus": 0.01, "mem": 1, "instances": count}
                answer = await rest("PUT", f"/v2/apps{app_id}?force=true", body)
                assert answer.status_code in (200, 201), answer.text
                accepted[app_id] = count
            elif choice < 0.6:
                unsure.add(app_id)
                answer = await rest("DELETE", f"/v2/apps{app_id}")
                assert answer.status_code in (200, 404)
                accepted.pop(app_id, None)
            elif choice < 0.8 and accepted:
                chosen = chance.choice(sorted(accepted))
                tasks = (await rest("GET", f"/v2/apps{chosen}/tasks")).json().get("tasks", [])
                ids = [task["id"] for task in tasks[:1]]
                await rest("POST", "/v2/tasks/delete", {"ids": ids})
                return
            else:
                for process in await asyncio.to_thread(backend.tasks):
                    if chance.random() < 0.3:
                        kill(process)
                return
            unsure.discard(app_id)
        except (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError):
            pass  # killed in the middle: it may have been done or not

    for _ in range(4):
        changes = asyncio.create_task(_repeat(one_change, 8))
        await asyncio.sleep(chance.uniform(0.0, 0.25))
        await backend.kill()
        await changes
        if chance.random() < 0.5:
            for process in await asyncio.to_thread(backend.tasks):
                if chance.random() < 0.3:
                    kill(process)
        await backend.start()

    await rest.deployed()
    apps = {app["id"]: app for app in (await rest.get("/v2/apps?embed=tasks"))["apps"]}
    for app_id in {*apps, *accepted} - unsure:
        assert apps.get(app_id, {}).get("instances") == accepted.get(app_id), app_id

    async def as_defined() -> bool:
        found = {app["id"]: app for app in (await rest.get("/v2/apps?embed=tasks"))["apps"]}
        known = [task for app in found.values() for task in app["tasks"]]
        return (
            all(app["tasksRunning"] == app["instances"] == len(app["tasks"]) for app in found.values())
            and all(task["state"] == "TASK_RUNNING" for task in known)
            and await task_ids(backend) == Counter(task["id"] for task in known)
        )

    await eventually(as_defined)


async def _repeat(change: Callable[[], Awaitable[None]], times: int) -> None:
    for _ in range(times):
        await change()


async def test_a_backend_does_not_start_on_a_newer_or_damaged_store(
    rest: Rest, backend: RunningBackend
) -> None:
    await rest.create("/kept")
    await rest.running("/kept")
    await backend.stop()
    database = backend.state_dir / "backend.sqlite"
    good = database.read_bytes()
    for path in backend.state_dir.glob("backend.sqlite-*"):
        path.unlink()
    for damage, sentence in (
        (good[:60] + b"\0\0\0\x63" + good[64:], "newer hubfleet"),
        (b"no database" * 100, "cannot use the state"),
    ):
        database.write_bytes(damage)
        with pytest.raises(AssertionError, match=sentence):
            await backend.start()
        assert sum((await task_ids(backend)).values()) == 1
    database.write_bytes(good)
    await backend.start()
    await rest.running("/kept")


async def test_a_backend_killed_amid_a_rolling_restart_goes_on_with_it(
    rest: Rest, backend: RunningBackend
) -> None:
    """Not ready yet are the new tasks when it is killed: the old ones serve until they are."""
    await rest.create("/rolled", instances=2)
    old = {task["id"] for task in await rest.running("/rolled", 2)}
    await rest.deployed()
    gate = backend.state_dir.parent / "gate"
    port = (
        "import http.server, os; http.server.HTTPServer(('', int(os.environ['PORT0'])), None).serve_forever()"
    )
    waiting = f'while [ ! -e {gate} ]; do sleep 0.05; done; exec {sys.executable} -c "{port}"'
    check = {"protocol": "TCP", "intervalSeconds": 1, "gracePeriodSeconds": 300}
    await rest("PUT", "/v2/apps/rolled", {"cmd": waiting, "healthChecks": [check]})
    await rest.running("/rolled", 4)
    (before,) = await rest.get("/v2/deployments")
    await backend.kill()
    await backend.start()
    (after,) = await rest.get("/v2/deployments")
    assert after == before
    assert {task["id"] for task in await rest.running("/rolled", 4)} > old
    gate.touch()
    await rest.deployed()
    new = {task["id"] for task in await rest.running("/rolled", 2)}
    assert not new & old
    assert await task_ids(backend) == Counter(new)


async def test_a_backend_killed_between_two_steps_keeps_the_gate_closed(
    rest: Rest, backend: RunningBackend
) -> None:
    gate = backend.state_dir.parent / "gate"
    port = (
        "import http.server, os; http.server.HTTPServer(('', int(os.environ['PORT0'])), None).serve_forever()"
    )
    waiting = f'while [ ! -e {gate} ]; do sleep 0.05; done; exec {sys.executable} -c "{port}"'
    check = {"protocol": "TCP", "intervalSeconds": 1, "gracePeriodSeconds": 300}
    small = {"cpus": 0.01, "mem": 1}
    apps = [
        {"id": "/late", "cmd": "exec sleep 600", "dependencies": ["/early"], **small},
        {"id": "/early", "cmd": waiting, "healthChecks": [check], **small},
    ]
    assert (await rest("PUT", "/v2/apps", apps)).status_code == 200
    await rest.running("/early")
    await backend.kill()
    await backend.start()
    (deployment,) = await rest.get("/v2/deployments")
    assert (deployment["currentStep"], deployment["totalSteps"]) == (2, 3)
    assert [action["app"] for action in deployment["currentActions"]] == ["/early"]
    assert await rest.tasks("/late") == []
    assert (await rest("PUT", "/v2/apps/late", {"instances": 2})).status_code == 409
    gate.touch()
    await rest.deployed()
    assert len(await rest.tasks("/late")) == 1

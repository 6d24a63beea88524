"""A full disk, a read-only state, a jumping clock, crowds: a sensible state and a clear message each."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
import requests
from conftest import RunningBackend, WarmBackend
from instances import app, moment
from rest import Rest, eventually

from hubfleet.backend.records import AppRecord
from hubfleet.backend.store import Store

pytestmark = pytest.mark.long

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system of its own")

_IN_OWN_MOUNTS = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, MS_REC, MS_PRIVATE, MS_REMOUNT, MS_RDONLY = 0x20000, 0x4000, 0x40000, 0x20, 0x1
def check(result):
    if result:
        sys.exit(os.strerror(ctypes.get_errno()))
state, kind, command = sys.argv[1], sys.argv[2], sys.argv[3:]
if kind.isdigit():
    check(libc.setns(os.open(f"/proc/{kind}/ns/mnt", os.O_RDONLY), CLONE_NEWNS))
    os.execv(command[0], command)
check(libc.unshare(CLONE_NEWNS))
check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
if kind == "ro":
    check(libc.mount(state.encode(), state.encode(), None, 0x1000, None))
    check(libc.mount(b"none", state.encode(), None, 0x1000 | MS_REMOUNT | MS_RDONLY, None))
else:
    check(libc.mount(b"tmpfs", state.encode(), b"tmpfs", 0, b"mode=711,size=" + kind.encode()))
os.execv(command[0], command)
"""


class MountedBackend(RunningBackend):
    """A backend whose state directory is a file system that only its own processes see.

    `kind` is the size of a new one, ``ro`` for one that cannot be written, or the id of a process in
    whose mounts to run.
    """

    kind = "3m"

    def command(self) -> list[str]:
        self.state_dir.mkdir(exist_ok=True)
        program, *rest = super().command()
        return [program, "-c", _IN_OWN_MOUNTS, str(self.state_dir), self.kind, program, *rest]

    def launcher(self) -> int:
        (found,) = [each.pid for each in self.processes() if "hubfleet_launcher" in " ".join(each.cmdline())]
        return found


@as_root
async def test_a_full_disk_loses_nothing_that_was_promised(
    tmp_path: Path, port_range: tuple[int, int]
) -> None:
    backend = MountedBackend(tmp_path / "state", port_range)
    rest = Rest(backend.url, backend.admin_token)
    try:
        await backend.start()
        await rest.create("/kept")
        before = await rest.running("/kept")
        await rest.deployed()
        promised = {"/kept"}
        launcher = backend.launcher()
        filler = Path(f"/proc/{launcher}/root{backend.state_dir}/filler")
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(b"\0" * 4096)
        unanswered: set[str] = set()
        with contextlib.suppress(requests.exceptions.ConnectionError):
            while True:
                app = {"id": f"/more/{len(promised)}", "cmd": "exec sleep 60", "cpus": 0.01}
                unanswered = {app["id"]}
                answer = await rest("POST", "/v2/apps", app)
                unanswered = set()
                if answer.status_code != 201:
                    assert answer.status_code == 503, answer.text
                    assert "cannot write its state" in answer.json()["message"]
                    break
                promised.add(app["id"])
        # What it has in memory may be ahead of what is on disk, so it goes; the tasks stay.
        assert backend.process is not None
        await asyncio.to_thread(backend.process.wait, 60)
        assert "The tasks keep running" in backend.log.read_text().splitlines()[-1]
        backend.kind = str(launcher)
        filler.unlink()
        await backend.start()
        assert await rest.tasks("/kept") == before
        found = {app["id"] for app in (await rest.get("/v2/apps"))["apps"]}
        assert promised <= found <= promised | unanswered
    finally:
        await backend.destroy()


@as_root
async def test_a_read_only_state_directory_is_named(tmp_path: Path, port_range: tuple[int, int]) -> None:
    backend = MountedBackend(tmp_path / "state", port_range)
    backend.kind = "ro"
    try:
        with pytest.raises(AssertionError, match="the backend ended"):
            await backend.start()
        said = backend.log.read_text().splitlines()[-1]
        assert str(backend.state_dir) in said
        assert "Read-only file system" in said
    finally:
        await backend.destroy()


class AtAnotherTime(WarmBackend):
    """A backend for which it is `hours` later than it is (or, negative, earlier), as told at each start."""

    hours = 0.0

    def whole_environment(self) -> dict[str, str]:
        return {**super().whole_environment(), "TEST_CLOCK_HOURS": str(self.hours)}


@pytest.mark.parametrize("hours", [24, -24])
async def test_a_clock_that_jumps_by_a_day_neither_holds_back_nor_kills(
    tmp_path: Path, port_range: tuple[int, int], hours: int
) -> None:
    backend = AtAnotherTime(tmp_path / "state", port_range)
    rest = Rest(backend.url, backend.admin_token)
    check = {"protocol": "TCP", "intervalSeconds": 1, "gracePeriodSeconds": 1}
    listen = (
        'exec /usr/bin/env python3 -c \'import os, socket; s = socket.create_server(("127.0.0.1",'
        ' int(os.environ["PORT0"])))' + "\nwhile True: s.accept()[0].close()'"
    )
    try:
        await backend.start()
        # Until it listens it has time, as much as the machine takes.
        await rest.create("/steady", cmd=listen, mem=64, healthChecks=[{**check, "gracePeriodSeconds": 60}])
        await rest.create("/failing", cmd="exit 3", backoffSeconds=2, backoffFactor=1)
        # Neither answers: one may yet for an hour, the other's time to begin is over soon.
        impatient = {**check, "maxConsecutiveFailures": 1}
        await rest.create("/young", healthChecks=[{**impatient, "gracePeriodSeconds": 3600}])
        await rest.create("/mute", healthChecks=[{**impatient, "gracePeriodSeconds": 3}])
        (young,) = await rest.running("/young")
        (mute,) = await rest.running("/mute")

        async def both() -> bool:
            steady, failing = await rest.app("/steady"), await rest.app("/failing")
            return steady["tasksHealthy"] == 1 and "lastTaskFailure" in failing

        await eventually(both)
        (task,) = await rest.tasks("/steady")
        failure = (await rest.app("/failing"))["lastTaskFailure"]
        await backend.kill()
        backend.hours = hours
        await backend.start()

        async def failed_again() -> bool:
            return (await rest.app("/failing"))["lastTaskFailure"]["taskId"] != failure["taskId"]

        await eventually(failed_again)
        await eventually(lambda: _replaced(rest, "/mute", mute["id"]))
        assert [found["id"] for found in await rest.tasks("/young")] == [young["id"]]
        assert [found["id"] for found in await rest.tasks("/steady")] == [task["id"]]
        versions = []
        for number in range(2):
            answer = await rest("PUT", "/v2/apps/steady", {"labels": {"n": str(number)}})
            versions.append(answer.json()["version"])
            await eventually(lambda: _undisturbed(rest, "/steady"))
        assert versions == sorted(set(versions))
    finally:
        await backend.destroy()


async def _replaced(rest: Rest, app_id: str, task_id: str) -> bool:
    """Whether an app has no more this task."""
    return task_id not in {task["id"] for task in await rest.tasks(app_id)}


async def _undisturbed(rest: Rest, app_id: str) -> bool:
    """Whether an app is at its definition, healthy."""
    app = await rest.app(app_id)
    return app["deployments"] == [] and app["tasksHealthy"] == app["instances"]


async def test_ten_thousand_apps_are_loaded_listed_and_joined_by_one_more(
    tmp_path: Path, port_range: tuple[int, int]
) -> None:
    backend = WarmBackend(tmp_path / "state", port_range)
    rest = Rest(backend.url, backend.admin_token)
    try:
        await backend.start()
        await backend.stop()
        store = Store(backend.state_dir / "backend.sqlite")
        many = [AppRecord(app=app(id=f"/many/a{number}", instances=0)) for number in range(10_000)]
        with store.transaction():
            store.define_apps(many, moment())
        store.close()
        await backend.start()
        assert len((await rest.get("/v2/apps"))["apps"]) == 10_000
        await rest.create("/one-more")
        await rest.running("/one-more")
        await rest.deployed()
    finally:
        await backend.destroy()


async def test_a_thousand_tasks_that_fail_at_once_are_counted_held_back_and_gone(
    tmp_path: Path, port_range: tuple[int, int]
) -> None:
    backend = WarmBackend(tmp_path / "state", port_range, cpus="1000", mem="1000000")
    rest = Rest(backend.url, backend.admin_token)
    count = 1000
    try:
        await backend.start()
        await rest.create("/bystander")
        (bystander,) = await rest.running("/bystander")
        gate = tmp_path / "gate"
        os.mkfifo(gate)
        command = f"read line < {gate}; exit 9"  # which waits until somebody opens the other end
        held = {"backoffSeconds": 3600, "maxLaunchDelaySeconds": 3600}
        await rest.create("/crowd", cmd=command, instances=count, portDefinitions=[], **held)

        async def all_run() -> bool:
            return bool((await rest.app("/crowd"))["tasksRunning"] == count)

        await eventually(all_run, 200)

        async def all_wait() -> bool:
            # Again for those that run, but had not come to read when it was opened before.
            with contextlib.suppress(OSError):
                os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
            queue = (await rest.get("/v2/queue"))["queue"]
            return [(item["app"]["id"], item["count"]) for item in queue] == [("/crowd", count)]

        await eventually(all_wait, 200)
        failed = await rest.app("/crowd")
        assert failed["tasksRunning"] == 0
        assert failed["lastTaskFailure"]["message"] == "Command exited with status 9"
        assert [task["id"] for task in await rest.tasks("/bystander")] == [bystander["id"]]
        assert (await rest("DELETE", "/v2/apps/crowd")).status_code == 200
        await rest.deployed()
        assert len(await asyncio.to_thread(backend.tasks)) == 1
    finally:
        await backend.destroy()

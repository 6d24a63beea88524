"""`hubfleet backend stop`: the backend ends and leaves its tasks, or takes them with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

from conftest import RunningBackend
from rest import Rest, eventually

STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"


async def stop(state_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "hubfleet.api.cli",
        "backend",
        "stop",
        f"--state-dir={state_dir}",
        *options,
    ]
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)


async def test_stop_leaves_the_tasks_running(backend: RunningBackend, rest: Rest) -> None:
    await rest.create("/stays")
    await rest.running("/stays")
    await rest.deployed()
    before = {process.pid for process in backend.tasks()}
    done = await stop(backend.state_dir)
    assert done.returncode == 0, done.stderr
    assert f"(process {backend.process.pid if backend.process else 0}) ended" in done.stdout
    assert backend.process is not None
    assert await asyncio.to_thread(backend.process.wait, 60) == 0
    assert {process.pid for process in backend.tasks()} == before != set()
    await backend.start()
    await rest.running("/stays")
    assert {process.pid for process in backend.tasks()} == before


async def test_stop_with_tasks_leaves_no_process_and_all_apps(backend: RunningBackend, rest: Rest) -> None:
    await rest.create("/gentle", instances=2)
    await rest.create("/stubborn", STUBBORN, taskKillGracePeriodSeconds=0)
    await rest.create("/wandering", "setsid sleep 600 & exec sleep 600")
    for app_id, count in (("/gentle", 2), ("/stubborn", 1), ("/wandering", 1)):
        await rest.running(app_id, count)
    await rest.deployed()
    done = await stop(backend.state_dir, "--tasks")
    assert done.returncode == 0, done.stderr
    assert "4 tasks ended; the apps stay defined" in done.stdout
    await eventually(lambda: asyncio.sleep(0, not backend.processes()))  # last the launcher
    again = await stop(backend.state_dir, "--tasks")
    assert again.returncode == 0, again.stderr
    assert again.stdout == f"no backend runs on {backend.state_dir}\n0 tasks ended; the apps stay defined\n"
    await backend.start()
    for app_id, count in (("/gentle", 2), ("/stubborn", 1), ("/wandering", 1)):
        await rest.running(app_id, count)
        # Their end was no failure.
        assert "lastTaskFailure" not in await rest.app(app_id)


async def test_tasks_are_ended_without_a_backend_and_without_its_database(
    backend: RunningBackend, rest: Rest
) -> None:
    await rest.create("/a")
    await rest.running("/a")
    await backend.kill()
    for file in backend.state_dir.glob("backend.sqlite-*"):
        file.unlink()
    (backend.state_dir / "backend.sqlite").write_bytes(b"this is no database" * 100)
    done = await stop(backend.state_dir, "--tasks")
    assert done.returncode == 0, done.stderr
    assert "1 tasks ended" in done.stdout
    assert "are ended all the same" in done.stderr
    await eventually(lambda: asyncio.sleep(0, not backend.processes()))


async def test_nothing_is_made_where_there_is_no_state(tmp_path: Path) -> None:
    done = await stop(tmp_path / "nowhere", "--tasks")
    assert done.returncode == 1
    assert f"there is no state in {tmp_path / 'nowhere'}" in done.stderr
    assert list(tmp_path.iterdir()) == []

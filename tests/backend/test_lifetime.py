"""One backend per state directory; under a hub it serves until the hub itself is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests
from conftest import TOKEN, RunningBackend
from ports import free_port

COMMAND = [sys.executable, "-m", "hubfleet.api.cli", "backend"]


def eventually(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/ping", timeout=20).text == "pong"
    except OSError:
        return False


def has_ended(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


class Managed:
    """A process in the hub's place, whose child is `hubfleet backend --managed`."""

    def __init__(self, state_dir: Path, port: int) -> None:
        script = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:]); time.sleep(600)"
        command = [*COMMAND, "--managed", f"--port={port}", f"--state-dir={state_dir}"]
        self.hub = subprocess.Popen(
            [sys.executable, "-c", script, *command], env={**os.environ, "HUBFLEET_BACKEND_TOKEN": TOKEN}
        )
        self.port = port
        eventually(lambda: psutil.Process(self.hub.pid).children())
        self.front = psutil.Process(self.hub.pid).children()[0]
        eventually(lambda: self.front.children())
        self.backend = self.front.children()[0]
        eventually(lambda: (state_dir / "backend.lock").exists())
        eventually(lambda: (state_dir / "backend.lock").read_text().strip() == str(self.backend.pid))
        eventually(lambda: answers(port))


@pytest.fixture
def managed(tmp_path: Path) -> Iterator[Callable[[], Managed]]:
    port = free_port()
    started: list[Managed] = []

    def start() -> Managed:
        started.append(Managed(tmp_path / "state", port))
        return started[-1]

    yield start
    for each in started:
        each.hub.kill()
        each.hub.wait()
    eventually(lambda: not answers(port))


def test_a_second_backend_on_the_same_state_is_refused_in_one_sentence(backend: RunningBackend) -> None:
    second = subprocess.run(
        [*COMMAND, f"--port={free_port()}", f"--state-dir={backend.state_dir}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert "another backend" in second.stderr
    assert str(backend.process.pid if backend.process else None) in second.stderr
    assert "Traceback" not in second.stderr


def test_a_taken_port_is_refused_in_one_sentence(backend: RunningBackend, tmp_path: Path) -> None:
    second = subprocess.run(
        [*COMMAND, f"--port={backend.port}", f"--state-dir={tmp_path / 'other'}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{backend.port}" in second.stderr
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    ("arguments", "environment", "sentence"),
    [
        (["--cpus=-1"], {}, "--cpus"),
        (["--cpus=many"], {}, "--cpus"),
        (["--ports=9-1"], {}, "no range of ports"),
        (["--port=70000"], {}, "--port"),
        ([], {"HUBFLEET_BACKEND_TOKEN": "short"}, "at least 16 characters"),
        (["--token-file=/nowhere/token"], {}, "the token file /nowhere/token cannot be read: No such"),
        (["--ip=203.0.113.1"], {}, "--ip is to be an address of this machine"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], sentence: str
) -> None:
    refused = subprocess.run(
        [*COMMAND, f"--state-dir={tmp_path}", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode != 0
    assert sentence in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_damaged_database_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "backend.sqlite").write_bytes(b"this is no database" * 100)
    refused = subprocess.run(
        [*COMMAND, f"--state-dir={tmp_path}", f"--port={free_port()}"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 1
    assert "cannot use the state" in refused.stderr
    assert "Traceback" not in refused.stderr


async def test_what_is_kept_is_closed_to_others(backend: RunningBackend) -> None:
    # Tasks of other accounts pass through the directories, but read and list nothing.
    for path in (backend.state_dir, *backend.state_dir.iterdir()):
        with contextlib.suppress(FileNotFoundError):  # it was there for a moment only
            mode = path.stat().st_mode
            assert mode & (0o066 if stat.S_ISDIR(mode) else 0o077) == 0, path


def test_the_front_ends_at_once_and_the_backend_with_the_hub(managed: Callable[[], Managed]) -> None:
    running = managed()
    running.front.send_signal(signal.SIGINT)
    eventually(lambda: has_ended(running.front))
    assert answers(running.port), "the backend must still serve while the hub stops its users' servers"
    running.hub.kill()
    running.hub.wait()
    eventually(lambda: not answers(running.port))


def test_a_killed_front_is_replaced_and_the_new_backend_takes_over(managed: Callable[[], Managed]) -> None:
    first = managed()
    first.front.kill()
    second = managed()
    eventually(lambda: has_ended(first.backend))
    assert answers(second.port)
    assert second.backend.is_running()


def test_a_killed_backend_is_replaced_by_its_front(managed: Callable[[], Managed]) -> None:
    running = managed()
    running.backend.kill()
    eventually(lambda: [child for child in running.front.children() if not has_ended(child)])
    eventually(lambda: answers(running.port))
    assert not has_ended(running.front)
    (successor,) = (child for child in running.front.children() if not has_ended(child))
    assert successor.pid != running.backend.pid


async def test_sigterm_leaves_the_tasks_running(backend: RunningBackend) -> None:
    from hubfleet.api.app import App

    await backend.client.create_app(App(id="/stays", cmd="exec sleep 300", cpus=0.1, mem=8))
    while not (before := {process.pid for process in backend.tasks()}):
        await asyncio.sleep(0.02)
    await backend.stop()
    assert {process.pid for process in backend.tasks()} == before

"""``hubfleet workers run``, ``deploy`` and ``stop`` as a person has them: real processes, a real backend."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from bad_api import BadApi
from rest import eventually

from hubfleet.api import labels

from .conftest import command_lines, kill_tasks, until

pytestmark = pytest.mark.long

COMPUTE = """
from distributed import Client
with Client(timeout=90) as client:
    print(client.submit(sum, [1, 2]).result(timeout=90))
"""


class Command:
    """A command that runs, and what it has said."""

    def __init__(self, words: list[str], environment: dict[str, str], folder: Path) -> None:
        self.out = folder / f"out-{os.urandom(4).hex()}"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hubfleet.workers.cli", *words],
                env=environment,
                stdout=out,
                stderr=out,
                cwd=folder,
            )

    @property
    def said(self) -> str:
        return self.out.read_text()

    async def says(self, pattern: str, seconds: float = 120) -> str:
        """Wait for a line, and return what is in its brackets."""

        def found() -> re.Match[str] | None:
            runs = self.process.poll() is None  # before what it said last is read
            match = re.search(pattern, self.said, re.MULTILINE)
            assert match or runs, self.said
            return match

        match = await until(found, seconds, what=f"{pattern} in {self.said}")
        return str(match.group(1) if match.groups() else match.group())

    async def ends(self, seconds: float = 120) -> int:
        return await asyncio.to_thread(self.process.wait, seconds)


Begin = Callable[..., Command]


@pytest.fixture
def environment(backend: Any, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    return {
        **kept,
        "HOME": str(tmp_path),
        "XDG_STATE_HOME": str(tmp_path / "state-of-commands"),
        "HUBFLEET_URL": backend.url,
        "JUPYTERHUB_API_TOKEN": backend.admin_token,
    }


@pytest.fixture
async def begin(environment: dict[str, str], tmp_path: Path) -> AsyncIterator[Begin]:
    commands: list[Command] = []

    def started(*words: str, **variables: str) -> Command:
        commands.append(Command(list(words), {**environment, **variables}, tmp_path))
        return commands[-1]

    yield started
    for command in commands:
        if command.process.poll() is None:
            command.process.kill()
            command.process.wait()


async def compute(environment: dict[str, str], file: Path) -> str:
    """Compute something by a program that knows nothing but the file."""
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", COMPUTE],
        env={**environment, "DASK_CONFIG": str(file), "JUPYTERHUB_API_TOKEN": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


async def has_begun(backend: Any) -> None:
    """Wait until a command has made its app."""
    await eventually(backend.client.list_apps, 120)


async def is_clean(backend: Any) -> None:
    for _ in range(600):
        if not await backend.client.list_apps() and not backend.tasks():
            return
        await asyncio.sleep(0.1)
    raise AssertionError(await backend.client.list_apps(), backend.tasks())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
async def test_run_has_its_workers_until_it_is_told_to_end(
    begin: Begin, backend: Any, environment: dict[str, str], tmp_path: Path, signum: signal.Signals
) -> None:
    command = begin("run", "--name", "mine", "--nworkers", "2", "--worker-cpus", "0.1", "-l", "team:a:b")
    await command.says("^workers    2 of 2$")
    (app,) = await backend.client.list_apps()
    assert (app.id, app.instances, app.cpus, app.labels["team"]) == ("/dask/mine/workers", 2, 0.1, "a:b")
    file = tmp_path / "state-of-commands" / "hubfleet" / "mine.yaml"
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert str(file) in command.said
    assert await compute(environment, file) == "3"
    shown = command_lines(backend) + " ".join(psutil.Process(command.process.pid).cmdline())
    assert backend.admin_token not in shown + command.said
    command.process.send_signal(signum)
    assert await command.ends() == 0, command.said
    assert "Traceback" not in command.said
    assert command.said.endswith("the cluster mine has ended\n")
    assert await backend.client.list_apps() == []  # at once: it has waited for it
    assert backend.tasks() == []
    assert not file.exists()


async def test_run_that_is_told_to_end_while_it_begins_leaves_nothing(begin: Begin, backend: Any) -> None:
    command = begin("run", "--nworkers", "3", "--worker-cpus", "0.1")
    await has_begun(backend)
    command.process.terminate()
    assert await command.ends() == 0, command.said
    await is_clean(backend)


async def test_run_that_is_killed_leaves_nothing(begin: Begin, backend: Any) -> None:
    lease = {"DASK_HUBFLEET__CLUSTER__LEASE_SECONDS": "6"}
    command = begin("run", "--nworkers", "1", "--worker-cpus", "0.1", **lease)
    await command.says("^workers    1 of 1$")
    command.process.kill()
    await is_clean(backend)


async def test_run_adapts_between_its_bounds(
    begin: Begin, backend: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "own.yaml"
    token_file = tmp_path / "token"
    token_file.write_text(f"{backend.admin_token}\n")
    words = ["--adaptive", "--maximum", "2", "--worker-cpus", "0.1", "--no-tls"]
    command = begin(
        *("run", backend.url, "--client-config", str(file), "--token-file", str(token_file), *words),
        JUPYTERHUB_API_TOKEN="of-nobody",
        HUBFLEET_URL="",
    )
    await command.says("^scheduler  tcp://")
    await command.says("^workers    0 of 0$")
    assert await compute(environment, file) == "3"
    await command.says("^workers    1 of 1$")


async def test_a_name_that_is_taken_is_left_to_who_has_it(begin: Begin, backend: Any, tmp_path: Path) -> None:
    first = begin("run", "--name", "mine")
    await first.says("^workers    0 of 0$")
    second = begin("run", "--name", "mine")
    assert await second.ends() == 1
    assert "there is a Dask cluster named 'mine' already" in second.said
    assert "Traceback" not in second.said
    assert (tmp_path / "state-of-commands" / "hubfleet" / "mine.yaml").exists()
    assert first.process.poll() is None
    assert len(await backend.client.list_apps()) == 1


async def test_run_whose_workers_somebody_removed_says_so(begin: Begin, backend: Any) -> None:
    command = begin("run", "--name", "mine", "--nworkers", "1", "--worker-cpus", "0.1")
    await command.says("^workers    1 of 1$")
    await backend.client.delete_app("/dask/mine/workers")
    assert await command.ends() == 1
    assert "were removed, by somebody else" in command.said


async def test_deploy_leaves_a_cluster_that_stop_ends(
    begin: Begin, backend: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    small = ["--worker-cpus", "0.1", "--scheduler-cpus", "0.1"]
    command = begin("deploy", "--name", "ours", "--nworkers", "1", *small, "--jupyter", "--timeout", "170")
    assert await command.ends(180) == 0, command.said

    async def all_there() -> dict[str, Any] | None:
        apps = {app.id: app for app in await backend.client.list_apps()}
        return apps if len(apps) == 3 else None

    apps = await eventually(all_there)
    assert apps is not None
    assert set(apps) == {f"/dask/ours/{part}" for part in ("scheduler", "workers", "jupyter")}
    assert apps["/dask/ours/workers"].labels[labels.OWNER] == "/dask/ours/scheduler"
    file = tmp_path / "state-of-commands" / "hubfleet" / "ours.yaml"
    assert await compute(environment, file) == "3"

    link = await command.says(r"^notebook   (http\S+)$")
    address, _, token = link.partition("/lab?token=")
    assert len(token) >= 32
    assert requests.get(f"{address}/api/contents", timeout=60).status_code == 403
    given = {"Authorization": f"token {token}"}
    assert requests.get(f"{address}/api/contents", headers=given, timeout=60).status_code == 200

    shown = command_lines(backend)
    assert "jupyterlab" in shown
    key = apps["/dask/ours/scheduler"].env["DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY"].splitlines()[1]
    for secret in (backend.admin_token, token, key):
        assert secret not in shown + backend.log.read_text()
    assert backend.admin_token not in command.said

    await a_restarted_scheduler_has_its_workers_again(backend, environment, file)
    stopped = begin("stop", "ours")
    assert await stopped.ends() == 0, stopped.said
    assert "ended /dask/ours/scheduler" in stopped.said
    assert await backend.client.list_apps() == []
    assert backend.tasks() == []
    again = begin("stop", "ours")
    assert await again.ends() == 1
    assert "there is no cluster ours" in again.said


async def a_restarted_scheduler_has_its_workers_again(
    backend: Any, environment: dict[str, str], file: Path
) -> None:
    (before,) = (await backend.client.get_app("/dask/ours/scheduler")).tasks
    kill_tasks(backend, before.id)

    async def others() -> list[Any]:
        tasks = (await backend.client.get_app("/dask/ours/scheduler")).tasks
        return [task for task in tasks if task.running and task.id != before.id]

    (task,) = await eventually(others)
    text = file.read_text()
    moved = re.sub(r"tls://\S+", f"tls://{task.host}:{task.ports[0]}", text)
    file.write_text(moved)
    assert await compute(environment, file) == "3"


async def test_deploy_that_cannot_be_says_why_and_leaves_nothing(begin: Begin, backend: Any) -> None:
    image = begin("deploy", "--docker", "an/image", "--scheduler-cpus", "0.1")
    assert await image.ends() == 1
    assert "docker" in image.said
    wrong = begin("deploy", "--worker-mem", "1", "--scheduler-cpus", "0.1")
    assert await wrong.ends() == 1
    assert "mem must be a number of MiB" in wrong.said
    # An address from the block for documents: nobody has it.
    late = begin("deploy", "--scheduler-cpus", "0.1", "--ip", "192.0.2.1", "--timeout", "5")
    assert await late.ends() == 1
    assert "did not come within 5 s" in late.said or "ended, and the cluster was removed" in late.said
    assert "Traceback" not in image.said + wrong.said
    await is_clean(backend)


async def test_deploy_that_is_interrupted_leaves_nothing(begin: Begin, backend: Any) -> None:
    command = begin("deploy", "--nworkers", "1", "--scheduler-cpus", "0.1", "--worker-cpus", "0.1")
    await has_begun(backend)
    command.process.send_signal(signal.SIGINT)
    assert await command.ends() != 0
    assert "Traceback" not in command.said
    await is_clean(backend)


async def test_deploy_that_is_interrupted_before_its_first_answer_leaves_nothing(
    begin: Begin, backend: Any
) -> None:
    async with BadApi(backend.url, random.Random(1)).serving() as api:
        api.verdict = lambda method, path: "late" if method == "POST" else "pass"
        command = begin("deploy", "--nworkers", "1", "--scheduler-cpus", "0.1", HUBFLEET_URL=api.url)
        await has_begun(backend)
        command.process.send_signal(signal.SIGINT)
        await asyncio.sleep(0.3)
        assert command.process.poll() is None, "what is on its way is waited for"
        api.answering.set()
        assert await command.ends() != 0
        assert "Traceback" not in command.said
        await is_clean(backend)

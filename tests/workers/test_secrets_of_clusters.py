"""What is secret in a cluster, its key and the token, and everywhere that others could read it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from rest import eventually, stream
from sites import READER, Site

from hubfleet.backend.server.operations import Route
from hubfleet.backend.server.routes import ROUTES
from hubfleet.workers import MarathonCluster

from .conftest import command_lines, kill_tasks, until

ALICE, TEACHER, BOB = "token-of-alice", "token-of-a-teacher", "token-of-bob"
GROUP = "/jupyter/alice/dask"


def secrets_of(cluster: MarathonCluster) -> list[str]:
    """A line of the key, as it is and as JSON and base64 have it, is enough to know the key by."""
    found: str = cluster.security.tls_worker_key
    return [line for line in found.splitlines() if not line.startswith("-")][:3]


async def everything_read(site: Site, token: str, names: dict[str, str]) -> str:
    """All that GET gives to a token, with every embedding."""
    embeds = "&".join(
        f"embed={what}"
        for kind in ("app", "apps")
        for what in (
            *(f"{kind}.{part}" for part in ("tasks", "counts", "deployments", "lastTaskFailure", "stderr")),
            *(f"{kind}.{part}" for part in ("failures", "taskStats", "readiness")),
        )
    )
    queries = f"?{embeds}&embed=group.apps&embed=group.groups&embed=group.pods&embed=lastUnusedOffers"
    rest, found = site.user(token), []
    for route in ROUTES:
        if "GET" in route.operations and route.path != "/v2/events":
            found.append(await _read(rest, route, names, f"{queries}&embed=explanation&user=alice"))
    return "\n".join(found)


async def _read(rest: Any, route: Route, names: dict[str, str], query: str) -> str:
    answer: requests.Response = await rest("GET", route.path.format_map(names) + query)
    return f"{route.path}: {answer.status_code} {answer.text}"


async def test_the_key_is_for_the_owner_and_for_nobody_who_may_only_look(
    site: Site, arguments: dict[str, Any], caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    given = {**arguments, "url": site.backend.url, "token": ALICE, "group": GROUP, "silence_logs": False}
    heard = {}
    async with contextlib.AsyncExitStack() as listening:
        for token in (READER, TEACHER, BOB):
            heard[token] = await listening.enter_async_context(stream(site.backend.url, token))
        async with MarathonCluster(name="mine", n_workers=1, **given) as cluster:
            secrets = secrets_of(cluster)
            assert len(secrets) == 3
            app_id = cluster.app().id

            async def one_runs() -> list[Any]:
                return [task for task in await site.admin.tasks(app_id) if task["state"] == "TASK_RUNNING"]

            (task,) = await eventually(one_runs)
            # A worker that is killed leaves a failure with the end of what it wrote.
            kill_tasks(site.backend)

            async def another() -> bool:
                tasks = await one_runs()
                return bool(tasks) and tasks[0]["id"] != task["id"]

            await eventually(another)
            names = {
                "id": app_id.strip("/"),
                "groupId": GROUP.strip("/"),
                "taskId": task["id"],
                "version": (await site.admin.app(app_id))["version"],
                "deploymentId": "none",
                "file": "stderr",
            }
            for token in (READER, TEACHER):
                shown = await everything_read(site, token, names)
                assert app_id in shown
                assert "(hidden)" in shown
                assert not [secret for secret in secrets if secret in shown]
            shown = await everything_read(site, BOB, names)
            assert f'"{app_id}"' not in shown
            assert not [secret for secret in secrets if secret in shown]
            # The measure: who may see it does see it.
            own = await everything_read(site, ALICE, names)
            assert all(secret in own for secret in secrets)
            lines = await until(lambda: "dask_worker" in (found := command_lines(site.backend)) and found)
            for secret in (*secrets, ALICE):
                assert secret not in lines
        assert heard[READER].types(app_id)
        assert heard[TEACHER].types(app_id)
        assert not heard[BOB].types(app_id)
        for reader in heard.values():
            assert not [secret for secret in secrets if secret.encode() in reader.raw]
    logs = caplog.text + site.backend.log.read_text()
    written = b"".join(
        file.read_bytes() for file in site.backend.state_dir.rglob("std*") if file.is_file()
    ).decode("utf-8", "replace")
    for secret in (*secrets, ALICE):
        assert secret not in logs + written


def test_what_is_kept_on_disk_is_for_the_backend_alone(site: Site) -> None:
    """The database has environments in it."""
    modes = {}
    for file in site.backend.state_dir.iterdir():
        with contextlib.suppress(FileNotFoundError):  # one that is there for a moment only
            modes[file.name] = file.stat().st_mode
    files = {name: mode & 0o077 for name, mode in modes.items() if stat.S_ISREG(mode)}
    assert files
    assert set(files.values()) == {0}, files


async def test_no_token_or_environment_is_in_any_log_of_a_script_that_logs_everything(
    backend: Any, tmp_path: Path
) -> None:
    script = f"""
import logging
logging.basicConfig(level=logging.DEBUG)
import urllib3, http.client
from hubfleet.workers import MarathonCluster
own = {{"OWN": "of-nobodys-business"}}
with MarathonCluster(n_workers=1, cpus=0.1, env=own, silence_logs=False) as cluster:
    logging.getLogger("distributed").setLevel(logging.DEBUG)
    with cluster.get_client() as client:
        client.wait_for_workers(1, timeout=90)
        cluster.scale(2)
        client.wait_for_workers(2, timeout=90)
        print(repr(cluster), cluster.app().id, cluster.marathon_workers, cluster.get_logs())
        cluster.scale(1)
    try:
        cluster.scale(-1)
    except ValueError as error:
        print(error)
    print(cluster.security.tls_worker_key.splitlines()[1], file=open({str(tmp_path / "key")!r}, "w"))
"""
    environment = {
        **os.environ,
        "HUBFLEET_URL": backend.url,
        "HUBFLEET_DASK_GROUP": "/dask",
        "JUPYTERHUB_API_TOKEN": backend.admin_token,
        "DASK_LOGGING__DISTRIBUTED": "debug",
    }
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert ended.returncode == 0, ended.stderr
    assert "POST /v2/apps" in ended.stderr  # the client's own log, at its lowest level
    key = (tmp_path / "key").read_text().strip()
    assert len(key) > 30
    everything = ended.stdout + ended.stderr + backend.log.read_text()
    for secret in (backend.admin_token, key, "of-nobodys-business"):
        assert secret not in everything

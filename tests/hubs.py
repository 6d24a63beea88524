"""Hubs for the end-to-end tests: the working default, and an administrator beside it."""

from __future__ import annotations

import os
import secrets
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import requests
from driving import template_of
from hub import CONFIGURATION, Hub, Ports
from ports import free_port, hub_ports

ADMIN_TOKEN = secrets.token_hex(16)

_EXTRA = f"""
exec(compile(open({str(CONFIGURATION)!r}).read(), {str(CONFIGURATION)!r}, "exec"))
# Seconds; on a busy machine a server is not there within the usual 60, nor what takes a moment within 10.
c.Spawner.start_timeout = 240
c.Spawner.http_timeout = 120
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 60, "slow_stop_timeout": 60}}
c.JupyterHub.services.append({{"name": "tests", "api_token": {ADMIN_TOKEN!r}}})
c.JupyterHub.load_roles = [
    {{
        "name": "tests",
        "services": ["tests"],
        "scopes": ["admin:users", "admin:servers", "tokens", "access:servers"],
    }}
]
"""


class AdminOf:
    """The hub's REST API with the administrator's token."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    def __call__(self, method: str, path: str, **arguments: object) -> requests.Response:
        headers = {"Authorization": f"token {ADMIN_TOKEN}"}
        return requests.request(
            method, f"{self._hub.url}/hub/api{path}", headers=headers, timeout=120, **arguments
        )

    def backend(self, method: str, path: str, **arguments: object) -> requests.Response:
        headers = {"Authorization": f"token {self._hub.backend_token}"}
        return requests.request(
            method, f"{self._hub.backend_url}{path}", headers=headers, timeout=60, **arguments
        )

    def server_of(self, name: str, server: str = "") -> dict[str, Any] | None:
        """What the hub tells of a user's server; None if there is none."""
        answer = self("GET", f"/users/{quote(name, safe='')}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] | None = answer.json()["servers"].get(server)
        return found

    def start(
        self, name: str, server: str = "", options: dict[str, Any] | None = None, seconds: float = 240
    ) -> dict[str, Any]:
        """Start a user's server; return what the hub tells of it when it is ready."""
        path = f"/users/{quote(name, safe='')}/" + (f"servers/{server}" if server else "server")
        answer = self("POST", path, json=options or {})
        assert answer.status_code in (201, 202), answer.text
        deadline = time.monotonic() + seconds
        while not ((found := self.server_of(name, server)) and found["ready"]):
            assert found is not None, f"the server of {name!r} is gone again"
            assert time.monotonic() < deadline, f"the server of {name!r} does not come"
            time.sleep(0.1)
        return found

    def token_of(self, name: str) -> str:
        """A new token of a user's own."""
        return str(self("POST", f"/users/{quote(name, safe='')}/tokens", json={}).json()["token"])

    def whoami(self, name: str, server: str = "") -> str:
        """Ask the server behind a name's route, with a token of that name, who it thinks it serves."""
        found = self.server_of(name, server)
        assert found is not None
        answer = requests.get(
            f"{self._hub.url}{found['url']}api/me",
            headers={"Authorization": f"token {self.token_of(name)}"},
            timeout=60,
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["identity"]["username"])


def make_hub(folder: Path, extra: str = "") -> Hub:
    """Return a hub that is not started yet; what it writes is in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "config.py"
    configuration.write_text(_EXTRA + extra)
    return Hub(folder / "state", own_ports(), configuration=configuration)


def own_ports() -> Ports:
    """Return the ports of a hub that no other tests are given."""
    return Ports(free_port(), free_port(), free_port(), free_port(), hub_ports())


def has_template(hub: Hub, seconds: float = 120) -> dict[str, Any]:
    """Wait until a hub's backend has a template of servers; return what there is of it."""
    deadline = time.monotonic() + seconds
    while not (template := template_of(hub.state / "backend", "server"))["ready"]:
        assert time.monotonic() < deadline, template
        time.sleep(0.02)
    return template


def running(*words: str) -> list[psutil.Process]:
    """The processes whose command line holds all words; other tests' are among them if these do not tell."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if all(word in line for word in words) and not is_gone(process):
                found.append(process)
    return found


def is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended, and with it all of its threads: its ports are free then."""
    try:
        ended = process.status() == psutil.STATUS_ZOMBIE and len(os.listdir(f"/proc/{process.pid}/task")) < 2
        return ended or not process.is_running()
    except (psutil.Error, OSError):
        return True


def kill_all(processes: list[psutil.Process]) -> None:
    """Kill processes of which one would replace another that it sees killed; return when they are gone."""
    for signum in (signal.SIGSTOP, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.Error):
                process.send_signal(signum)
    deadline = time.monotonic() + 60
    while not all(map(is_gone, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def processes_of(state: Path) -> list[str]:
    """The command lines of every process that works for a hub's state."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            if process.status() != psutil.STATUS_ZOMBIE and (
                str(state) in line
                or str(state) in process.environ().get("HUBFLEET_STATE", "")
                or str(state) in process.environ().get("MESOS_SANDBOX", "")
            ):
                found.append(line)
        except psutil.Error:
            continue
    return found

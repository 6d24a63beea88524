"""Hubs for the end-to-end tests: the working default, and an administrator beside it."""

from __future__ import annotations

import secrets
from pathlib import Path

import psutil
import requests
from hub import CONFIGURATION, Hub, Ports

ADMIN_TOKEN = secrets.token_hex(16)

_EXTRA = f"""
exec(compile(open({str(CONFIGURATION)!r}).read(), {str(CONFIGURATION)!r}, "exec"))
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
            method, f"{self._hub.url}/hub/api{path}", headers=headers, timeout=60, **arguments
        )

    def backend(self, method: str, path: str, **arguments: object) -> requests.Response:
        headers = {"Authorization": f"token {self._hub.backend_token}"}
        return requests.request(
            method, f"{self._hub.backend_url}{path}", headers=headers, timeout=30, **arguments
        )


def make_hub(folder: Path, extra: str = "") -> Hub:
    """Return a hub that is not started yet; what it writes is in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "config.py"
    configuration.write_text(_EXTRA + extra)
    return Hub(folder / "state", Ports.free(), configuration=configuration)


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

"""A JupyterHub that starts in a second or so, for tests that kill it many times.

A process that has imported JupyterHub and the spawner forks it instead of starting a new Python
each time. From there on it is the real thing: its own process, database and signals. The proxy
and the backend are processes of their own and outlive it, as on a site of any size.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
from conftest import RunningBackend
from ports import free_port

_NURSERY = """
import json, os, signal, sys
from jupyterhub.app import JupyterHub
import hubfleet.spawner.spawner, jupyterhub.proxy, sqlalchemy.dialects.sqlite, alembic.command
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.chdir(order["folder"])
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDWR)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        try:
            JupyterHub.launch_instance(["-f", order["configuration"]])
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 1)
        os._exit(0)
    print(pid, flush=True)
"""

_CONFIGURATION = """
import sys
c = get_config()
c.JupyterHub.bind_url = "http://127.0.0.1:{public}"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:{hub}"
c.JupyterHub.db_url = "sqlite:///{folder}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{folder}/cookie_secret"
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{proxy_api}"
c.ConfigurableHTTPProxy.auth_token = "the proxy of the tests"
c.JupyterHub.authenticator_class = "null"
c.JupyterHub.allow_named_servers = True
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.services = [{{"name": "tests", "api_token": "{token}"}}]
c.JupyterHub.load_roles = [
    {{"name": "tests", "services": ["tests"], "scopes": ["admin:users", "admin:servers"]}}
]
c.JupyterHub.spawner_class = "marathon"
c.MarathonSpawner.marathon_host = "{backend}"
c.MarathonSpawner.marathon_token = "{backend_token}"
c.MarathonSpawner.cmd = {command!r}
c.MarathonSpawner.ip = "127.0.0.1"
c.MarathonSpawner.cpu = 0.01
c.MarathonSpawner.mem = 32
{extra}
"""

TOKEN = "an-administrator-of-the-tests-of-hubs"


class WarmHub:
    """One hub with a proxy that outlives it.

    Parameters
    ----------
    folder
        Where it keeps everything.
    backend
        Where its servers run.
    command
        The servers' program.
    """

    def __init__(self, folder: Path, backend: RunningBackend, command: list[str], extra: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.log = folder, folder / "hub.log"
        self.log.touch()
        public, hub, self._proxy_api = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{public}"
        self.api = f"http://127.0.0.1:{hub}/hub/api"
        (folder / "config.py").write_text(
            _CONFIGURATION.format(
                public=public,
                hub=hub,
                proxy_api=self._proxy_api,
                folder=folder,
                token=TOKEN,
                backend=backend.url,
                backend_token=backend.admin_token,
                command=command,
                extra=extra,
            )
        )
        self.pid: int | None = None
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("JUPYTERHUB", "HUBFLEET", "CONFIGPROXY"))
        }
        self._nursery = subprocess.Popen(
            [sys.executable, "-c", _NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        with (folder / "proxy.log").open("ab") as log:
            self._proxy = subprocess.Popen(
                [
                    *(sys.executable, "-m", "hubfleet.spawner.proxy", "--ip=127.0.0.1", f"--port={public}"),
                    *("--api-ip=127.0.0.1", f"--api-port={self._proxy_api}"),
                    f"--default-target=http://127.0.0.1:{hub}",
                ],
                env={**environment, "CONFIGPROXY_AUTH_TOKEN": "the proxy of the tests"},
                stdout=log,
                stderr=log,
            )

    async def ask(self, method: str, path: str, timeout: float = 60, **arguments: Any) -> requests.Response:
        """Send a request of the administrator to the hub's API, past the proxy."""
        headers = {"Authorization": f"token {TOKEN}"}
        return await asyncio.to_thread(
            requests.request, method, self.api + path, headers=headers, timeout=timeout, **arguments
        )

    async def visit(self, path: str) -> requests.Response:
        """Send a request as people do, through the proxy."""
        return await asyncio.to_thread(requests.get, self.url + path, allow_redirects=False, timeout=60)

    async def routes(self) -> dict[str, str]:
        """Return where the proxy sends the requests of users' servers, by path."""
        answer = await asyncio.to_thread(
            requests.get,
            f"http://127.0.0.1:{self._proxy_api}/api/routes",
            headers={"Authorization": "token the proxy of the tests"},
            timeout=60,
        )
        found = answer.json()
        return {path: route["target"] for path, route in found.items() if path.startswith("/user/")}

    def begin(self) -> None:
        """Start the hub without waiting for it."""
        order = {
            "folder": str(self.folder),
            "log": str(self.log),
            "configuration": str(self.folder / "config.py"),
        }
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        self.pid = int(self._nursery.stdout.readline())

    async def start(self, seconds: float = 120) -> None:
        """Start the hub, and return when its API answers."""
        self.begin()
        await self.answers(seconds)

    async def answers(self, seconds: float = 120) -> None:
        """Return when the hub's API answers."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                if (await self.ask("GET", "/", timeout=5)).ok:
                    return
            except requests.exceptions.RequestException:
                assert self.lives(), f"the hub ended:\n{self.last_lines()}"
            assert time.monotonic() < deadline, f"the hub does not answer:\n{self.last_lines()}"
            await asyncio.sleep(0.02)

    def lives(self) -> bool:
        """Whether the hub's process is there."""
        return self.pid is not None and os.path.exists(f"/proc/{self.pid}")

    async def kill(self) -> None:
        """End the hub as a power cut would; the proxy and the servers stay."""
        if self.lives():
            assert self.pid is not None
            os.kill(self.pid, signal.SIGKILL)
            while self.lives():
                await asyncio.sleep(0.002)

    def last_lines(self, count: int = 60) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    async def destroy(self) -> None:
        """End the hub and its proxy."""
        await self.kill()
        for process in (self._nursery, self._proxy):
            process.kill()
            await asyncio.to_thread(process.wait)

"""Hubs that are measured: real ones, of the tests' kind, at which people log in, with a probe inside."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from conftest import RunningBackend
from figures import quantile
from stub_backend import FIRST, HOST, LAST, stub_servers
from tornado.httpclient import HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient
from warm_hub import TOKEN, WarmHub

PATIENCE_SECONDS = 300.0

_COMMON = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import hub_probe
c.JupyterHub.extra_handlers = [
    ("/bench/probe", hub_probe.ProbeHandler),
    ("/bench/servers", hub_probe.ServersHandler),
    ("/bench/polls", hub_probe.PollsHandler),
]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.tornado_settings = {{"slow_spawn_timeout": 600}}
c.Spawner.start_timeout = c.Spawner.http_timeout = 300
# Else a hub that is started again answers after 10 s, and whoever asks it holds up what it still has to do.
c.JupyterHub.init_spawners_timeout = 300
"""
MARATHON = """
c.MarathonSpawner.show_form = False
c.MarathonSpawner.cpu = 1
c.MarathonSpawner.mem = 1024
c.MarathonSpawner.app_prefix = {name!r}
c.MarathonSpawner.hub_id = {name!r}
"""
NOTHING = f"""
import itertools
c.JupyterHub.spawner_class = hub_probe.DoNothingSpawner
hub_probe.DoNothingSpawner.host = {HOST!r}
hub_probe.DoNothingSpawner.ports = itertools.cycle(range({FIRST}, {LAST} + 1))
"""
LOCAL = f"""
c.JupyterHub.spawner_class = "simple"
c.Spawner.args = ["--allow-root"]
c.Spawner.cmd = [{str(Path(sys.executable).with_name("jupyterhub-singleuser"))!r}]
c.Spawner.ip = "127.0.0.1"
c.SimpleLocalProcessSpawner.home_dir_template = "{{folder}}/homes/{{{{username}}}}"
"""
# Its class has the name of ours, whose configuration would be its. It makes Docker containers only,
# which the driver of processes does not run: with `WITHOUT_CONTAINERS` its client leaves them out.
JMARATHON = """
import collections, collections.abc
collections.Iterable = collections.abc.Iterable  # which it looks for, and Python has had elsewhere since 3.10
ours = c.pop("MarathonSpawner")
c.JupyterHub.spawner_class = "jmarathonspawner.marathonspawner.MarathonSpawner"
c.MarathonSpawner.marathon_host = ours.marathon_host
c.MarathonSpawner.marathon_user_name = "bench"
c.MarathonSpawner.marathon_user_password = ours.marathon_token
c.MarathonSpawner.app_prefix = {name!r}
c.MarathonSpawner.network_mode = "HOST"
c.MarathonSpawner.cmd = "exec jupyterhub-singleuser --allow-root --ip=127.0.0.1 --port=$PORT0"
c.MarathonSpawner.custom_env = [{{"HOME": "{folder}"}}]
"""
WITHOUT_CONTAINERS = """
from jmarathonspawner.marathon import MarathonClient
create_app = MarathonClient.create_app
def create_without_container(client, app_id, app):
    app.container = None
    return create_app(client, app_id, app)
MarathonClient.create_app = create_without_container
"""
REAL_SERVERS = """
c.Spawner.args = ["--allow-root"]
c.MarathonSpawner.home_dir = "{folder}/homes/{{user_segment}}"
c.MarathonSpawner.app_labels = {{"HUBFLEET_PREFORK": "{prefork}"}}
"""


@dataclass(frozen=True)
class Noted:
    """What the probe noted of a hub over a while.

    Parameters
    ----------
    late
        Seconds by which each wake-up of the event loop was late.
    busy
        Seconds of processor time that the loop used between two wake-ups.
    cpu
        Seconds of processor time of the whole hub.
    metric_p99
        The bound of JupyterHub's own metric of event loop intervals that 99 of 100 are below.
    """

    late: list[float]
    busy: list[float]
    cpu: float
    rss: float
    metric_p99: float

    @classmethod
    def of(cls, found: dict[str, Any]) -> Noted:
        """Return what the probe answered."""
        bounds = sorted((float(bound), count) for bound, count in found["metric"].items())
        count = bounds[-1][1]
        metric = next((bound for bound, below in bounds if below >= 0.99 * count), 0.0)
        return cls(found["late"], found["busy"], found["cpu"], found["rss"], metric)

    def p99(self) -> tuple[float, float]:
        """Return the 99th percentiles of late and busy."""
        return quantile(self.late, 0.99), quantile(self.busy, 0.99)


class MeasuredHub(WarmHub):
    """A hub that tells of itself.

    Parameters
    ----------
    extra
        Configuration; ``{name}`` and ``{folder}`` are filled in by `configuration`.
    """

    def __init__(
        self, folder: Path, name: str, backend: RunningBackend, command: list[str], extra: str, url: str = ""
    ) -> None:
        place = f"c.MarathonSpawner.marathon_host = {url!r}\n" if url else ""
        super().__init__(folder / name, backend, command, _COMMON + extra + place)
        self.name = name
        self._http = SimpleAsyncHTTPClient(force_instance=True, max_clients=10_000)

    async def destroy(self) -> None:
        """End the hub and its proxy, and hang up."""
        self._http.close()
        await super().destroy()

    async def order(
        self, method: str, path: str, body: object = None, expected: Collection[int] = (201,)
    ) -> HTTPResponse:
        """Send a request of the administrator to the hub's API, as many at once as one likes.

        Raises
        ------
        RuntimeError
            The hub answered something else than is expected; it says what.
        """
        answer = await self._http.fetch(
            self.api + path,
            method=method,
            headers={"Authorization": f"token {TOKEN}"},
            body=json.dumps(body or {}) if method == "POST" else None,
            raise_error=False,
            connect_timeout=PATIENCE_SECONDS,
            request_timeout=PATIENCE_SECONDS,
        )
        if answer.code not in expected:
            raise RuntimeError(f"{method} {path}: {answer.code} {answer.error} {answer.body[:200]!r}")
        return answer

    async def _probed(self, what: str) -> dict[str, Any]:
        url = self.api.removesuffix("/api") + f"/bench/{what}"
        answer = await asyncio.to_thread(requests.get, url, timeout=300)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def noted(self) -> Noted:
        """Return what was noted since this was asked last; the first answer is of no use."""
        return Noted.of(await self._probed("probe"))

    async def ready(self) -> int:
        """Return how many servers are ready."""
        return int((await self._probed("servers"))["ready"])

    async def polls(self) -> dict[str, list[float]]:
        """Poll all servers some times; return the seconds of one poll of each time, ``wall`` and ``cpu``."""
        return await self._probed("polls")

    def last_process(self, user: str) -> psutil.Process:
        """Return the process of a user's server: the first of those that belong to it."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("JUPYTERHUB_USER") == user and str(self.folder) in (
                    process.environ().get("HOME", "") + process.cwd()
                ):
                    found.append(process)
            except psutil.Error:
                continue
        assert found, f"there is no process of {user}'s server"
        return min(found, key=lambda process: process.create_time())

    async def stop_server(self, user: str) -> None:
        """Stop a user's server, and return when it is gone."""
        answer = await self.order("DELETE", f"/users/{user}/server", expected=(202, 204, 404))
        while answer.code == 202:  # it takes longer than the hub waits
            await asyncio.sleep(0.05)
            found = await self.order("GET", f"/users/{user}", expected=(200,))
            if not json.loads(found.body)["servers"]:
                return


class StubBackend(RunningBackend):
    """A backend whose driver starts nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "state", (FIRST, LAST), hostname=HOST)

    def command(self) -> list[str]:
        """The command line that starts it."""
        words = super().command()
        program = Path(__file__).with_name("stub_backend.py")
        return [words[0], str(program), *words[3:]]


async def stub_site(stack: AsyncExitStack, folder: Path) -> tuple[StubBackend, str]:
    """Return a backend that starts nothing, and the configuration of a spawner that does nothing.

    One process answers in the stead of all servers of both.
    """
    backend = StubBackend(folder)
    stack.push_async_callback(backend.destroy)
    servers = await asyncio.to_thread(stub_servers)
    stack.callback(servers.wait)
    stack.callback(servers.kill)
    await backend.start()
    return backend, NOTHING


def cpu_seconds(process: psutil.Process) -> float:
    """Return what a process and the children that it waited for have used."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)

"""Hubs that are measured: real ones, of the tests' kind, at which people log in, with a probe inside."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import requests
from conftest import RunningBackend
from figures import quantile
from warm_hub import WarmHub

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
"""
MARATHON = """
c.MarathonSpawner.show_form = False
c.MarathonSpawner.cpu = 1
c.MarathonSpawner.mem = 1024
c.MarathonSpawner.app_prefix = {name!r}
c.MarathonSpawner.hub_id = {name!r}
"""
NOTHING = """
c.JupyterHub.spawner_class = hub_probe.DoNothingSpawner
hub_probe.DoNothingSpawner.address = {address!r}
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
        answer = await self.ask("DELETE", f"/users/{user}/server", timeout=300)
        assert answer.status_code in (202, 204, 404), answer.text
        while (await self.ask("GET", f"/users/{user}")).json()["servers"]:
            await asyncio.sleep(0.05)


def cpu_seconds(process: psutil.Process) -> float:
    """Return what a process and the children that it waited for have used."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)

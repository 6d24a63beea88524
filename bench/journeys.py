"""The whole journey: log in, start a server, have eight workers, compute, and all is gone, beside two peers.

Method: a hub with our spawner and `MarathonCluster` as `jupyterhub_config.py` has them, and a hub of the
same configuration with SimpleLocalProcessSpawner, where one person uses LocalCluster and another
dask-gateway (with its local backend, and the commands of today's distributed set in its configuration). All
are alive at once and take turns in an order of chance, each time with somebody new, who does over HTTP and
a kernel's websocket what a browser does. A journey of each comes before, all at once (in the short run of
ours only), which makes ours its templates, and does not count. Clusters are as they come: ours and those of
dask-gateway encrypted, LocalCluster not. *Gone* is the time from pressing stop until no process is left
that was not there before; what was computed is 80 tasks of 50 ms. Processor time is that of all processes
from the login until the result, the hub's and the backend's among them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import psutil
from clusters import MEMORY
from driven import Gateway
from family import VARIABLE, Family, spent
from hub import Hub, Ports
from journey import CELL_WORKERS, Failed, Report
from machine import versions_of
from measuring import Part, arguments, run
from person import Person

GROUP = "a whole journey"
OURS, LOCAL, GATEWAY = "ours", "simple spawner, LocalCluster", "simple spawner, dask-gateway"
WORKERS = 8
SECONDS_TO_GO = 60
TEMPLATE = "hubfleet: template of "

CLUSTERS = {
    OURS: "from hubfleet.workers import MarathonCluster\ncluster = MarathonCluster()",
    LOCAL: f"""
from distributed import LocalCluster
cluster = LocalCluster(
    n_workers=0, threads_per_worker=1, memory_limit="{MEMORY}", dashboard_address="127.0.0.1:0"
)""",
    GATEWAY: "from dask_gateway import GatewayCluster\ncluster = GatewayCluster(**{settings!r})",
}
CELL_COMPUTE = """
import json, time
def square(x):
    time.sleep(0.05)
    return x * x
print(json.dumps(sum(client.gather(client.map(square, range(80))))))
"""
CLOSE = {OURS: "close", LOCAL: "close", GATEWAY: "shutdown"}

_numbers = iter(range(1 << 30))


class Steps(Report):
    """Remembers what each step took; the table says it."""

    def add(self, step: str, seconds: float) -> None:
        """Remember a step."""
        self.seconds[step] = seconds


def travel(way: str, cell: str, hub: Hub, family: Family) -> Mapping[str, float]:
    """Let somebody new go all the way; return the seconds of each step."""
    before = {process.pid for process in family.processes()}
    used, steps = family.cpu(), Steps()
    person = Person(hub.url, f"traveller{next(_numbers)}", hub.password)
    begun = time.monotonic()
    with steps("1. log in"):
        person.login()
    with steps("2. the server answers"):
        for event in person.start_and_watch():
            if event.get("failed"):
                raise Failed(str(event.get("message")))
        person.open_server()
    with steps("3. a kernel answers"):
        kernel = person.start_kernel()
        kernel.run("print(6 * 7)")
    with steps("4. a cluster"):
        kernel.run(f"{cell}\nclient = cluster.get_client()")
    with steps("5. eight workers"):
        kernel.run(f"cluster.scale({WORKERS})\n" + CELL_WORKERS.format(count=WORKERS, timeout=90))
    with steps("6. the result"):
        found = json.loads(kernel.run(CELL_COMPUTE))
        if found != sum(x * x for x in range(80)):
            raise Failed(f"the sum of the squares is wrong: {found}")
    seconds = time.monotonic() - begun
    cpu = spent(used, family.cpu())
    begun = time.monotonic()
    with steps("7. the cluster is closed"):
        kernel.run(f"client.close()\ncluster.{CLOSE[way]}()")
    kernel.close()
    with steps("8. all is gone"):
        person.stop_server()
        wait_until_gone(family, before, SECONDS_TO_GO)
    return {
        **steps.seconds,
        "wall": seconds + time.monotonic() - begun,
        "cpu until the result": cpu,
    }


def wait_until_gone(family: Family, before: set[int], patience: float) -> None:
    """Return when no process is there that was not there before; templates, made anew, are nobody's journey.

    Raises
    ------
    Failed
        Some stay; the message names them.
    """
    ends_at = time.monotonic() + patience
    while left := [one for one in family.processes() if one.pid not in before and not _stays(one)]:
        if time.monotonic() > ends_at:
            raise Failed(f"after {patience} s there are still {left}")
        time.sleep(0.05)


def _stays(process: psutil.Process) -> bool:
    """Whether a process is a template, or is gone meanwhile."""
    try:
        return " ".join(process.cmdline()).startswith(TEMPLATE)
    except psutil.Error:
        return True


def hub_of(folder: Path, *arguments: str) -> Hub:
    """Return a hub that is not started, whose processes are known by its folder."""
    patient = ("--Spawner.http_timeout=120", "--Spawner.start_timeout=120")
    mark = {VARIABLE: str(folder)}
    return Hub(folder / "state", Ports.free(), environment=mark, arguments=(*arguments, *patient))


async def measure(part: Part, folder: Path) -> None:
    """Let people travel."""
    for peer in (LOCAL, GATEWAY):
        for what in ("wall", "cpu until the result"):
            part.ratio(GROUP, f"{OURS}, {what}", f"{peer}, {what}")
    async with AsyncExitStack() as stack:
        stack.callback(Family(str(folder)).end)
        homes = f"--SimpleLocalProcessSpawner.home_dir_template={folder}/homes/{{username}}"
        ours = hub_of(folder / "ours")
        simple = hub_of(folder / "simple", "--JupyterHub.spawner_class=simple", homes)
        gateway = Gateway(folder / "gateway", repaired=True)
        stack.push_async_callback(gateway.destroy)
        for hub in (ours, simple):
            stack.callback(hub.stop)
        starts = [asyncio.to_thread(hub.start) for hub in (ours, simple)]
        *failed, refused = await asyncio.gather(*starts, gateway.start(), return_exceptions=True)
        for error in filter(None, failed):
            raise error
        family = Family(str(folder))
        ways = {OURS: (CLUSTERS[OURS], ours), LOCAL: (CLUSTERS[LOCAL], simple)}
        if refused is None:
            ways[GATEWAY] = CLUSTERS[GATEWAY].format(settings=gateway.settings), simple
        else:
            part.failed(GROUP, f"{GATEWAY}, wall", refused)
        turns = {
            way: partial(travel, way, cell, hub, family) for way, (cell, hub) in part.shuffled(ways).items()
        }
        apart = {way: partial(asyncio.to_thread, turn) for way, turn in turns.items()}
        before = [turn() for way, turn in apart.items() if way == OURS or not part.quick]
        await asyncio.gather(*before, return_exceptions=True)  # who fails now fails again, and is told then
        await part.in_turns(GROUP, apart, 1 if part.quick else 3, warm_up=0)


async def main() -> None:
    """Read the arguments, and measure."""
    part = Part.of("journeys", __doc__, arguments(__doc__).parse_args())
    part.measured_with(versions_of(["dask-gateway", "dask-gateway-server"]))
    with tempfile.TemporaryDirectory(prefix="bench-journeys-", ignore_cleanup_errors=True) as folder:
        async with part.phase(GROUP):
            await measure(part, Path(folder))
    part.end()


if __name__ == "__main__":
    run(main)

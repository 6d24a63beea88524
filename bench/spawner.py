"""What a start costs people and the hub, beside JupyterHub's own spawner. Run by ``make bench``.

Method: real hubs, proxies and backends, one hub for each spawner, all alive at once, measured in turns in an
order of chance. *Starts*: one person at a time logs in by the form, presses start, and looks at the server;
the clock runs from the first request to the server's answer through the proxy. The spawners are ours with a
backend that forks from its template (prefork), ours with executed servers (exec) and JupyterHub's
SimpleLocalProcessSpawner, and in one round of the long run jmarathonspawner, which speaks to the same
backend: with nothing but its `collections` fault repaired it fails, as it can start Docker containers only
and the backend runs processes, so that it is measured with a client that leaves the container out, too; its
servers are then forked as ours are. The limit is `jupyterhub-singleuser` executed without a hub. A start of
each that is measured often comes before, all at once, and does not count; in the short run only a forked one.
*Processor time of the hub*, and *storms*, in which all log in at the same moment: the servers are stubs (one
process answers at all their addresses, and the backend's driver starts nothing), so that the hub is what is
measured; the limit is a spawner that does nothing but name an address, to each server its own. In the long
run a storm is repeated with a backend each of whose answers comes 2 s late. A probe in the hub wakes up every
5 ms; how late it is by the wall is what people feel and what a busy machine adds to, and the loop's processor
time between two wake-ups is the hub's own part of it.
*Polls*: 5,000 spawners in one process, of a backend that runs their apps; the limit is a dictionary.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import psutil
import tornado.web

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from bare_server import HubHandler, bare_start, server_environment
from conftest import RunningBackend
from driven import last_line
from figures import quantile
from measured_hub import (
    JMARATHON,
    LOCAL,
    MARATHON,
    REAL_SERVERS,
    WITHOUT_CONTAINERS,
    MeasuredHub,
    StubBackend,
    cpu_seconds,
    stub_site,
)
from measuring import Part, arguments, run
from ports import free_port
from rest import Rest
from spawner_polls import polls
from stub_backend import Delay
from visitors import Visitor, Visitors

from hubfleet.backend.service import base_environment

SERVER = ["jupyterhub-singleuser"]
AT_ONCE = 10  # starts under way while the hub's processor time is counted
STARTS = "login to ready, one at a time"
OLD, OLD_AS_IT_COMES = "jmarathonspawner, without containers", "jmarathonspawner"
OLD_OPTIONS = {"cpu": 1, "mem": "1G", "image": "none"}  # what its form sends; without them it does not start
OFTEN, OFTEN_IN_QUICK = ("prefork", "exec", "local", "bare"), ("prefork", "local")
WARM_IN_QUICK = ("prefork",)  # its template has read by then what the others read
SHARES = {"starts": 0.36, "storms": 0.49, "polls": 0.15}  # of the time
SHARES_IN_QUICK = {"starts": 0.6, "storms": 0.29, "polls": 0.11}
COST = "the hub's processor time for a start"
LATE = "ours, backend 2 s late"


# -- starts of real servers --------------------------------------------------------------


async def starts(part: Part, folder: Path, rounds: int, often: Collection[str]) -> None:
    """Measure login to ready, with real servers; what is not measured often has one round."""
    for name, goal in (("prefork", 0.15), ("exec", 1.05)):
        part.ratio(STARTS, f"{name}, wall", "local, wall", goal, limit="bare, wall")
        part.ratio(
            STARTS, f"{name}, cpu of the server", "local, cpu of the server", limit="bare, cpu of the server"
        )
    if part.quick:
        part.cut(
            f"{STARTS}, {OLD_AS_IT_COMES}: in the long run only, as it looks every 2 s whether it started"
        )
    else:
        part.ratio(STARTS, "prefork, wall", f"{OLD}, wall", limit="bare, wall")
    part.ratio(STARTS, "local, wall", "bare, wall", ours=False, to_a_limit=True)
    part.ratio(STARTS, "exec, wall", "bare, wall", to_a_limit=True)
    settings = folder / "backend.py"
    settings.write_text('c.Backend.warm = ["server"]\n')
    visitors = Visitors()
    async with AsyncExitStack() as stack:
        backend = RunningBackend(folder / "state", (20000, 24000), config=str(settings))
        stack.push_async_callback(backend.destroy)
        stack.callback(visitors.close)
        await backend.start()
        hubs = {}
        for name, extra in (
            ("prefork", MARATHON + REAL_SERVERS.replace("{prefork}", "true")),
            ("exec", MARATHON + REAL_SERVERS.replace("{prefork}", "false")),
            ("local", LOCAL),
            *([] if part.quick else [(OLD, JMARATHON + WITHOUT_CONTAINERS), (OLD_AS_IT_COMES, JMARATHON)]),
        ):
            own = name.replace(", ", "-").replace(" ", "-")
            text = extra.format(name=own, folder=folder / own)
            hubs[name] = MeasuredHub(folder, own, backend, SERVER, text)
            stack.push_async_callback(hubs[name].destroy)
        await asyncio.gather(*(hub.start() for hub in hubs.values()))
        async with asyncio.timeout(120):
            while not (await templates(backend))["ready"]:
                await asyncio.sleep(0.2)
        port = free_port()
        stack.callback(tornado.web.Application([("(.*)", HubHandler)]).listen(port, "127.0.0.1").stop)
        ways = {name: partial(one_start, hub, visitors) for name, hub in hubs.items()}
        ways["bare"] = partial(one_bare, f"http://127.0.0.1:{port}", folder)
        warm = WARM_IN_QUICK if part.quick else often
        await asyncio.gather(*(ways[name]() for name in warm), return_exceptions=True)
        await part.in_turns(STARTS, ways, 1, warm_up=0)
        few = {name: ways[name] for name in often}
        await part.in_turns(STARTS, few, rounds - 1, warm_up=0)
        found = await templates(backend)
        started = len(part.figures[STARTS, "prefork, wall"].samples)
        if found["executed"] or found["cold"] or found["forked"] < started:
            part.failed(STARTS, "prefork, wall", f"not all of them were forked: {found}")


async def templates(backend: RunningBackend) -> dict[str, float]:
    """Return whether servers are forked from a template, and how many were started in which way."""
    told = await Rest(backend.url, backend.admin_token).get("/metrics")
    ways = {
        how: told["counters"][f'hubfleet_template_tasks_total{{how="{how}",kind="server"}}']["count"]
        for how in ("forked", "executed", "cold")
    }
    return {"ready": told["gauges"]['hubfleet_template_ready{kind="server"}']["value"], **ways}


_numbers = iter(range(1 << 30))


async def one_start(hub: MeasuredHub, visitors: Visitors) -> Mapping[str, float]:
    """Let somebody new log in and start a server."""
    name = f"person{next(_numbers)}"
    await hub.noted()
    try:
        seconds = await Visitor(visitors, hub.url, name).start(OLD_OPTIONS if "jmarathon" in hub.name else {})
    except RuntimeError as error:
        # The error of jmarathonspawner's client has the title of a refusal; the reasons are in its log.
        told = last_line(hub.log, "Got HTTP 422" if hub.name == OLD_AS_IT_COMES else "Error: ")
        raise RuntimeError(f"{told} ({error})") from None
    used = cpu_seconds(hub.last_process(name))
    noted = await hub.noted()
    await hub.stop_server(name)
    return {"wall": seconds, "cpu of the server": used, "cpu of the hub": noted.cpu}


async def one_bare(hub_url: str, folder: Path) -> Mapping[str, float]:
    """Start a server without a hub."""
    name, port = f"person{next(_numbers)}", free_port()
    environment = base_environment(os.environ, None) | server_environment(hub_url, name, port)
    seconds, pid = await bare_start(environment, port, name, str(folder / "bare" / name))
    process = psutil.Process(pid)
    used = cpu_seconds(process)
    process.kill()
    return {"wall": seconds, "cpu of the server": used}


# -- the hub's own cost, with stub servers -----------------------------------------------


async def storms(part: Part, folder: Path, rounds: int, batches: int, people: int, batch: int) -> None:
    """Measure the hub's processor time for a start, and storms of logins."""
    part.goal(COST, "ours above do-nothing", at_most=0.003)
    part.ratio(COST, "ours, cpu", "do-nothing, cpu", to_a_limit=True)
    for name in ("ours",) if part.quick else ("ours", LATE):
        group = f"a storm of {people} logins, {name}"
        part.goal(group, "the loop's gap (wall), p99", at_most=0.05)
        for figure in ("the loop's gap (wall), p99", "the loop's own part of a gap, p99", "cpu of the hub"):
            limit = f"a storm of {people} logins, do-nothing", figure
            part.ratio_between((group, figure), limit, to_a_limit=True)
    if part.quick:
        part.cut(f"a storm of {people} logins, {LATE}: in the long run only")
    async with AsyncExitStack() as stack:
        backend, nothing = await stub_site(stack, folder)
        delay = Delay(backend.port, 2.0)
        late_url = await delay.open()
        stack.push_async_callback(delay.close)
        hubs = {}
        for name, extra, url in (
            ("do-nothing", nothing, ""),
            ("ours", MARATHON.format(name="ours"), ""),
            *([] if part.quick else [(LATE, MARATHON.format(name="late"), late_url)]),
        ):
            folder_name = name.split(",")[0] + ("-late" if url else "")
            hubs[name] = MeasuredHub(folder, folder_name, backend, ["server"], extra, url)
            stack.push_async_callback(hubs[name].destroy)
        await asyncio.gather(*(hub.start() for hub in hubs.values()))
        costs = {name: partial(one_batch, hubs[name], batch) for name in ("do-nothing", "ours")}
        await part.in_turns(COST, costs, batches)
        ours = part.figures[COST, "ours, cpu"].samples
        least = statistics.median(part.figures[COST, "do-nothing, cpu"].samples)
        part.add(COST, "ours above do-nothing", [seconds - least for seconds in ours])
        group = f"a storm of {people} logins"
        ways = {name: partial(one_storm, part, name, hub, people) for name, hub in hubs.items()}
        await part.in_turns(group, ways, 1, warm_up=0)
        ways.pop(LATE, None)  # takes longest, and tells the same each time
        await part.in_turns(group, ways, rounds - 1, warm_up=0)


async def one_batch(hub: MeasuredHub, count: int) -> Mapping[str, float]:
    """Start servers for some new users over the hub's API; return its processor time for one."""
    names = [f"person{next(_numbers)}" for _ in range(count)]
    turn = asyncio.Semaphore(AT_ONCE)
    await hub.order("POST", "/users", {"usernames": names})

    async def start(name: str) -> None:
        async with turn:
            await hub.order("POST", f"/users/{name}/server")

    await hub.noted()
    begun = time.perf_counter()
    await asyncio.gather(*(start(name) for name in names))
    seconds = time.perf_counter() - begun
    noted = await hub.noted()
    await asyncio.gather(*(hub.stop_server(name) for name in names))
    return {"cpu": noted.cpu / count, "wall": seconds / count}


async def one_storm(part: Part, kind: str, hub: MeasuredHub, people: int) -> Mapping[str, float]:
    """Let so many people log in and start a server at the same moment."""
    group = f"a storm of {people} logins, {kind}"
    visitors = Visitors()
    names = [f"person{next(_numbers)}" for _ in range(people)]
    used = time.process_time()
    await hub.noted()
    begun = time.perf_counter()
    found = await asyncio.gather(
        *(Visitor(visitors, hub.url, name).start() for name in names), return_exceptions=True
    )
    seconds = time.perf_counter() - begun
    noted = await hub.noted()
    own = time.process_time() - used
    visitors.close()
    taken = [one for one in found if isinstance(one, float)]
    for error in found:
        if isinstance(error, BaseException):
            part.failed(group, "login to ready", error)
    if taken:
        part.add(group, "login to ready", taken)
    part.add(group, "starts", len(taken) / seconds, "1/s")
    part.add(group, "the loop's gap (wall), p99", quantile(noted.late, 0.99))
    part.add(group, "the loop's gap (wall), longest", max(noted.late))
    part.add(group, "the loop's own part of a gap, p99", quantile(noted.busy, 0.99))
    part.add(group, "the loop's own part of a gap, longest", max(noted.busy))
    part.add(group, "JupyterHub's metric of the loop, p99 at most", noted.metric_p99)
    part.add(group, "cpu of the hub", noted.cpu / people)
    part.add(group, "memory of the hub", noted.rss / (1 << 20), "MiB")
    part.add(group, "cpu of the load's generator", own / people)
    part.add(group, "from the first login to the last server", seconds)
    if kind == LATE:  # each stop would take as long, and nobody measures it; it has no second storm
        await hub.destroy()
    else:
        await asyncio.gather(*(hub.stop_server(name) for name in names))
    return {}


async def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--only", choices=list(SHARES), help="a part of it")
    given = parser.parse_args()
    part = Part.of("spawner", __doc__, given)
    with tempfile.TemporaryDirectory(prefix="bench-spawner-") as place:
        for name, share in (SHARES_IN_QUICK if part.quick else SHARES).items():
            if given.only not in (None, name):
                continue
            folder = Path(place) / name
            folder.mkdir()
            async with part.phase(name, share):
                await measure(part, name, folder)
    part.end()


async def measure(part: Part, name: str, folder: Path) -> None:
    """Measure one of the three."""
    if name == "starts":
        await starts(part, folder, *((3, OFTEN_IN_QUICK) if part.quick else (10, OFTEN)))
    elif name == "storms":
        sizes = (3, 3, 20, 10) if part.quick else (3, 3, 200, 20)
        await storms(part, folder, *sizes)
    else:
        await polls(part, StubBackend(folder), [1000] if part.quick else [1000, 5000])


if __name__ == "__main__":
    run(main)

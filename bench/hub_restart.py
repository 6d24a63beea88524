"""How much longer a hub takes to restart when servers run. Run by ``make bench``.

Method: a real hub, proxy and backend. The servers are real apps with real processes, which only sleep; one
process listens on all their ports in their stead, so that several hundred fit on a small machine. The first
is started by the hub; the others are copies of it, in the hub's database and in the backend. The hub
is killed and forked anew, and the clock runs until its API answers, and until it says that all servers are
ready again. The same without servers is what it is compared with; and a hub whose spawner does nothing, with
all servers at one address, shows what JupyterHub itself takes for them. Both hubs are killed in turns, in an
order of chance. They look after all servers before they answer (`init_spawners_timeout`), so that nothing of
it is done unseen. On a machine that others use the hub's processor seconds say more than the clock.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import requests
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import RunningBackend
from machine import cpu_of
from measuring import Part, arguments, run
from ports import backend_ports, free_port
from prepared import copy_server
from warm_hub import WarmHub

from hubfleet.api.status import Event
from hubfleet.api.watcher import Watcher

SLEEPS = ["/bin/sh", "-c", "exec sleep 1000000", "server"]
OURS, LIMIT = "ours", "do-nothing"
LIKE = "person0"  # of whose server the others are copies
GROUP = "a hub's restart with {count} servers"
CPU = "its processor time until then"
LONGER = f"{OURS}, longer than without servers"
EXTRA = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import hub_probe
c.JupyterHub.extra_handlers = [("/bench/servers", hub_probe.ServersHandler)]
c.JupyterHub.init_spawners_timeout = 120
c.Spawner.start_timeout = c.Spawner.http_timeout = 120
c.MarathonSpawner.app_prefix = c.MarathonSpawner.hub_id = {OURS!r}
"""

NOTHING = """
from jupyterhub.spawner import Spawner

class Nothing(Spawner):
    async def start(self):
        return "http://127.0.0.1:{port}"

    async def stop(self, now=False):
        pass

    async def poll(self):
        return None if self.server else 0

c.JupyterHub.spawner_class = Nothing
"""


class Anything(RequestHandler):
    """Answers as a server does, as far as the hub looks."""

    def get(self) -> None:
        """Answer."""
        self.finish({"version": "0"})


def listen_for_all(watcher: Watcher, server: HTTPServer) -> set[int]:
    """Listen on the port of each task as soon as there is one; return the ports, which become more."""
    ports: set[int] = set()

    def hear(app_id: str, event: Event | None) -> None:
        app = watcher._apps.get(app_id)
        for task in app.tasks if app else ():
            if task.running and task.ports and task.ports[0] not in ports:
                ports.add(task.ports[0])
                server.add_sockets(bind_sockets(task.ports[0], "127.0.0.1"))

    watcher.observe(hear)
    return ports


class Site:
    """Both hubs, the backend of one of them, and somebody who answers for their servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.backend = RunningBackend(folder / "state", backend_ports())
        self.hubs: dict[str, WarmHub] = {}

    async def open(self, stack: AsyncExitStack) -> None:
        """Start all of it."""
        stack.push_async_callback(self.backend.destroy)
        await self.backend.start()
        watcher = Watcher(self.backend.client)
        watcher.start()
        stack.push_async_callback(watcher.close)
        server, port = HTTPServer(Application([(".*", Anything)])), free_port()
        server.listen(port, "127.0.0.1")
        self.ports = listen_for_all(watcher, server)
        for kind, extra in ((LIMIT, NOTHING.format(port=port)), (OURS, "")):
            self.hubs[kind] = WarmHub(self.folder / kind, self.backend, SLEEPS, EXTRA + extra)
            stack.push_async_callback(self.hubs[kind].destroy)
        await asyncio.gather(*(hub.start() for hub in self.hubs.values()))

    async def have(self, kind: str, count: int) -> None:
        """Have so many servers at a hub that has none: one is started, the others are its copies."""
        hub, backend = self.hubs[kind], self.backend if kind == OURS else None
        for path in (f"/users/{LIKE}", f"/users/{LIKE}/server"):
            answer = await hub.ask("POST", path, timeout=300)
            assert answer.status_code in (201, 202), answer.text
        await all_ready(hub, 1)
        await hub.kill()  # it would remove apps of servers that it does not know
        names = [f"person{number}" for number in range(1, count)]
        await copy_server(hub.folder, LIKE, names, backend, f"{OURS}/{LIKE}/notebook")
        while backend is not None and len(self.ports) < count:
            await asyncio.sleep(0.05)
        await hub.start(seconds=180)
        await all_ready(hub, count)


async def all_ready(hub: WarmHub, count: int) -> None:
    """Return when the hub says that so many servers are ready.

    Its API tells of two hundred users at most, and takes a second of the hub for them.
    """
    url = hub.api.removesuffix("/api") + "/bench/servers"
    while True:
        answer = await asyncio.to_thread(requests.get, url, timeout=60)
        if answer.ok and answer.json()["ready"] == count:
            return
        await asyncio.sleep(0.05)


async def restart(hub: WarmHub, count: int) -> Mapping[str, float]:
    """Kill and start the hub; the clock runs until it answers, and until all servers are ready again."""
    await hub.kill()
    begun = time.monotonic()
    await hub.start(seconds=180)
    answers = time.monotonic() - begun
    await all_ready(hub, count)
    assert hub.pid is not None
    return {"it answers": answers, "all are ready": time.monotonic() - begun, CPU: cpu_of(hub.pid)}


def declare(part: Part, servers: int) -> None:
    """Say what is compared."""
    for count in (0, servers):
        for what in ("all are ready", CPU):
            part.ratio(GROUP.format(count=count), f"{OURS}, {what}", f"{LIMIT}, {what}", to_a_limit=True)
    part.goal(GROUP.format(count=servers), LONGER, at_most=2)


async def measure(part: Part, servers: int, times: int) -> None:
    """Measure both spawners in turns, with no servers and with so many."""
    declare(part, servers)
    async with AsyncExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-restart-"))
        site = Site(Path(place))
        await site.open(stack)
        for count, share in {0: 0.15, servers: 0.85}.items():
            group = GROUP.format(count=count)
            async with part.phase(group, share):
                for kind in site.hubs if count else ():
                    await site.have(kind, count)
                ways = {kind: partial(restart, hub, count) for kind, hub in site.hubs.items()}
                await part.in_turns(group, ways, times, warm_up=0)  # both were started before
    least, most = (
        part.figures.get((GROUP.format(count=count), f"{OURS}, all are ready")) for count in (0, servers)
    )
    if least and most:
        without = statistics.median(least.samples)
        part.add(most.group, LONGER, [seconds - without for seconds in most.samples])


async def main() -> None:
    """Read the arguments, and measure."""
    parser = arguments(__doc__)
    parser.add_argument("--servers", type=int)
    parser.add_argument("--times", type=int)
    given = parser.parse_args()
    part = Part.of("hub_restart", __doc__, given)
    await measure(
        part, given.servers or (50 if given.quick else 500), given.times or (3 if given.quick else 5)
    )
    part.end()


if __name__ == "__main__":
    run(main)

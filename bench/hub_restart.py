"""How much longer a hub takes to restart when servers run. Run by ``make bench``.

Method: a real hub, proxy and backend. The servers are real apps with real processes, which only sleep; one
process listens on all their ports in their stead, so that several hundred fit on a small machine. The hub
is killed and forked anew, and the clock runs until its API answers, and until it says that all servers are
ready again. The same without servers, on the same machine and database, is what it is compared with; and a
spawner that does nothing, whose servers are all at one address, shows what JupyterHub itself takes for them.
On a machine that others use the hub's CPU seconds say more than the clock.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import psutil
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import WarmBackend
from measuring import Part, arguments, run
from ports import free_port
from warm_hub import WarmHub

from hubfleet.api.status import Event
from hubfleet.api.watcher import Watcher

SLEEPS = ["/bin/sh", "-c", "exec sleep 1000000", "server"]
AT_ONCE = 16
EXTRA = "c.JupyterHub.init_spawners_timeout = 120\nc.Spawner.start_timeout = c.Spawner.http_timeout = 120"

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


def listen_for_all(watcher: Watcher, server: HTTPServer) -> None:
    """Listen on the port of each task as soon as there is one."""
    ports: set[int] = set()

    def hear(app_id: str, event: Event | None) -> None:
        app = watcher._apps.get(app_id)
        for task in app.tasks if app else ():
            if task.running and task.ports and task.ports[0] not in ports:
                ports.add(task.ports[0])
                server.add_sockets(bind_sockets(task.ports[0], "127.0.0.1"))

    watcher.observe(hear)


async def start_servers(hub: WarmHub, first: int, last: int) -> None:
    """Start a server for each of some users."""
    turn = asyncio.Semaphore(AT_ONCE)

    async def start(number: int) -> None:
        async with turn:
            await hub.ask("POST", f"/users/u{number}")
            answer = await hub.ask("POST", f"/users/u{number}/server", timeout=300)
            assert answer.status_code in (201, 202), answer.text

    await asyncio.gather(*(start(number) for number in range(first, last)))
    await all_ready(hub, last)


async def all_ready(hub: WarmHub, count: int) -> None:
    """Return when the hub says that so many servers are ready."""
    while True:
        answer = await hub.ask("GET", "/users?state=ready&limit=10000")
        ready = sum(bool(user["servers"].get("", {}).get("ready")) for user in answer.json())
        if ready == count:
            return
        await asyncio.sleep(0.05)


async def measure(part: Part, kind: str, hub: WarmHub, count: int, times: int) -> None:
    """Kill and start the hub; the clock runs until it answers, and until all servers are ready again."""
    group = f"a hub's restart with {count} servers"
    for _ in range(times):
        await hub.kill()
        begun = time.monotonic()
        await hub.start(seconds=180)
        part.add(group, f"{kind}: it answers", time.monotonic() - begun)
        await all_ready(hub, count)
        part.add(group, f"{kind}: all are ready", time.monotonic() - begun)
        used = psutil.Process(hub.pid).cpu_times()
        part.add(group, f"{kind}: its processor time until then", used.user + used.system)


async def main() -> None:
    """Measure with no servers, and with each of the numbers of them."""
    parser = arguments(__doc__)
    parser.add_argument("servers", type=int, nargs="*")
    parser.add_argument("--times", type=int)
    given = parser.parse_args()
    part = Part.of("hub_restart", __doc__, given)
    counts = sorted(given.servers or ([0, 50] if given.quick else [0, 100, 500]))
    for kind in ("nothing", "marathon"):
        await compare(part, kind, counts, given.times or (2 if given.quick else 3))
    for count in counts:
        for what in ("all are ready", "its processor time until then"):
            part.ratio(f"a hub's restart with {count} servers", f"marathon: {what}", f"nothing: {what}")
    part.end()


async def compare(part: Part, kind: str, counts: list[int], times: int) -> None:
    """Measure one spawner with some numbers of servers."""
    with tempfile.TemporaryDirectory() as place:
        port = free_port()
        backend = WarmBackend(Path(place) / "state", (25000, 26999))
        extra = EXTRA + (NOTHING.format(port=port) if kind == "nothing" else "")
        hub = WarmHub(Path(place) / "hub", backend, SLEEPS, extra)
        await asyncio.gather(backend.start(), hub.start())
        watcher = Watcher(backend.client)
        watcher.start()
        server = HTTPServer(Application([(".*", Anything)]))
        server.listen(port, "127.0.0.1")
        listen_for_all(watcher, server)
        try:
            running = 0
            for count in counts:
                await start_servers(hub, running, count)
                running = count
                await measure(part, kind, hub, count, times)
        finally:
            await watcher.close()
            await hub.destroy()
            await backend.destroy()


if __name__ == "__main__":
    run(main)

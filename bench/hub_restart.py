"""How much longer a hub takes to restart when servers run. Run by ``make bench``.

Method: a real hub, proxy and backend. The servers are real apps with real processes, which only sleep; one
process listens on all their ports in their stead, so that several hundred fit on a small machine. The hub
is killed and forked anew, and the clock runs until its API answers, and until it says that all servers are
ready again. The same without servers is what it is compared with; and a hub whose spawner does nothing, with
all servers at one address, shows what JupyterHub itself takes for them. Both hubs are killed in turns, in an
order of chance. On a machine that others use the hub's processor seconds say more than the clock.
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
from ports import free_port
from warm_hub import WarmHub

from hubfleet.api.status import Event
from hubfleet.api.watcher import Watcher

SLEEPS = ["/bin/sh", "-c", "exec sleep 1000000", "server"]
AT_ONCE = 16
GROUP = "a hub's restart with {count} servers"
CPU = "its processor time until then"
LONGER = "ours, longer than without servers"
EXTRA = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import hub_probe
c.JupyterHub.extra_handlers = [("/bench/servers", hub_probe.ServersHandler)]
c.JupyterHub.init_spawners_timeout = 120
c.Spawner.start_timeout = c.Spawner.http_timeout = 120
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


def declare(part: Part, counts: list[int]) -> None:
    """Say what is compared."""
    for count in counts:
        for what in ("all are ready", CPU):
            part.ratio(GROUP.format(count=count), f"ours, {what}", f"do-nothing, {what}", to_a_limit=True)
    part.goal(GROUP.format(count=counts[-1]), LONGER, at_most=2)


async def measure(part: Part, counts: list[int], times: int) -> None:
    """Measure both spawners in turns, with no servers and with each of the numbers of them."""
    declare(part, counts)
    async with AsyncExitStack() as stack:
        hubs = await hubs_of(stack)
        running = 0
        for count in counts:
            async with part.phase(GROUP.format(count=count), 1 / len(counts)):
                for hub in hubs.values():
                    await start_servers(hub, running, count)
                running = count
                ways = {kind: partial(restart, hub, count) for kind, hub in hubs.items()}
                await part.in_turns(GROUP.format(count=count), ways, times)
    least, most = (
        part.figures.get((GROUP.format(count=count), "ours, all are ready"))
        for count in (counts[0], counts[-1])
    )
    if least and most:
        without = statistics.median(least.samples)
        part.add(most.group, LONGER, [seconds - without for seconds in most.samples])


async def hubs_of(stack: AsyncExitStack) -> dict[str, WarmHub]:
    """Return a hub of each spawner, and have somebody who answers for their servers."""
    folder, port = (
        Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-restart-"))),
        free_port(),
    )
    backend = RunningBackend(folder / "state", (25000, 26999))
    stack.push_async_callback(backend.destroy)
    await backend.start()
    watcher = Watcher(backend.client)
    watcher.start()
    stack.push_async_callback(watcher.close)
    server = HTTPServer(Application([(".*", Anything)]))
    server.listen(port, "127.0.0.1")
    listen_for_all(watcher, server)
    hubs = {}
    for kind, extra in (("do-nothing", NOTHING.format(port=port)), ("ours", "")):
        hubs[kind] = WarmHub(folder / kind, backend, SLEEPS, EXTRA + extra)
        stack.push_async_callback(hubs[kind].destroy)
    await asyncio.gather(*(hub.start() for hub in hubs.values()))
    return hubs


async def main() -> None:
    """Read the arguments, and measure."""
    parser = arguments(__doc__)
    parser.add_argument("servers", type=int, nargs="*")
    parser.add_argument("--times", type=int)
    given = parser.parse_args()
    part = Part.of("hub_restart", __doc__, given)
    counts = sorted(given.servers or ([0, 50] if given.quick else [0, 500]))
    await measure(part, counts, given.times or (3 if given.quick else 5))
    part.end()


if __name__ == "__main__":
    run(main)

"""How much longer a hub takes to restart when servers run. Run by ``make bench-hub-restart``.

Method: a real hub, proxy and backend. The servers are real apps with real processes, which only sleep; one
process listens on all their ports in their stead, so that several hundred fit on a small machine. The hub
is killed and forked anew, and the clock runs until its API answers, and until it says that all servers are
ready again. The same without servers, on the same machine and database, is what it is compared with.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from warm_backend import WarmBackend
from warm_hub import WarmHub

from hubfleet.api.status import Event
from hubfleet.api.watcher import Watcher

SLEEPS = ["/bin/sh", "-c", "exec sleep 1000000", "server"]
AT_ONCE = 16
EXTRA = "c.JupyterHub.init_spawners_timeout = 120\nc.Spawner.start_timeout = c.Spawner.http_timeout = 120"


class Anything(RequestHandler):
    """Answers as a server does, as far as the hub looks."""

    def get(self) -> None:
        """Answer."""
        self.finish({"version": "0"})


def listen_for_all(watcher: Watcher) -> None:
    """Listen on the port of each task as soon as there is one."""
    server = HTTPServer(Application([(".*", Anything)]))
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


async def measure(hub: WarmHub, count: int, times: int) -> tuple[float, float]:
    """Kill and start the hub; return the medians of the seconds until it answers, and until all is ready."""
    answers, ready = [], []
    for _ in range(times):
        await hub.kill()
        begun = time.monotonic()
        await hub.start(seconds=180)
        answers.append(time.monotonic() - begun)
        await all_ready(hub, count)
        ready.append(time.monotonic() - begun)
    return statistics.median(answers), statistics.median(ready)


async def main() -> None:
    """Measure with no servers, and with each of the numbers of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("servers", type=int, nargs="*", default=[0, 100, 500])
    parser.add_argument("--times", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        backend = WarmBackend(Path(place) / "state", (25000, 26999))
        hub = WarmHub(Path(place) / "hub", backend, SLEEPS, EXTRA)
        await asyncio.gather(backend.start(), hub.start())
        watcher = Watcher(backend.client)
        watcher.start()
        listen_for_all(watcher)
        try:
            running = 0
            print(f"{'servers':>8} {'answers':>10} {'all ready':>10}   (seconds after the start of the hub)")
            for count in sorted(arguments.servers):
                await start_servers(hub, running, count)
                running = count
                answers, ready = await measure(hub, count, arguments.times)
                print(f"{count:8} {answers:10.2f} {ready:10.2f}", flush=True)
        finally:
            await watcher.close()
            await hub.destroy()
            await backend.destroy()


if __name__ == "__main__":
    asyncio.run(main())

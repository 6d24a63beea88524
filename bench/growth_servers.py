"""How the cost of servers grows with their number on one hub. Run by ``make bench``.

Method: two real hubs, each with a proxy, at which 1, 10, 100, 1,000 and 5,000 servers run: one with ours and
a real backend whose driver starts nothing, one with a spawner that does nothing but name an address, which is
the limit: what it costs is JupyterHub's. One process answers at all addresses. Up to 100 the servers are
really started, over the hub's API and ten at a time, each size on top of the one before, and stay; their
users are made before the clock runs. So the figures of a start are those of the servers between two sizes.
Then each server is polled, and the hub is killed and started again. Above 100 the servers are copies of one
that was started, in the hub's database and in the backend, with which the killed hub is started; each is
polled, and the figures of a start are those of fifty more that are started on top, which count for the
memory, too. The backend checks the health of each server every 10 s: what it takes in a second in which
nothing starts is a figure of its own, and is not counted as that of a start. Both hubs are alive all the time
and take turns in an order of chance. The loop's own part of a gap is its processor time between two wake-ups
of a probe; the whole gap, by the wall, is also what a busy machine adds to.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from figures import quantile
from growing import MIB, Growth, growth_of
from limits import empty_requests
from machine import cpu_of
from measured_hub import MARATHON, PATIENCE_SECONDS, MeasuredHub, Noted, StubBackend, stub_site
from measuring import run
from prepared import copy_server

GROUP = "servers on one hub"
OURS, LIMIT = "ours", "do-nothing"
AT_ONCE = 10
BATCHES = 5
LEAST_BATCH = 5  # servers, of which the processor time can be told
USERS_AT_ONCE = 100
MOST_STARTED, ON_TOP = 100, 50
REST_SECONDS = 10.0  # in which each server is checked once; those that came at once are checked at once
AT_REST = 0.4  # of a processor, twice what the health checks of 5,000 servers take
LOOK_SECONDS = 0.5
LIKE = "person0"  # of whose server the copies are


class Climber:
    """A hub, how many servers it has, and who else works for it."""

    def __init__(self, part: Growth, series: str, hub: MeasuredHub, backend: StubBackend | None) -> None:
        self.part, self.series, self.hub, self.backend, self.count = part, series, hub, backend, 0
        helpers = {"the proxy": hub._proxy.pid, "the load's generator": os.getpid()}
        if backend is not None:
            assert backend.process is not None
            helpers["the backend"] = backend.process.pid
        self.helpers = helpers
        self.resting = 0.0
        """What the backend takes in a second in which nothing starts."""

    def grew(
        self, name: str, size: int, samples: float | list[float], unit: str = "s", fair: float = 0
    ) -> None:
        """Keep samples of this hub."""
        self.part.grew((GROUP, name, self.series), size, samples, unit, fair)

    async def warm_up(self) -> None:
        """Start and stop a server."""
        await self.hub.order("POST", "/users", {"usernames": ["warm"]})
        await self.hub.order("POST", "/users/warm/server")
        await self.hub.stop_server("warm")

    async def to(self, size: int) -> None:
        """Have so many servers, and measure all of it."""
        if size > MOST_STARTED:
            await self.copy(size)
            await self.restart(size)
            await self.poll(size)
            await self.at_rest()
            await self.rest(size)
            await self.start(size, self.count + ON_TOP)
        else:
            await self.start(size, size)
            await self.rest(size)
            await self.poll(size)
            await self.restart(size)

    async def copy(self, size: int) -> None:
        """Have so many servers, the missing ones as copies, when the hub is started again."""
        names = [f"person{number}" for number in range(self.count, size)]
        self.part.progress = f"{len(names):,} copies of a server were being made"
        await self.hub.kill()  # it would remove apps of servers that it does not know
        await copy_server(self.hub.folder, LIKE, names, self.backend, f"{self.series}/{LIKE}/notebook")
        self.count = size

    async def poll(self, size: int) -> None:
        """Poll all servers."""
        self.part.progress = "all servers were there; they were being polled"
        self.grew("processor time of one poll", size, (await self.hub.polls())["cpu"])

    async def at_rest(self, seconds: float = 30) -> None:
        """Return when the hub and who works for it have nothing to do any more, or so long after the routes.

        A hub that was started looks at its routes and at its servers' apps for a while. To the copies there
        are none yet: it answers while it makes them, one by one, which takes it some 2 ms each.
        """
        self.part.progress = "the proxy was being told of the copies"
        while len(await self.hub.routes()) < self.count:
            await asyncio.sleep(0.5)
        ends_at, used = time.monotonic() + seconds, -math.inf
        pids = [self.hub.pid or 0, *(pid for name, pid in self.helpers.items() if pid != os.getpid())]
        while time.monotonic() < ends_at:
            before, used = used, sum(map(cpu_of, pids))
            if used - before < AT_REST * LOOK_SECONDS:
                return
            await asyncio.sleep(LOOK_SECONDS)

    async def rest(self, size: int) -> None:
        """Do nothing, and measure what the servers that there are cost the backend."""
        if size < MOST_STARTED or "the backend" not in self.helpers:
            return
        self.part.progress = "all servers were there, and the backend's rest was measured"
        pid = self.helpers["the backend"]
        begun, used = time.monotonic(), cpu_of(pid)
        await asyncio.sleep(REST_SECONDS)
        self.resting = (cpu_of(pid) - used) / (time.monotonic() - begun)
        self.grew("processor time of the backend, a second at rest", size, self.resting, fair=1)

    async def start(self, size: int, most: int) -> None:
        """Start the servers that are missing, in some batches, each of which is a sample."""
        names = [f"person{number}" for number in range(self.count, most)]
        self.part.progress = "its users were being made"
        for first in range(0, len(names), USERS_AT_ONCE):
            await self.hub.order("POST", "/users", {"usernames": names[first : first + USERS_AT_ONCE]})
        batch = max(LEAST_BATCH, -(-len(names) // BATCHES))
        begun, used = time.monotonic(), {name: cpu_of(pid) for name, pid in self.helpers.items()}
        for first in range(0, len(names), batch):
            noted = await self._start_batch(size, names[first : first + batch])
        self.grew("memory of the hub (RSS)", size, noted.rss / MIB, "MiB", fair=1)
        if self.resting:  # until all that is subtracted has been there
            await asyncio.sleep(max(0.0, begun + REST_SECONDS - time.monotonic()))
        for name, pid in self.helpers.items():
            spent = cpu_of(pid) - used[name]
            if name == "the backend":
                spent -= self.resting * (time.monotonic() - begun)
            self.grew(f"processor time of {name} for a start", size, max(0.0, spent) / len(names))

    async def _start_batch(self, size: int, names: list[str]) -> Noted:
        turn = asyncio.Semaphore(AT_ONCE)

        async def start(name: str) -> None:
            async with turn:
                await self.hub.order("POST", f"/users/{name}/server")
            self.count += 1
            self.part.progress = f"{self.count:,} servers were there"

        await self.hub.noted()
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as starts:
            for name in names:
                starts.create_task(start(name))
        seconds = time.perf_counter() - begun
        noted = await self.hub.noted()
        self.grew("starts", size, len(names) / seconds, "1/s")
        self.grew("processor time of the hub for a start", size, noted.cpu / len(names))
        self.grew("the loop's gap (wall), p99", size, quantile(noted.late, 0.99))
        self.grew("the loop's gap (wall), longest", size, max(noted.late))
        self.grew("the loop's own part of a gap, longest", size, max(noted.busy))
        return noted

    async def restart(self, size: int) -> None:
        """Kill the hub, and start it again."""
        self.part.progress = "the hub was being started with all servers"
        await self.hub.kill()
        begun = time.perf_counter()
        await self.hub.start(seconds=PATIENCE_SECONDS)
        self.grew("restart: it answers", size, time.perf_counter() - begun, fair=1)
        while (ready := await self.hub.ready()) < self.count:
            self.part.progress = f"the hub was started again, and {ready:,} of {self.count:,} were ready"
            await asyncio.sleep(0.1)
        self.grew("restart: all are ready", size, time.perf_counter() - begun, fair=1)
        assert self.hub.pid is not None
        used = cpu_of(self.hub.pid)
        self.grew("restart: processor time of the hub", size, used, fair=1)


async def measure(part: Growth, folder: Path, sizes: list[int]) -> None:
    """Climb with both hubs."""
    async with AsyncExitStack() as stack:
        empty = await empty_requests(AT_ONCE, 1000)
        name = "processor time of the hub for a start"
        part.line(GROUP, name, "a request to an empty handler", [empty["cpu"]])
        backend, nothing = await stub_site(stack, folder)
        ways = {}
        for series, extra in ((LIMIT, nothing), (OURS, MARATHON.format(name="ours"))):
            hub = MeasuredHub(folder, series, backend, ["server"], extra)
            stack.push_async_callback(hub.destroy)
            await hub.start()
            climber = Climber(part, series, hub, backend if series == OURS else None)
            await climber.warm_up()
            ways[series] = climber.to
        await part.climb(GROUP, ways, sizes)


async def main() -> None:
    part, sizes = growth_of("growth_servers", __doc__, [1, 10, 30], [1, 10, 100, 1000, 5000])
    for name in (
        "processor time of the hub for a start",
        "the loop's own part of a gap, longest",
        "memory of the hub (RSS)",
        "processor time of one poll",
        "restart: processor time of the hub",
    ):
        part.compare(GROUP, name, OURS, LIMIT, to_a_limit=True)
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as place:
        await measure(part, Path(place), sizes)
    part.end()


if __name__ == "__main__":
    run(main)

"""How the cost of apps grows with their number on one backend. Run by ``make bench``.

Method: a real backend with 10, 100, 1,000 and 10,000 apps of one task each. Its driver starts nothing, so
that the tasks run as far as the backend can know, and cost no process. The apps are made by a request each,
over four connections, each size on top of the one before; so the figures of making one are those of the apps
between two sizes. Of 10,000 only the last thousand are made so, and the others before by a request for five
hundred, which costs less. (The most deployments at once, 500 if nothing else is said, is raised for that.)
Beside them is the least that it could cost: an empty handler and two commits of SQLite, as an app is written
before the answer and its task before the start. Then all apps are listed, beside what Python takes to write
the same list as JSON; one is read; and the backend is killed, and started again, until it tells of all tasks
that they run, beside what SQLite takes to read all rows of its database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from growing import Growth, growth_of
from limits import commits_of, empty_requests
from measuring import run
from requesting import Connection, latencies, until

from backend import Backend

GROUP = "apps on one backend"
OURS = "ours"
CONNECTIONS = 4
MOST_ONE_BY_ONE, AT_ONCE = 1000, 500
BATCHES = 5
LISTS = 5
READS = 50


class Apps:
    """The backend, and how many apps it has."""

    def __init__(self, part: Growth, backend: Backend) -> None:
        self.part, self.backend, self.count = part, backend, 0

    def grew(
        self, name: str, size: int, samples: float, unit: str = "s", fair: float = 0.0, series: str = OURS
    ) -> None:
        """Keep a sample."""
        self.part.grew((GROUP, name, series), size, samples, unit, fair)

    async def to(self, size: int) -> None:
        """Have so many apps, and measure all of it."""
        for first in range(self.count, size - MOST_ONE_BY_ONE, AT_ONCE):
            self.count = min(first + AT_ONCE, size - MOST_ONE_BY_ONE)
            await self.make_at_once(size, range(first, self.count))
        batch = max(1, -(-(size - self.count) // BATCHES))
        for first in range(self.count, size, batch):
            await self.make(size, range(first, min(size, first + batch)))
        self.count = size
        self.part.progress = "all were made; they were being listed"
        await self.read(size)
        for _ in range(LISTS):
            await self.list(size)
        self.grew("memory of the backend (PSS)", size, self.backend.memory(), "MiB", fair=1)
        self.part.progress = "all were made and listed; the backend was being started again"
        await self.recover(size)

    async def make(self, size: int, numbers: Sequence[int]) -> None:
        """Make some apps, and return when all of them run."""
        self.part.progress = f"{numbers[0]:,} of {size:,} were made"
        used, begun = self.backend.cpu(), time.perf_counter()
        found = await latencies(CONNECTIONS, len(numbers), self.backend.port, lambda n: _order(numbers[n]))
        self.grew("made, until the answer", size, statistics.median(found))
        await self.all_run()
        count = len(numbers)
        self.grew("made and running", size, count / (time.perf_counter() - begun), "1/s")
        self.grew("processor time of one, made and running", size, (self.backend.cpu() - used) / count)

    async def make_at_once(self, size: int, numbers: Sequence[int]) -> None:
        """Make some apps by one request, and return when all of them run."""
        self.part.progress = f"{numbers[0]:,} of {size:,} were made"
        connection = await Connection(self.backend.port).open()
        apps = [_order(number)[2] for number in numbers]
        status, answer = await connection.ask("PUT", "/v2/apps", apps)
        assert status == 200, answer
        connection.writer.close()
        await self.all_run()

    async def all_run(self) -> None:
        """Return when there is no deployment any more."""
        connection = await Connection(self.backend.port).open()

        async def none() -> bool:
            return json.loads((await connection.ask("GET", "/v2/deployments"))[1]) == []

        await until(none)
        connection.writer.close()

    async def read(self, size: int) -> None:
        """Read one app, some times."""
        connection = await Connection(self.backend.port).open()
        used = self.backend.cpu()
        for number in range(READS):
            status, _ = await connection.ask("GET", f"/v2/apps/grown/a{number * 7919 % size}")
            assert status == 200, status
        self.grew("processor time of one, read", size, (self.backend.cpu() - used) / READS)
        connection.writer.close()

    async def list(self, size: int) -> None:
        """List all, while others ask for little."""
        connection, other = [await Connection(self.backend.port).open() for _ in range(2)]
        waits = [0.0]
        used, begun = self.backend.cpu(), time.perf_counter()
        listing = asyncio.create_task(connection.ask("GET", "/v2/apps"))
        while not listing.done():
            asked = time.perf_counter()
            await other.ask("GET", "/ping")
            waits.append(time.perf_counter() - asked)
        _, body = await listing
        self.grew("all of them listed", size, time.perf_counter() - begun, fair=1)
        self.grew("processor time of all of them, listed", size, self.backend.cpu() - used, fair=1)
        self.grew("the longest wait of a ping while they are listed", size, max(waits))
        apps = json.loads(body)["apps"]
        assert sum(app["tasksRunning"] for app in apps) == size, "not all of them run"
        used = time.thread_time()
        json.dumps({"apps": apps})
        spent = time.thread_time() - used
        self.grew("processor time of all of them, listed", size, spent, fair=1, series="json.dumps (limit)")
        for each in (connection, other):
            each.writer.close()

    async def recover(self, size: int) -> None:
        """Kill the backend, and start it again."""
        self.backend.kill()
        used = time.thread_time()
        rows = _rows(self.backend.state / "backend.sqlite")
        limit = time.thread_time() - used
        assert rows >= size, rows
        begun = time.perf_counter()
        await self.backend.start()
        self.grew("started again: it answers", size, time.perf_counter() - begun, fair=1)
        connection = await Connection(self.backend.port).open()
        _, body = await connection.ask("GET", "/v2/apps")
        self.grew("started again: it has told of all", size, time.perf_counter() - begun, fair=1)
        running = sum(app["tasksRunning"] for app in json.loads(body)["apps"])
        assert running == size, f"{running} of {size} tasks run after the backend was started again"
        name = "started again: processor time"
        self.grew(name, size, self.backend.cpu(), fair=1)
        self.grew(name, size, limit, fair=1, series="reading all rows (limit)")
        connection.writer.close()


def _order(number: int) -> tuple[str, str, dict[str, object]]:
    app = {"id": f"/grown/a{number}", "cmd": "server", "cpus": 0.01, "mem": 1, "portDefinitions": []}
    return "POST", "/v2/apps", app


def _rows(path: Path) -> int:
    """Read all rows of a database; return how many there are."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return sum(len(database.execute(f'SELECT * FROM "{name}"').fetchall()) for name in tables)


async def limits(part: Growth, folder: Path) -> None:
    """Measure what stands beside an app that is made."""
    rounds = [await empty_requests(CONNECTIONS, 1000) for _ in range(3)]
    commit = statistics.median(commits_of(folder / "limit.sqlite", 1000))
    wall = [CONNECTIONS / one["rate"] + 2 * commit for one in rounds]
    part.line(GROUP, "made, until the answer", "an empty handler, two commits", wall)
    cpu = [one["cpu"] + 2 * commit for one in rounds]
    part.line(GROUP, "processor time of one, made and running", "the processor time of that", cpu)
    cpu = [one["cpu"] for one in rounds]
    part.line(GROUP, "processor time of one, read", "that of an empty handler", cpu)


async def main() -> None:
    part, sizes = growth_of("growth_apps", __doc__, [10, 100, 1000], [10, 100, 1000, 10_000])
    name = "processor time of all of them, listed"
    part.compare(GROUP, name, OURS, "json.dumps (limit)", to_a_limit=True)
    name = "started again: processor time"
    part.compare(GROUP, name, OURS, "reading all rows (limit)", to_a_limit=True)
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as place:
        folder = Path(place)
        await limits(part, folder)
        program, settings = Path(__file__).with_name("stub_backend.py"), folder / "backend.py"
        settings.write_text("c.Backend.max_deployments = 100_000\n")
        backend = Backend(folder / "state", [str(program)], [f"--config={settings}"])
        try:
            await backend.start()
            await part.climb(GROUP, {OURS: Apps(part, backend).to}, sizes)
        finally:
            backend.end_all()
    part.end()


if __name__ == "__main__":
    run(main)

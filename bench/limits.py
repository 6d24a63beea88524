"""The least that anybody could reach, which stands beside our figures. Run by ``make bench``.

Method: a *bare server* is ``jupyterhub-singleuser`` executed without a hub, until it answers. A *fork* is
made, and waited for, by a process that has imported nothing, and by one that has imported what a worker is;
an *execution* is of ``/bin/true``. An *empty handler* is tornado's, asked over connections that are kept. A
*commit* is a row of 1 kB in a database of SQLite with the settings of the backend's (write-ahead log,
``synchronous=NORMAL``), and with ``FULL``, which waits for the disk each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path

import psutil
import tornado.web
from bare_server import HubHandler, bare_start, server_environment
from machine import cpu_of
from measuring import Part, arguments, run
from requesting import Connection, free_port, latencies, until

from hubfleet.backend.service import base_environment

_EMPTY = """
import asyncio, sys, tornado.web
class Nothing(tornado.web.RequestHandler):
    def post(self): self.finish("{}")
async def main():
    tornado.web.Application([(".*", Nothing)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()
asyncio.run(main())
"""
_FORKS = """
import os, sys, time
for name in sys.argv[2:]:
    __import__(name)
for _ in range(int(sys.argv[1])):
    begun = time.perf_counter()
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    print(time.perf_counter() - begun)
"""


@contextlib.asynccontextmanager
async def empty_handler() -> AsyncIterator[tuple[int, int]]:
    """Have a process whose tornado handler does nothing, while within; gives its port and its id."""
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _EMPTY, str(port)])
    try:
        await until(partial(_answers, port))
        yield port, process.pid
    finally:
        process.kill()
        process.wait()


async def _answers(port: int) -> bool:
    try:
        return (await (await Connection(port).open()).ask("POST", "/", {}))[0] == 200
    except OSError:
        return False


async def empty_requests(connections: int, count: int) -> dict[str, float]:
    """Return how many requests a second an empty handler answers, and its processor time for one."""
    async with empty_handler() as (port, pid):
        await latencies(connections, 50, port, _nothing)
        used, begun = cpu_of(pid), time.perf_counter()
        await latencies(connections, count, port, _nothing)
        seconds, cpu = time.perf_counter() - begun, cpu_of(pid) - used
    return {"rate": count / seconds, "cpu": cpu / count}


def _nothing(number: int) -> tuple[str, str, dict[str, int]]:
    return "POST", "/", {"id": number}


def commits_of(path: Path, count: int, synchronous: str = "NORMAL") -> list[float]:
    """Return the seconds of each of so many commits of a row of 1 kB to a new database of SQLite."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(f"PRAGMA synchronous={synchronous}")
        database.execute("CREATE TABLE t (id TEXT, body TEXT)")
        found = []
        for number in range(count):
            begun = time.perf_counter()
            database.execute("INSERT INTO t VALUES (?, ?)", (str(number), "x" * 1000))
            found.append(time.perf_counter() - begun)
    return found


def forks_of(count: int, *imports: str) -> list[float]:
    """Return the seconds of each of so many forks, to their ends, of a process with these imports."""
    command = [sys.executable, "-c", _FORKS, str(count), *imports]
    return [float(line) for line in subprocess.check_output(command, text=True).split()]


async def bare_server(folder: Path, port: int) -> Mapping[str, float]:
    """Execute ``jupyterhub-singleuser``; return the seconds to its answer, and what it used."""
    server = free_port()
    name = f"person{server}"
    environment = base_environment(os.environ, None)
    environment |= server_environment(f"http://127.0.0.1:{port}", name, server)
    seconds, pid = await bare_start(environment, server, name, str(folder / name))
    process = psutil.Process(pid)
    used = process.cpu_times()
    process.kill()
    return {"wall": seconds, "cpu": used.user + used.system + used.children_user + used.children_system}


async def bare_servers(part: Part, folder: Path) -> None:
    """Measure servers without a hub."""
    port = free_port()
    hub = tornado.web.Application([("(.*)", HubHandler)]).listen(port, "127.0.0.1")
    try:
        ways = {"jupyterhub-singleuser": partial(bare_server, folder, port)}
        await part.in_turns("a bare server", ways, *((1, 0) if part.quick else (5, 1)))
    finally:
        hub.stop()


async def processes(part: Part, folder: Path) -> None:
    """Measure forks and executions."""
    count = count_of(part)
    kinds = {"a process with nothing": (), "a process with a worker's imports": ("distributed.worker",)}
    for name, imports in part.shuffled(kinds).items():
        part.add("a fork", f"of {name}", await asyncio.to_thread(forks_of, count, *imports))
    for _ in range(count):
        begun = time.perf_counter()
        subprocess.run(["/bin/true"], check=True)
        part.add("an execution", "of /bin/true", time.perf_counter() - begun)


async def answers_and_commits(part: Part, folder: Path) -> None:
    """Measure empty handlers and commits, in turns."""
    count = count_of(part)
    for round_ in range(3 if part.quick else 5):
        for connections in part.chance.sample((1, 50), k=2):
            found = await empty_requests(connections, 5 * count)
            group = f"an empty handler, {connections} at once"
            part.add(group, "requests", found["rate"], "1/s")
            part.add(group, "processor time", found["cpu"])
        for synchronous in part.chance.sample(("NORMAL", "FULL"), k=2):
            path = folder / f"{synchronous}{round_}.sqlite"
            part.add("one commit of SQLite", synchronous, commits_of(path, count, synchronous))


def count_of(part: Part) -> int:
    """Return how many small things make a sample."""
    return 100 if part.quick else 500


PHASES = {bare_servers: 0.6, processes: 0.15, answers_and_commits: 0.25}
"""And their shares of the time."""


async def main() -> None:
    given = arguments(__doc__).parse_args()
    part = Part.of("limits", __doc__, given)
    with tempfile.TemporaryDirectory(prefix="bench-limits-") as place:
        for phase, share in PHASES.items():
            async with part.phase(phase.__name__.replace("_", " "), share):
                await phase(part, Path(place))
    part.end()


if __name__ == "__main__":
    run(main)

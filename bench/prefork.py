"""What a warm template saves: starts and memory of servers and workers. Run by ``make bench``.

Method: the driver of processes starts the same command three ways, one after the other in turns whose order
is of chance, so that what else the machine does falls on all alike:

exec
    as without templates;
prefork
    from the launcher's template;
fork
    by nobody's rules: a process that has imported the program forks itself and calls its ``main``. What is
    between this and prefork is the price of being no different from exec; nothing forked can be faster.

A server is ``jupyterhub-singleuser`` in the spawner's own shell line, timed from the order until its address
answers 200 (a tornado handler plays the hub). A worker is ``dask worker`` in the line of `MarathonCluster`,
timed until it has registered with a scheduler in this process. On a machine with other work look at the
processor time, which is its own until then, first of all. Then the memory of `--workers` workers that
live at once, each way: RSS counts a page for every process that has it, PSS in parts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

import tornado.web
from bare_server import HubHandler, answered, server_environment
from distributed import Scheduler, SchedulerPlugin
from family import Family
from forker import Forker
from machine import cpu_of
from measuring import Part, arguments, run

from hubfleet.backend.drivers import TaskSpec
from hubfleet.backend.drivers.machine import find_free_ports
from hubfleet.backend.drivers.process import ProcessDriver
from hubfleet.backend.drivers.usage import proportional, resident
from hubfleet.backend.service import base_environment
from hubfleet.spawner.command import shell_line
from hubfleet.workers.build import WorkerOptions, build_app

MIB = 1 << 20
Start = Callable[[str], Awaitable[tuple[float, Callable[[], Awaitable[None]]]]]
WAYS = ("exec", "prefork", "fork")
KINDS = {"server": 0.55, "worker": 0.2}  # and their shares of the time
STARTS = "the start of a {kind}, from the order to its answer"
MEMORY = "memory of each of {count} workers"


class Arrivals(SchedulerPlugin):
    """Tells when a worker registers, by its name."""

    def __init__(self) -> None:
        self.expected: dict[str, asyncio.Event] = {}

    def add_worker(self, scheduler: Scheduler, worker: str) -> None:
        """Set the event of a worker."""
        if event := self.expected.get(str(scheduler.workers[worker].name)):
            event.set()


class Bench:
    """A driver with warm templates, and what its servers and workers speak to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0
        self.last_pid = 0
        self.starts: Counter[tuple[str, str]] = Counter()
        self.base = base_environment(os.environ, None)
        self.driver = ProcessDriver(
            folder / "state",
            port_range=(21000, 23000),
            warm=["server", "worker"],
            environment=self.base,
            enforce_memory=False,
        )
        self.arrivals = Arrivals()
        self.forkers: dict[str, Forker] = {}

    async def open(self) -> None:
        """Start all that is not timed."""
        await self.driver.open()
        [port] = await find_free_ports("127.0.0.1", 1, (23001, 23100), frozenset())
        self.hub_port = port
        tornado.web.Application([("(.*)", HubHandler)]).listen(port, "127.0.0.1")
        self.scheduler = await Scheduler(host="127.0.0.1", dashboard_address=":0", plugins=[self.arrivals])
        for kind, environment in (("server", self.base), ("worker", {**self.base, **_worker_variables()})):
            self.forkers[kind] = Forker(kind, environment)
            await asyncio.to_thread(self.forkers[kind].wait)
        while not all(template.ready for template in await self.driver.templates()):
            await asyncio.sleep(0.05)

    async def close(self) -> None:
        """End all that was started."""
        for forker in self.forkers.values():
            forker.end()
        await self.scheduler.close()
        await self.driver.close()
        Family(str(self.folder)).end()  # the launcher and its templates, which outlive the driver

    async def server(self, way: str) -> tuple[float, Callable[[], Awaitable[None]]]:
        """Start a server; return the seconds that it took, and how to end it."""
        [port] = await find_free_ports("127.0.0.1", 1, (22000, 23000), frozenset())
        name = f"user{self.count}"
        hub = f"http://127.0.0.1:{self.hub_port}"
        environment = server_environment(hub, name, port) | {"PORT0": str(port)}
        line = shell_line(["jupyterhub-singleuser", "--allow-root"], "127.0.0.1")
        words = ["jupyterhub-singleuser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
        begun = time.perf_counter()
        end = await self._start("server", way, line, words, environment)
        await answered(port, name)
        return time.perf_counter() - begun, end

    async def worker(self, way: str) -> tuple[float, Callable[[], Awaitable[None]]]:
        """Start a worker; return the seconds that it took, and how to end it."""
        ports = await find_free_ports("127.0.0.1", 2, (21000, 22000), frozenset())
        app = build_app("/bench", self.scheduler.address, WorkerOptions())
        name = f"worker{self.count}.bench"
        environment = {
            **{key: str(value) for key, value in app.env.items()},
            "HOST": "127.0.0.1",
            "PORT_WORKER": str(ports[0]),
            "PORT_DASHBOARD": str(ports[1]),
        }
        assert app.cmd is not None
        words = ["dask-worker", self.scheduler.address, "--no-nanny", "--no-dashboard", "--name", name]
        words += ["--host", "127.0.0.1", "--worker-port", str(ports[0]), "--nthreads", "1"]
        words += ["--dashboard-address", f"127.0.0.1:{ports[1]}", "--memory-limit", "400MiB"]
        words += [
            "--death-timeout",
            "60",
            "--local-directory",
            ".",
            "--preload",
            "hubfleet.workers.drain",
        ]
        event = self.arrivals.expected[name] = asyncio.Event()
        begun = time.perf_counter()
        end = await self._start("worker", way, app.cmd, words, environment)
        async with asyncio.timeout(60):
            await event.wait()
        return time.perf_counter() - begun, end

    async def _start(
        self, kind: str, way: str, line: str, arguments: list[str], environment: Mapping[str, str]
    ) -> Callable[[], Awaitable[None]]:
        task_id = f"{kind}{self.count}.bench"
        self.count += 1
        sandbox = self.folder / "state" / "sandboxes" / task_id
        home = self.folder / "homes" / task_id
        home.mkdir(parents=True)
        own = {
            "HOME": str(home),
            "MESOS_SANDBOX": str(sandbox),
            "MESOS_TASK_ID": task_id,
            "PWD": str(sandbox),
        }
        whole = {**self.base, **environment, **own}
        if way == "fork":
            return self._fork(kind, arguments, whole, home)
        spec = TaskSpec(task_id, ["/bin/sh", "-c", line], whole, sandbox, prefork=way == "prefork")
        self.last_pid = await self.driver.start(spec)
        self.starts[kind, way] += 1

        async def end() -> None:
            await self.driver.signal(task_id, signal.SIGKILL)
            async for exit_ in self.driver.exits():
                if exit_.task_id == task_id:
                    break
            await self.driver.forget(task_id)

        return end

    def _fork(
        self, kind: str, arguments: list[str], environment: Mapping[str, str], home: Path
    ) -> Callable[[], Awaitable[None]]:
        pid = self.last_pid = self.forkers[kind].fork(arguments, environment, str(home))

        async def end() -> None:
            os.kill(pid, signal.SIGKILL)

        return end

    async def check(self, kind: str) -> None:
        """Refuse figures of starts that were not what they are called."""
        for found in await self.driver.templates():
            if found.kind == kind and (found.forked, found.executed, found.cold) != (
                self.starts[found.kind, "prefork"],
                0,
                0,
            ):
                raise RuntimeError(f"not all that should have been was forked: {found}")

    async def memory(self, way: str, count: int) -> list[tuple[float, float]]:
        """Return RSS and PSS, in MiB, of each of many workers that live at once."""
        ends, pids = [], []
        for _ in range(count):
            _, end = await self.worker(way)
            ends.append(end)
            pids.append(self.last_pid)
        await asyncio.sleep(1)
        found = [(resident(pid) / MIB, (proportional(pid) or 0) / MIB) for pid in pids]
        for end in ends:
            await end()
        return found


def _worker_variables() -> dict[str, str]:
    app = build_app("/bench", "tcp://127.0.0.1:1", WorkerOptions())
    return {name: str(value) for name, value in app.env.items() if name != "DASK_SCHEDULER_ADDRESS"}


def _cpu_seconds(pid: int) -> float:
    """Return what a process and the children that it waited for have used."""
    stat = Path(f"/proc/{pid}/stat").read_text()
    children = sum(map(int, stat[stat.rindex(")") + 2 :].split()[13:15])) / os.sysconf("SC_CLK_TCK")
    return cpu_of(pid) + children


def declare(part: Part, workers: int) -> None:
    """Say what is compared."""
    for kind in KINDS:
        for what in ("wall", "cpu"):
            place = STARTS.format(kind=kind), f"prefork, {what}"
            part.ratio(*place, f"exec, {what}", limit=f"fork, {what}")
            part.ratio(*place, f"fork, {what}", to_a_limit=True)
    group = MEMORY.format(count=workers)
    part.ratio(group, "prefork, PSS", "exec, PSS")
    part.goal(group, "prefork, PSS", at_most=20)


async def measure(part: Part, rounds: int, workers: int) -> None:
    """Measure starts and memory."""
    declare(part, workers)
    with tempfile.TemporaryDirectory(prefix="bench-prefork-") as folder:
        bench = Bench(Path(folder))
        try:
            await bench.open()
            for kind, share in KINDS.items():
                async with part.phase(STARTS.format(kind=kind), share):
                    await starts(part, bench, kind, rounds * (1 if kind == "server" else 2))
            async with part.phase("memory", 0.25):
                await memory(part, bench, workers)
        finally:
            await bench.close()


async def starts(part: Part, bench: Bench, kind: str, rounds: int) -> None:
    """Measure the starts of servers or of workers, each way."""
    start: Start = bench.server if kind == "server" else bench.worker

    async def once(way: str) -> Mapping[str, float]:
        seconds, end = await start(way)
        used = _cpu_seconds(bench.last_pid)
        await end()
        return {"wall": seconds, "cpu": used}

    ways = {way: partial(once, way) for way in WAYS}
    await part.in_turns(STARTS.format(kind=kind), ways, rounds, warm_up=0 if part.quick else 1)
    await bench.check(kind)


async def memory(part: Part, bench: Bench, workers: int) -> None:
    """Measure workers that live at once, and the templates."""
    for way in part.chance.sample(("exec", "prefork"), k=2):
        found = await bench.memory(way, workers)
        part.add(MEMORY.format(count=workers), f"{way}, RSS", [rss for rss, _ in found], "MiB")
        part.add(MEMORY.format(count=workers), f"{way}, PSS", [pss for _, pss in found], "MiB")
    for template in await bench.driver.templates():
        assert template.pid is not None
        group = f"memory of the template of {template.kind}s"
        part.add(group, "RSS", resident(template.pid) / MIB, "MiB")
        part.add(group, "PSS", (proportional(template.pid) or 0) / MIB, "MiB")


async def main() -> None:
    """Read the arguments, and measure."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--workers", type=int)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    given = parser.parse_args()
    part = Part.of("prefork", __doc__, given)
    await measure(
        part, given.rounds or (3 if given.quick else 15), given.workers or (5 if given.quick else 20)
    )
    part.end()


if __name__ == "__main__":
    run(main)

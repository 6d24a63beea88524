"""What the backend costs: requests, lists, events, memory, recovery. Run by ``make bench``.

Method: a real ``hubfleet backend`` in a directory of its own, driven over keep-alive connections by raw
asyncio streams, whose own cost is small beside the server's. Next to the requests stand, of the same run,
a tornado handler that does nothing behind the same client, and one SQLite commit; batches of both take
turns. The servers' own processor time for a request is counted as well, since it hardly changes with what
else runs. Tasks take turns with as many plain processes that nobody looks after, and lists with no more
than the writing of their JSON. A backend that knows a lot starts beside one that knows nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from limits import commits_of, empty_handler
from machine import cpu_of
from measuring import Part, arguments, run
from requesting import TOKEN, Connection, Order, free_port, latencies, until

EMPTY = "an empty backend"
HANDLER = "an empty handler (limit)"
HANDLER_AND_COMMIT = "an empty handler and a commit (limit)"
CREATE = "create an app"
SERVER_CPU = "processor time of the server"
REQUESTS = "requests, {count} at once"
RUNNING, PLAIN = "from the order to running", "plain processes (limit)"
RECOVERY = "kill -9 to all known again"
LISTED = "a list of them"
ROUNDS = 3
BATCHES = 5


@dataclass(frozen=True)
class Sizes:
    """How much of all is measured.

    Parameters
    ----------
    requests
        How many in a batch, by how many are made at once.
    """

    tasks: int
    requests: Mapping[int, int]
    bulk: int
    heard: int
    listed: int

    @property
    def tasks_group(self) -> str:
        return f"{self.tasks:,} tasks"

    @property
    def bulk_group(self) -> str:
        return f"{self.bulk:,} apps by one PUT"

    @property
    def list_group(self) -> str:
        return f"with {self.listed:,} apps"


QUICK = Sizes(tasks=100, requests={1: 20, 50: 100}, bulk=100, heard=40, listed=1500)
FULL = Sizes(tasks=1000, requests={1: 100, 50: 400}, bulk=1000, heard=150, listed=10_000)


class Backend:
    """A backend of this run.

    Parameters
    ----------
    program
        What is to run it, if not its own command.
    options
        More words of its command line.
    """

    def __init__(
        self, state: Path, program: Sequence[str] = ("-m", "hubfleet.api.cli"), options: Sequence[str] = ()
    ) -> None:
        self.state, self.port, self.program, self.options = state, free_port(), program, options
        self.process: subprocess.Popen[bytes]

    async def start(self) -> float:
        """Start it; return the seconds until it answers."""
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [
                *(sys.executable, *self.program, "backend", f"--port={self.port}"),
                *(f"--state-dir={self.state}", "--cpus=100000", "--mem=10000000", "--ports=20000-30000"),
                *self.options,
            ],
            env={**os.environ, "HUBFLEET_BACKEND_TOKEN": TOKEN},
            stderr=(self.state.parent / "log").open("ab"),
        )
        await self._answers()
        return time.perf_counter() - begun

    async def _answers(self) -> None:
        while True:
            try:
                await (await Connection(self.port).open()).ask("GET", "/ping")
                return
            except OSError:
                assert self.process.poll() is None, (self.state.parent / "log").read_text()
                await asyncio.sleep(0.005)

    async def ready(self) -> None:
        """Return when it answers, whatever became of it in a phase that was given up."""
        if self.process.poll() is not None:
            await self.start()
        await self._answers()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def cpu(self) -> float:
        """Its processor time in seconds."""
        return cpu_of(self.process.pid)

    def memory(self) -> float:
        """Its proportional memory in MiB."""
        return psutil.Process(self.process.pid).memory_full_info().pss / (1 << 20)

    def end_all(self) -> None:
        self.kill()
        for process in psutil.process_iter():
            try:
                if str(self.state) in " ".join(
                    [*process.cmdline(), process.environ().get("MESOS_SANDBOX", "")]
                ):
                    process.kill()
            except psutil.Error:
                continue


def declare(part: Part, sizes: Sizes) -> None:
    """Say what is compared."""
    part.ratio_between((sizes.tasks_group, RECOVERY), (EMPTY, "start"), to_a_limit=True)
    part.ratio(sizes.tasks_group, f"{RUNNING}, wall", f"{PLAIN}, wall", to_a_limit=True)
    for connections in sizes.requests:
        group = REQUESTS.format(count=connections)
        part.ratio(group, CREATE, HANDLER_AND_COMMIT, to_a_limit=True)
        part.ratio(group, f"{CREATE}, {SERVER_CPU}", f"{HANDLER}, {SERVER_CPU}", to_a_limit=True)
    one_by_one = REQUESTS.format(count=1), CREATE
    part.ratio_between((sizes.bulk_group, "made, for one app"), one_by_one)
    part.ratio(sizes.list_group, LISTED, f"{LISTED}: as JSON, no more (limit)", to_a_limit=True)
    part.ratio_between((sizes.list_group, "start of the backend"), (EMPTY, "start"), to_a_limit=True)


async def empty(part: Part, backend: Backend, sizes: Sizes) -> None:
    """What a backend takes that has nothing to do; the last one stays."""
    for round_ in range(ROUNDS):
        if round_:
            backend.kill()
        part.add(EMPTY, "start", await backend.start())
        part.add(EMPTY, "memory (PSS)", backend.memory(), "MiB")


async def requests(part: Part, backend: Backend, sizes: Sizes) -> None:
    """Creates, beside the least that they could cost, in batches that take turns."""
    commits = commits_of(backend.state.parent / "limit.sqlite", 2000)
    part.add("SQLite", "one commit (limit)", commits)
    commit = statistics.median(commits)
    numbers = itertools.count()

    def create(_: int) -> tuple[Any, ...]:
        app = {"id": f"/bench/a{next(numbers)}", "cmd": "sleep 1", "instances": 0}
        return "POST", "/v2/apps", app

    async with empty_handler() as (nothing, pid):
        for connections, batch in sizes.requests.items():
            group = REQUESTS.format(count=connections)
            sides: dict[str, tuple[int, int, Order]] = {
                HANDLER: (nothing, pid, lambda n: ("POST", "/", {"id": str(n)})),
                CREATE: (backend.port, backend.process.pid, create),
            }

            async def served(
                name: str,
                group: str = group,
                connections: int = connections,
                batch: int = batch,
                sides: Any = sides,
            ) -> Mapping[str, float]:
                port, pid, order = sides[name]
                used = cpu_of(pid)
                found = await latencies(connections, batch, port, order)
                part.add(group, name, found)
                if name == HANDLER:  # requests at once wait for each other's commits, too
                    part.add(group, HANDLER_AND_COMMIT, [one + connections * commit for one in found])
                return {SERVER_CPU: (cpu_of(pid) - used) / batch}

            await part.in_turns(group, {name: partial(served, name) for name in sides}, BATCHES, warm_up=0)


async def bulk(part: Part, backend: Backend, sizes: Sizes) -> None:
    """Many apps made, left and changed by one request each, and how long others wait meanwhile."""
    group = sizes.bulk_group
    connection, other = [await Connection(backend.port).open() for _ in range(2)]
    for round_ in range(ROUNDS):
        for name, cmd in (("made", "sleep 1"), ("left as they are", "sleep 1"), ("changed", "sleep 2")):
            ids = [f"/bulk{round_}/a{number}" for number in range(sizes.bulk)]
            body = [{"id": app_id, "cmd": cmd, "instances": 0} for app_id in ids]
            begun = time.perf_counter()
            change = asyncio.create_task(connection.ask("PUT", "/v2/apps?force=true", body))
            while not change.done():
                asked = time.perf_counter()
                await other.ask("GET", "/ping")
                part.add(group, f"{name}: a ping meanwhile", time.perf_counter() - asked)
            status, answer = await change
            assert status == 200, answer
            seconds = time.perf_counter() - begun
            part.add(group, name, seconds)
            part.add(group, f"{name}, for one app", seconds / sizes.bulk)


async def lists(part: Part, backend: Backend, sizes: Sizes) -> None:
    """A list of very many apps, and how long others wait meanwhile."""
    group = sizes.list_group
    connection = await Connection(backend.port).open()
    _, body = await connection.ask("GET", "/v2/apps")
    for first in range(len(json.loads(body)["apps"]), sizes.listed, 500):
        last = min(sizes.listed, first + 500)
        apps = [{"id": f"/more/a{number}", "cmd": "sleep 1", "instances": 0} for number in range(first, last)]
        status, answer = await connection.ask("PUT", "/v2/apps?force=true", apps)
        assert status == 200, answer
    for _ in range(10):
        other = await Connection(backend.port).open()
        begun = time.perf_counter()
        listing = asyncio.create_task(connection.ask("GET", "/v2/apps"))
        while not listing.done():
            asked = time.perf_counter()
            await other.ask("GET", "/ping")
            part.add(group, "a ping while they are listed", time.perf_counter() - asked)
        _, body = await listing
        part.add(group, LISTED, time.perf_counter() - begun)
        found, begun = json.loads(body), time.perf_counter()
        json.dumps(found)
        part.add(group, f"{LISTED}: as JSON, no more (limit)", time.perf_counter() - begun)
    part.add(group, "size of the list", len(body) / (1 << 20), "MiB")
    part.add(group, "memory of the backend (PSS)", backend.memory(), "MiB")
    for _ in range(ROUNDS):
        backend.kill()
        part.add(group, "start of the backend", await backend.start())


async def stream(part: Part, backend: Backend, sizes: Sizes) -> None:
    """Events per second to 50 listeners."""
    listeners = []
    for _ in range(50):
        connection = await Connection(backend.port).open()
        connection.send("GET", "/v2/events", accept="text/event-stream")
        await connection.reader.readuntil(b"event_stream_attached")
        listeners.append(connection)
    counts = [0] * len(listeners)

    async def listen(index: int) -> None:
        while chunk := await listeners[index].reader.read(1 << 20):
            counts[index] += chunk.count(b"event: ")

    numbers = itertools.count()

    def create(_: int) -> tuple[Any, ...]:
        return "POST", "/v2/apps", {"id": f"/heard/a{next(numbers)}", "cmd": "sleep 1", "instances": 0}

    tasks = [asyncio.create_task(listen(index)) for index in range(len(listeners))]
    try:
        for _ in range(ROUNDS):
            begun, before = time.perf_counter(), sum(counts)
            await latencies(4, sizes.heard, backend.port, create)
            part.add(
                "events to 50 listeners",
                "in all",
                (sum(counts) - before) / (time.perf_counter() - begun),
                "1/s",
            )
        await asyncio.sleep(0.5)  # what is on the way comes
    finally:
        for task in tasks:
            task.cancel()
    part.add("events to 50 listeners", "of each", counts, "events")


async def tasks(part: Part, backend: Backend, sizes: Sizes) -> None:
    """Many tasks, beside as many plain processes: start, memory, recovery."""
    group = sizes.tasks_group
    before = backend.memory()
    connection = await Connection(backend.port).open()
    body = {"id": "/many", "cmd": "exec sleep 600", "instances": 0, "cpus": 0.01, "mem": 1}
    await connection.ask("POST", "/v2/apps", {**body, "portDefinitions": []})

    async def run(count: int) -> bool:
        fresh = await Connection(backend.port).open()
        # A list counts the tasks. The app by itself would show each, which costs more than to start them.
        _, found = await fresh.ask("GET", "/v2/apps?id=/many")
        [app] = json.loads(found)["apps"]
        return bool(app["tasksRunning"] == count and not app["deployments"])

    async def scaled(count: int) -> float:
        fresh = await Connection(backend.port).open()
        begun = time.perf_counter()
        status, answer = await fresh.ask("PUT", "/v2/apps/many", {"instances": count})
        assert status == 200, answer
        await until(partial(run, count))
        return time.perf_counter() - begun

    async def ours() -> Mapping[str, float]:
        used = backend.cpu()
        seconds, used = await scaled(sizes.tasks), backend.cpu() - used
        await scaled(0)
        return {"wall": seconds, "cpu of the backend for one": used / sizes.tasks}

    async def plain() -> Mapping[str, float]:
        begun = time.perf_counter()
        processes = [subprocess.Popen(["/bin/sh", "-c", "exec sleep 600"]) for _ in range(sizes.tasks)]
        seconds = time.perf_counter() - begun
        for process in processes:
            process.kill()
            process.wait()
        return {"wall": seconds}

    await part.in_turns(group, {RUNNING: ours, PLAIN: plain}, ROUNDS, warm_up=0)
    await scaled(sizes.tasks)
    part.add(group, "memory of the backend for them (PSS)", backend.memory() - before, "MiB")
    for _ in range(ROUNDS):
        backend.kill()
        begun = time.perf_counter()
        await backend.start()
        await until(partial(run, sizes.tasks))
        part.add(group, RECOVERY, time.perf_counter() - begun)
    await scaled(0)


async def main() -> None:
    given = arguments(__doc__).parse_args()
    part = Part.of("backend", __doc__, given)
    sizes = QUICK if part.quick else FULL
    declare(part, sizes)
    with tempfile.TemporaryDirectory(prefix="bench-backend-") as place:
        backend = Backend(Path(place) / "state")
        try:
            for phase, share in PHASES.items():
                async with part.phase(phase.__name__, share):
                    if phase is not empty:
                        await backend.ready()
                    await phase(part, backend, sizes)
        finally:
            backend.end_all()
    part.end()


PHASES = {empty: 0.15, tasks: 0.3, requests: 0.15, bulk: 0.1, stream: 0.1, lists: 0.2}
"""And their shares of the time."""

if __name__ == "__main__":
    run(main)

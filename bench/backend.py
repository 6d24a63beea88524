"""What the backend costs: requests, lists, events, memory, recovery. Run by ``make bench``.

Method: a real ``hubfleet backend`` in a directory of its own, driven over keep-alive connections by raw
asyncio streams, whose own cost is small beside the server's. Next to the requests stand, of the same run,
a tornado handler that does nothing behind the same client and one SQLite commit: what is above them is
ours. The clock of a shared machine is noisy, so look at ratios before milliseconds; the spread, from the
first to the third quartile, and the load at both ends tell how noisy it was. The servers' own processor
time for a request is counted as well, since it hardly changes with what else runs.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from limits import commits_of, empty_handler
from machine import cpu_of
from measuring import Part, arguments, run
from requesting import TOKEN, Connection, Order, free_port, latencies, until


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
        while True:
            try:
                await (await Connection(self.port).open()).ask("GET", "/ping")
                return time.perf_counter() - begun
            except OSError:
                assert self.process.poll() is None, (self.state.parent / "log").read_text()
                await asyncio.sleep(0.005)

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


async def served(
    part: Part, name: str, connections: int, count: int, port: int, pid: int, order: Order
) -> list[float]:
    """Keep and return what so many requests take, and keep the server's processor time for one."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    found = await latencies(connections, count, port, order)
    after = process.cpu_times()
    group = f"requests, {connections} at once"
    part.add(group, name, found)
    used = (after.user + after.system - before.user - before.system) / count
    part.add(group, f"{name}, processor time of the server", used)
    return found


async def requests(part: Part, backend: Backend) -> None:
    """Creates, beside the least that they could cost."""
    async with empty_handler() as (nothing, pid):
        await _creates(part, backend, nothing, pid)


async def _creates(part: Part, backend: Backend, nothing: int, pid: int) -> None:
    commits = commits_of(backend.state.parent / "limit.sqlite", 2000)
    part.add("SQLite", "one commit (limit)", commits)
    commit = statistics.median(commits)
    number_of = 0
    for connections, count in ((1, 100), (50, 400)) if part.quick else ((1, 500), (50, 2000)):
        base = number_of

        def create(number: int, base: int = base) -> tuple[Any, ...]:
            app = {"id": f"/bench/a{base + number}", "cmd": "sleep 1", "instances": 0}
            return "POST", "/v2/apps", app

        sides = {
            "an empty handler (limit)": (nothing, pid, lambda n: ("POST", "/", {"id": str(n)})),
            "create an app": (backend.port, backend.process.pid, create),
        }
        found = {}
        for name, side in part.shuffled(sides).items():
            found[name] = await served(part, name, connections, count, *side)
        # Requests at once wait for each other's commits as they wait for each other's handling.
        limit = "an empty handler and a commit (limit)"
        group = f"requests, {connections} at once"
        part.add(group, limit, [one + connections * commit for one in found["an empty handler (limit)"]])
        part.ratio(group, "create an app", limit)
        used = "processor time of the server"
        part.ratio(group, f"create an app, {used}", f"an empty handler (limit), {used}")
        number_of += count


async def bulk(part: Part, backend: Backend) -> None:
    """Many apps made, left and changed by one request each, and how long others wait meanwhile."""
    many = 200 if part.quick else 1000
    group = f"{many:,} apps by one PUT"
    connection, other = [await Connection(backend.port).open() for _ in range(2)]
    for name, cmd in (("made", "sleep 1"), ("left as they are", "sleep 1"), ("changed", "sleep 2")):
        body = [{"id": f"/bulk/a{number}", "cmd": cmd, "instances": 0} for number in range(many)]
        begun = time.perf_counter()
        change = asyncio.create_task(connection.ask("PUT", "/v2/apps?force=true", body))
        while not change.done():
            asked = time.perf_counter()
            await other.ask("GET", "/ping")
            part.add(group, f"{name}: a ping meanwhile", time.perf_counter() - asked)
        status, answer = await change
        assert status == 200, answer
        part.add(group, name, time.perf_counter() - begun)


async def lists(part: Part, backend: Backend) -> None:
    """A list of very many apps, and how long others wait meanwhile."""
    many = 1000 if part.quick else 10_000
    group = f"with {many:,} apps"
    connection = await Connection(backend.port).open()
    _, body = await connection.ask("GET", "/v2/apps")
    have = len(json.loads(body)["apps"])
    await latencies(
        8,
        many - have,
        backend.port,
        lambda n: ("POST", "/v2/apps", {"id": f"/more/a{n}", "cmd": "sleep 1", "instances": 0}),
    )
    for _ in range(10):
        other = await Connection(backend.port).open()
        begun = time.perf_counter()
        listing = asyncio.create_task(connection.ask("GET", "/v2/apps"))
        while not listing.done():
            asked = time.perf_counter()
            await other.ask("GET", "/ping")
            part.add(group, "a ping while they are listed", time.perf_counter() - asked)
        _, body = await listing
        part.add(group, "a list of them", time.perf_counter() - begun)
    part.add(group, "size of the list", len(body) / (1 << 20), "MiB")
    part.add(group, "memory of the backend (PSS)", backend.memory(), "MiB")
    backend.kill()
    part.add(group, "start of the backend", await backend.start())


async def stream(part: Part, backend: Backend) -> None:
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

    tasks = [asyncio.create_task(listen(index)) for index in range(len(listeners))]
    begun = time.perf_counter()
    await latencies(
        4,
        100 if part.quick else 400,
        backend.port,
        lambda n: ("POST", "/v2/apps", {"id": f"/heard/a{n}", "cmd": "sleep 1", "instances": 0}),
    )
    seconds = time.perf_counter() - begun
    await asyncio.sleep(0.5)
    for task in tasks:
        task.cancel()
    part.add("events to 50 listeners", "in all", sum(counts) / seconds, "1/s")
    part.add("events to 50 listeners", "of each", counts, "events")


async def tasks(part: Part, backend: Backend) -> None:
    """Many tasks: memory, start, recovery."""
    many = 200 if part.quick else 1000
    group = f"{many:,} tasks"
    before = backend.memory()
    connection = await Connection(backend.port).open()
    body = {"id": "/many", "cmd": "exec sleep 600", "instances": many, "cpus": 0.01, "mem": 1}
    await connection.ask("POST", "/v2/apps", {**body, "portDefinitions": []})

    async def all_run() -> bool:
        fresh = await Connection(backend.port).open()
        _, found = await fresh.ask("GET", "/v2/apps/many")
        running: int = json.loads(found)["app"]["tasksRunning"]
        return running == many

    part.add(group, "from the order to running", await until(all_run))
    part.add(group, "memory of the backend for them (PSS)", backend.memory() - before, "MiB")
    backend.kill()
    begun = time.perf_counter()
    await backend.start()
    await until(all_run)
    part.add(group, "kill -9 to all known again", time.perf_counter() - begun)


async def main() -> None:
    given = arguments(__doc__).parse_args()
    part = Part.of("backend", __doc__, given)
    with tempfile.TemporaryDirectory() as place:
        backend = Backend(Path(place) / "state")
        try:
            part.add("an empty backend", "start", await backend.start())
            part.add("an empty backend", "memory (PSS)", backend.memory(), "MiB")
            await tasks(part, backend)
            await requests(part, backend)
            await bulk(part, backend)
            await stream(part, backend)
            await lists(part, backend)
        finally:
            backend.end_all()
    part.end()


if __name__ == "__main__":
    run(main)

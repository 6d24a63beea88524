"""What health checks cost the backend, beside plain requests.

Method: two real backends run one app of the same many instances (of ``sleep``) each. One app has an HTTP
check on the port of one static server, the other has none, so that nothing but the probing differs. Beside
them a process makes as many requests of the same server by asyncio's own streams, and does nothing else.
All three live at once: what they use over the same seconds, again and again, is their own processor time,
without that of tasks and of this script. The difference between the backends is what the checks cost.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from conftest import RunningBackend
from machine import cpu_of
from measuring import Part, arguments, run
from rest import Rest

PLAIN = "plain requests"
_PROBER = """
import asyncio, sys
async def probe(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nConnection: close\\r\\n\\r\\n")
    await reader.read()
    writer.close()
async def every(port, first, interval):
    await asyncio.sleep(first)
    while True:
        await probe(port)
        await asyncio.sleep(interval)
async def main(port, count, interval):
    await asyncio.gather(*(every(port, interval * n / count, interval) for n in range(count)))
asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
"""


class Answering:
    """A static server, which counts what it was asked."""

    def __init__(self) -> None:
        self.answered = 0

    async def open(self) -> asyncio.Server:
        self.server = await asyncio.start_server(self._answer, "127.0.0.1", 0, backlog=1024)
        self.port = int(self.server.sockets[0].getsockname()[1])
        return self.server

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        self.answered += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()


async def backend_of(
    stack: AsyncExitStack, folder: Path, count: int, check: dict[str, object] | None
) -> tuple[int, Rest]:
    """Return a backend's process when it is told to run so many tasks, with a check or none."""
    folder.mkdir()
    backend = RunningBackend(folder / "state", (20000, 24000))
    stack.push_async_callback(backend.destroy)
    await backend.start()
    assert backend.process is not None
    rest = Rest(backend.url, backend.admin_token)
    checks = [check] if check else []
    await rest.create("/checked", instances=count, portDefinitions=[], healthChecks=checks, mem=0, cpus=0.001)
    return backend.process.pid, rest


async def measure(part: Part, checks: int, interval: float, samples: int, folder: Path) -> None:
    """Measure, so many times over one interval or two seconds at least."""
    group = f"{checks:,} checks every {interval:g} s, processor seconds a second"
    one = f"{checks:,} checks every {interval:g} s, processor time of one"
    part.goal(group, "the checks alone", at_most=0.1 * checks / interval / 100)
    part.ratio(one, "a check", PLAIN)
    async with AsyncExitStack() as stack:
        server = Answering()
        await stack.enter_async_context(await server.open())
        seconds = {"intervalSeconds": interval, "timeoutSeconds": interval}
        check = {"protocol": "HTTP", "port": server.port, "path": "/", **seconds}
        pids = {}
        for name, given in part.shuffled({"without checks": None, "with checks": check}).items():
            pids[name], rest = await backend_of(stack, folder / name.partition(" ")[0], checks, given)
            async with asyncio.timeout(120):
                while (await rest.app("/checked"))["tasksRunning"] < checks:
                    await asyncio.sleep(0.5)
        prober = subprocess.Popen(
            [sys.executable, "-c", _PROBER, str(server.port), str(checks), str(interval)]
        )
        stack.callback(prober.wait)
        stack.callback(prober.kill)
        pids[PLAIN] = prober.pid
        await asyncio.sleep(interval + 2)  # all have begun, and what starting them costs is over
        for _ in range(samples):
            if part.seconds_left < interval:
                part.cut(f"{group}: the rest of {samples} samples, as the time for them was over")
                break
            begun, asked = time.monotonic(), server.answered
            before = {name: cpu_of(pid) for name, pid in pids.items()}
            await asyncio.sleep(max(2.0, interval))
            taken, probes = time.monotonic() - begun, (server.answered - asked) / 2
            used = {name: cpu_of(pid) - before[name] for name, pid in pids.items()}
            used["the checks alone"] = used["with checks"] - used["without checks"]
            for name, spent in used.items():
                part.add(group, name, spent / taken, "")
            part.add(group, "checks a second, as answered", probes / taken, "1/s")
            part.add(one, "a check", used["the checks alone"] / probes)
            part.add(one, PLAIN, used[PLAIN] / probes)


async def main() -> None:
    """Read the arguments, and measure."""
    parser = arguments(__doc__)
    parser.add_argument("--checks", type=int)
    parser.add_argument("--interval", type=float)
    given = parser.parse_args()
    part = Part.of("health_checks", __doc__, given)
    # As many a second, either way.
    checks = given.checks or (100 if part.quick else 1000)
    interval = given.interval or (1 if part.quick else 10)
    with tempfile.TemporaryDirectory(prefix="bench-checks-") as folder:
        async with part.phase("checks"):
            await measure(part, checks, interval, 3 if part.quick else 4, Path(folder))
    part.end()


if __name__ == "__main__":
    run(main)

"""What health checks cost the backend: its processor seconds per second, with and without them.

Method: a real backend runs one app of `--checks` instances (of ``sleep``), each with an HTTP
check on the port of one static server of this script's, so that nothing but the probing differs.
The backend's own user and system time (not its tasks', nor this script's) is read over
`--seconds`, of one backend without checks and of another with them, so that neither cleans up
after the other's tasks; the difference is printed. The first interval after the start is left out.

    python bench/health_checks.py --checks 1000 --interval 10 --seconds 30
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from conftest import RunningBackend
from measuring import Part, arguments, run
from rest import Rest

answered = 0


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say 200 to whatever is asked."""
    global answered
    await reader.readline()
    answered += 1
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    writer.close()


async def used(process: psutil.Process, seconds: float) -> float:
    """Return the processor seconds per second that a process uses."""
    before = process.cpu_times()
    await asyncio.sleep(seconds)
    after = process.cpu_times()
    return (after.user + after.system - before.user - before.system) / seconds


async def measure(part: Part, checks: int, interval: int, seconds: float, directory: Path) -> None:
    """Measure a backend of each kind."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    check = {"protocol": "HTTP", "port": port, "intervalSeconds": interval, "timeoutSeconds": interval}
    group = f"{checks} tasks, each checked every {interval} s: processor seconds per second"
    found = {}
    for name, having in part.shuffled({"without checks": [], "with checks": [check]}).items():
        found[name] = await measure_one(name.partition(" ")[0], having, checks, interval, seconds, directory)
        part.add(group, name, found[name], "")
    part.add(group, "the checks alone", found["with checks"] - found["without checks"], "")
    server.close()


async def measure_one(
    name: str, found: list[dict[str, object]], checks: int, interval: int, seconds: float, directory: Path
) -> float:
    """Return what a backend of its own uses while its tasks have these checks."""
    (directory / name).mkdir()
    backend = RunningBackend(directory / name / "state", (20000, 24000))
    try:
        await backend.start()
        assert backend.process is not None
        process = psutil.Process(backend.process.pid)
        rest = Rest(backend.url, backend.admin_token)
        await rest.create(
            "/checked", instances=checks, portDefinitions=[], healthChecks=found, mem=0, cpus=0.001
        )
        while (await rest.app("/checked"))["tasksRunning"] < checks:
            await asyncio.sleep(1)
        await asyncio.sleep(interval + 5)
        begun = answered
        figure = await used(process, seconds)
        print(f"{name}: {figure:.4f} cpu-seconds per second, {answered - begun} probes answered")
        return figure
    finally:
        await backend.destroy()


async def main() -> None:
    """Read the arguments, and measure."""
    parser = arguments(__doc__)
    parser.add_argument("--checks", type=int)
    parser.add_argument("--interval", type=int, default=10)
    parser.add_argument("--seconds", type=float)
    given = parser.parse_args()
    part = Part.of("health_checks", __doc__, given)
    checks, seconds = (
        given.checks or (100 if given.quick else 1000),
        given.seconds or 10 + 20 * (not given.quick),
    )
    with tempfile.TemporaryDirectory() as directory:
        await measure(part, checks, given.interval, seconds, Path(directory))
    part.end()


if __name__ == "__main__":
    run(main)

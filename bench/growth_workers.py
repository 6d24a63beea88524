"""How the cost of Dask workers grows with their number. Run by ``make bench``.

Method: a new cluster is scaled from none to 1, 4, 16, 64, 128 and 256 workers and closed again, at each size
some times, the more the fewer they are: ours, encrypted, over a backend that forks workers from its template,
and the limit, which is a process that has imported a worker and forks itself as often, at a scheduler with
nothing around it. They are in processes of their own, and take turns in an order of chance. The clock runs
from the order until the scheduler knows all of them. The processor time of the scheduler is of its process,
which in ours is also the cluster manager's; that of *all processes* is of that one, the workers, the backend
and its launcher. The memory of a worker is its PSS; that *of all* is what the PSS of all processes but the
scheduler's grew by. *Processors at rest* are what all of these processes use while there is nothing to do:
a worker of distributed has clocks that wake it up, its profiler's a hundred times a second, and where all of
them come near the number of processors nothing is left to start more with. A size is given up after 50 s.
Peers stand beside ours in workers.py.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import RunningBackend
from driven import Driven
from family import VARIABLE, Family, memory_of, spent
from growing import Growth, growth_of
from machine import cpu_of
from measuring import run
from ports import backend_ports

from workers import gone

GROUP = "workers of one cluster"
OURS, LIMIT = "ours, TLS", "fork (limit)"
SIZES, QUICK_SIZES = (1, 4, 16, 64, 128, 256), (1, 3, 8)
MOST_SECONDS = 50  # for one size of one of the two
WALL, CPU = "from the order until all are registered", "processor time of all processes for a worker"


def rounds_of(size: int, quick: bool) -> int:
    """Return how often a size is measured: few workers tell little in one round, and cost little."""
    if quick:
        return 3 if size == QUICK_SIZES[-1] else 1
    return 3 if size <= 16 else 2 if size <= 64 else 1


async def to(part: Growth, series: str, driven: Driven, encrypted: bool, size: int) -> None:
    """Scale new clusters to a size, and close them; no more than there is time for."""
    seconds, rounds = 0.0, rounds_of(size, part.quick)
    for number in range(rounds):
        if number and seconds > part.seconds_left:
            part.cut(f"{GROUP}: {series}, {size}: {rounds - number} of {rounds} rounds, as the time was over")
            return
        begun = time.monotonic()
        part.progress = f"round {number + 1} of {rounds}"
        await once(partial(_keep, part, series, size), driven, encrypted, size)
        seconds = time.monotonic() - begun


def _keep(
    part: Growth, series: str, size: int, name: str, sample: float, unit: str = "s", fair: float = 0.0
) -> None:
    part.grew((GROUP, name, series), size, sample, unit, fair)


async def once(keep: Callable[..., None], driven: Driven, encrypted: bool, size: int) -> None:
    """Scale a new cluster to a size, and close it."""
    async with driven.cluster(encrypted):
        used = await driven.at_rest()
        without = driven.family.memory([driven.pid])
        scheduler = cpu_of(driven.pid)
        found = await driven.do("scale", n=size)
        keep("processor time of the scheduler for a worker", (cpu_of(driven.pid) - scheduler) / size)
        keep(WALL, found["wall"], fair=1)
        keep(CPU, spent(used, driven.family.cpu()) / size)
        pids = (await driven.do("pids"))["pids"]
        used, looked = await driven.at_rest(), time.monotonic()
        await asyncio.sleep(1)
        at_rest = spent(used, driven.family.cpu()) / (time.monotonic() - looked)
        keep("processors at rest", at_rest, "", fair=1)
        keep("memory of a worker (PSS)", memory_of(pids) / size, "MiB")
        keep("memory of all (PSS)", driven.family.memory([driven.pid]) - without, "MiB", fair=1)
        begun = time.perf_counter()
    await gone(pids)
    keep("from close to the end of all", time.perf_counter() - begun, fair=1)


async def measure(part: Growth, folder: Path, sizes: list[int]) -> None:
    """Climb with both."""
    settings = folder / "backend.py"
    settings.write_text('c.Backend.warm = ["worker"]\n')
    state = folder / "state"
    options = {"config": str(settings), "cpus": "1024", "mem": "1048576"}
    async with AsyncExitStack() as stack:
        backend = RunningBackend(state, backend_ports(), **options)
        backend.environment[VARIABLE] = str(state)
        stack.push_async_callback(backend.destroy)
        await backend.start()
        ours = Driven(
            *(folder / "ours", {"kind": "ours", "url": backend.url, "token": backend.admin_token}),
            Family(str(state)),
        )
        fork = Driven(folder / "fork", {"kind": "forked"})
        ways = {}
        for series, driven, encrypted in ((OURS, ours, True), (LIMIT, fork, False)):
            stack.callback(driven.end)
            async with driven.cluster(encrypted):  # once, before anything counts
                await driven.do("scale", n=2)
            ways[series] = partial(to, part, series, driven, encrypted)
        await part.climb(GROUP, ways, sizes, MOST_SECONDS)


async def main() -> None:
    part, sizes = growth_of("growth_workers", __doc__, QUICK_SIZES, SIZES)
    for name in (WALL, CPU, "processor time of the scheduler for a worker", "memory of a worker (PSS)"):
        part.compare(GROUP, name, OURS, LIMIT, to_a_limit=True)
    with tempfile.TemporaryDirectory(prefix="bench-growth-", ignore_cleanup_errors=True) as place:
        await measure(part, Path(place), sizes)
    part.end()


if __name__ == "__main__":
    run(main)

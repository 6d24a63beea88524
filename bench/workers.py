"""Dask workers: how fast they come and go, what they take, and what is lost, beside the peers.

Method: each cluster manager is in a process of its own, which makes a cluster, scales it, and closes it
again; they take turns in an order of chance. They are ours over a backend that forks from its template,
ours with executed workers, distributed's LocalCluster, the LocalCluster of dask-jobqueue, and dask-gateway
with its local backend. dask-gateway cannot start a cluster with today's distributed as it comes, which is
shown; it is measured with the two commands set in its configuration, and has no clusters without
encryption. Workers have one thread and 400 MiB; nannies, intervals and dashboards are as each manager has
them. Limits are a scheduler to which `dask worker` is executed so many times at once, without a nanny, and
one to which a process that has imported the worker forks itself. *N workers*: the clock runs from `scale`
until the scheduler knows all of them; processor time is that of all processes of the manager, its services
and its workers. The memory of a worker is the PSS of its process, in which pages that several share are
counted in parts; *all that came* is what the PSS of all processes but that of the scheduler grew by, for
each worker, and *what is there without workers* that of services and templates. *The first worker*: from
`submit` on a cluster that adapts between 0 and 4 workers and has none. *16 workers become 4* (in the short
run 8 become 2): each holds 4 results of 1 MB, and a scattered value that nobody can compute again; then all
are asked for. What a manager has lost is counted, and what was computed once more. Those that take long have
fewer turns.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conftest import RunningBackend
from driven import Driven, Gateway, Refused
from family import VARIABLE, Family, memory_of, spent
from machine import versions_of
from measuring import Part, arguments, run
from ports import backend_ports

GATEWAY = "dask-gateway, commands set"
AS_IT_COMES = "dask-gateway as it comes"
EXECUTED = "ours, executed"
KINDS = ("ours", EXECUTED, "LocalCluster", "dask-jobqueue", GATEWAY, AS_IT_COMES)
LIMITS = ("fork", "bare dask worker")
WITHOUT = "memory of what is there without workers"
FIRST = "the first worker after a submission to a cluster that adapts"
HELD = 4  # results, by each worker of a cluster that shrinks
UNITS = {
    "memory of a worker": "MiB",
    "memory of all that came, for each": "MiB",
    "lost": "",
    "recomputed": "",
}
Ways = dict[str, tuple[str, bool]]
"""By the name of a way: the kind of cluster, and whether it is encrypted."""


def scaled(n: int) -> str:
    """Return the group of figures of so many workers."""
    return f"from 0 to {n} workers"


def shrunk(n: int) -> str:
    """Return the group of figures of a cluster of so many workers, of which a quarter stays."""
    return f"{n} workers that hold results become {n // 4}"


def ways(*kinds: str, plain: bool = True) -> Ways:
    """Return the ways to make these kinds of clusters: with encryption, without it, or both.

    Parameters
    ----------
    plain
        Whether they are made without encryption, too.
    """
    found: Ways = {}
    for kind in kinds:
        if kind not in LIMITS:
            found[f"{kind}, TLS"] = kind, True
        if kind in LIMITS or (plain and not kind.startswith("dask-gateway")):
            found[f"{kind}, plain"] = kind, False
    return found


class Field:
    """All cluster managers that are compared, with their services."""

    def __init__(self, part: Part, folder: Path) -> None:
        self.part, self.folder = part, folder
        self.driven: dict[str, Driven] = {}
        self.without: list[tuple[str, float]] = []

    async def open(self, stack: AsyncExitStack) -> None:
        """Start what is there before any cluster."""
        settings = self.folder / "backend.py"
        settings.write_text('c.Backend.warm = ["worker"]\n')
        backend = RunningBackend(
            *(self.folder / "ours" / "state", backend_ports()),
            **{"config": str(settings), "cpus": "512", "mem": "524288"},
        )
        backend.state_dir.mkdir(parents=True)
        backend.environment[VARIABLE] = str(backend.state_dir)
        stack.push_async_callback(backend.destroy)
        await backend.start()
        services = Family(str(backend.state_dir))
        ours = {"kind": "ours", "url": backend.url, "token": backend.admin_token}
        self._add("ours", ours, services)
        self._add(EXECUTED, {**ours, "prefork": False}, services)
        self._add("LocalCluster", {"kind": "local"})
        self._add("dask-jobqueue", {"kind": "jobqueue"})
        self._add("bare dask worker", {"kind": "executed"})
        self._add("fork", {"kind": "forked"})
        for name, repaired in ((GATEWAY, True), (AS_IT_COMES, False)):
            gateway = Gateway(self.folder / f"gateway-{repaired}", repaired)
            stack.push_async_callback(gateway.destroy)
            self._add(name, {"kind": "gateway", **gateway.settings}, gateway.family)
            try:
                await gateway.start()
            except (Refused, OSError, TimeoutError) as error:
                self.part.failed("services", name, error)
            self.driven[name].why = gateway.why
        for driven in self.driven.values():
            stack.callback(driven.end)

    def _add(self, name: str, settings: Mapping[str, Any], *services: Family) -> None:
        self.driven[name] = Driven(self.folder / f"driver-{len(self.driven)}", settings, *services)

    # -- one turn each ----------------------------------------------------------------

    async def up(self, kind: str, encrypted: bool, n: int) -> Mapping[str, float]:
        """Scale a new cluster from nothing, and end it."""
        driven = self.driven[kind]
        async with driven.cluster(encrypted):
            used, without = await driven.at_rest(), driven.family.memory([driven.pid])
            found = await driven.do("scale", n=n)
            cpu = spent(used, driven.family.cpu())
            pids = (await driven.do("pids"))["pids"]
            await driven.at_rest()
            memory = {
                "memory of a worker": memory_of(pids) / n,
                "memory of all that came, for each": (driven.family.memory([driven.pid]) - without) / n,
            }
            self.without.append((kind, without))
            begun = time.perf_counter()
        await gone(pids)
        return {
            **{"wall": found["wall"], "cpu": cpu, **memory},
            "from close to their end": time.perf_counter() - begun,
        }

    async def first(self, kind: str, encrypted: bool) -> Mapping[str, float]:
        """Submit to a new cluster that adapts."""
        driven = self.driven[kind]
        async with driven.cluster(encrypted):
            await driven.at_rest()
            return await driven.do("adapt", most=4)

    async def down(self, kind: str, encrypted: bool, n: int) -> Mapping[str, float]:
        """Scale a cluster down to a quarter that holds results."""
        driven = self.driven[kind]
        async with driven.cluster(encrypted):
            await driven.do("scale", n=n)
            return await driven.do("shrink", n=n // 4, held=HELD * n)


async def within(seconds: float, turn: Callable[..., Any], *given: Any) -> Any:
    """Take a turn that is given up after so many seconds."""
    try:
        async with asyncio.timeout(seconds):
            return await turn(*given)
    except TimeoutError:
        raise Refused(f"not done in {seconds:.0f} s") from None


async def gone(pids: Collection[int], seconds: float = 60) -> None:
    """Return when there is none of these processes."""
    async with asyncio.timeout(seconds):
        while any(psutil.pid_exists(pid) for pid in pids):
            await asyncio.sleep(0.01)


class Size(NamedTuple):
    """How often something is measured.

    Parameters
    ----------
    share
        Of the time of all.
    often
        Turns of ours, of LocalCluster and of the process that forks itself.
    seldom
        Turns of all others.
    patience
        Seconds for the one turn of LocalCluster, which is encrypted and for itself, where it may take for
        ever; 0 where it does not.
    """

    share: float
    often: int
    seldom: int
    patience: float = 0


class Sizes(NamedTuple):
    """What is measured.

    Parameters
    ----------
    up
        By the number of workers that come at once.
    first
        Of the first worker.
    down
        By the number of workers of which most go.
    """

    up: Mapping[int, Size]
    first: Size
    down: Mapping[int, Size]


QUICK = Sizes({4: Size(0.61, 3, 1)}, Size(0.19, 3, 0), {8: Size(0.2, 1, 0)})
FULL = Sizes(
    {8: Size(0.18, 3, 1), 16: Size(0.29, 3, 1), 64: Size(0.34, 2, 0, patience=90)},
    Size(0.06, 5, 1),
    {16: Size(0.13, 2, 1)},
)
SLOW = (
    "all but ours, the process that forks itself and one turn of LocalCluster, encrypted: so many nannies "
    "and workers want more than two processors while they do nothing, and would take minutes"
)


def relate(part: Part, sizes: Sizes) -> None:
    """Declare what is related to what, and what it should be."""
    for n, size in sizes.up.items():
        for way in ("TLS",) if part.quick or size.patience else ("TLS", "plain"):
            for what, goal in (("wall", 0.2 if n > 8 else None), ("cpu", None)):
                of = f"LocalCluster, {way}, {what}"
                part.ratio(scaled(n), f"ours, {way}, {what}", of, goal, limit=f"fork, plain, {what}")
        for peer in ("dask-jobqueue", GATEWAY) if size.seldom else ():
            part.ratio(scaled(n), "ours, TLS, wall", f"{peer}, TLS, wall", limit="fork, plain, wall")
        if size.seldom and not part.quick:
            executed = "bare dask worker, plain, wall"
            part.ratio(scaled(n), "ours, executed, TLS, wall", "LocalCluster, TLS, wall", limit=executed)
        if n >= 8:  # fewer have larger parts of what they share
            part.goal(scaled(n), "ours, TLS, memory of a worker", at_most=20)
        of = "LocalCluster, TLS, memory of a worker"
        part.ratio(scaled(n), "ours, TLS, memory of a worker", of, limit="fork, plain, memory of a worker")
    part.goal(FIRST, "ours, TLS, first worker", at_most=0.5)
    part.ratio(FIRST, "ours, TLS, first worker", "LocalCluster, TLS, first worker")
    for n in sizes.down:
        for what in ("lost", "recomputed"):
            part.goal(shrunk(n), f"ours, TLS, {what}", at_most=0)
        at_hand = "until all results are at hand"
        part.ratio(shrunk(n), f"ours, TLS, {at_hand}", f"LocalCluster, TLS, {at_hand}")


async def measure(part: Part, folder: Path) -> None:
    """Measure all of it."""
    sizes = QUICK if part.quick else FULL
    relate(part, sizes)
    often = ways("ours", "LocalCluster", plain=not part.quick) | ways("fork")
    everything = often | ways("dask-jobqueue", GATEWAY, AS_IT_COMES, plain=False)
    if not part.quick:
        everything |= ways(EXECUTED, "bare dask worker", plain=False)

    async def turns(group: str, size: Size, turn: Callable[..., Any], all_ways: bool = False) -> None:
        async def rounds_of(some: Ways, rounds: int, turn: Callable[..., Any] = turn) -> None:
            chosen = {
                name: partial(turn, kind, encrypted)
                for name, (kind, encrypted) in some.items()
                if all_ways or (encrypted and kind != EXECUTED)
            }
            await part.in_turns(group, chosen, rounds, warm_up=0, units=UNITS)

        async with part.phase(group, size.share):
            await rounds_of(everything, size.seldom)
            if size.patience:
                few = {name: way for name, way in often.items() if way[0] != "LocalCluster"}
                await rounds_of(few, 1)
                await rounds_of(ways("LocalCluster", plain=False), 1, partial(within, size.patience, turn))
                await rounds_of(few, size.often - 1)
            else:
                await rounds_of(often, size.often - size.seldom)
        for kind, memory in field.without:
            part.add(WITHOUT, kind, memory, "MiB")
        field.without.clear()

    async with AsyncExitStack() as stack:
        field = Field(part, folder)
        await field.open(stack)
        for kind, encrypted in part.shuffled(often).values():  # the first turn of any is not like the others
            await field.up(kind, encrypted, n=2)
        part.figures.clear()
        field.without.clear()
        await turns(FIRST, sizes.first, field.first)
        for n, size in sizes.down.items():
            await turns(shrunk(n), size, partial(field.down, n=n))
        for n, size in sizes.up.items():  # the largest at last, which has what time the others leave
            if not size.seldom:
                part.cut(f"{scaled(n)}: {SLOW}")
            await turns(scaled(n), size, partial(field.up, n=n), all_ways=True)


async def main() -> None:
    """Read the arguments, and measure."""
    given = arguments(__doc__).parse_args()
    part = Part.of("workers", __doc__, given)
    part.measured_with(versions_of(["dask-jobqueue", "dask-gateway", "dask-gateway-server"]))
    with tempfile.TemporaryDirectory(prefix="bench-workers-", ignore_cleanup_errors=True) as folder:
        await measure(part, Path(folder))
    part.end()


if __name__ == "__main__":
    run(main)

"""One cluster manager in a process of its own, that does what it is told over its standard input.

So that each of those that are compared has a process of its own, whatever it leaves in it, and one that
hangs or dies takes no other with it. A line is an order, and a line is the answer: what came of it, or the
error. The clock runs in here, so that telling costs nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clusters import MAKERS, Bare
from distributed import Client

LOOK_SECONDS = 0.005
ORDER_SECONDS = 180
RESULT_BYTES = 1_000_000


def result(number: int, folder: str) -> bytes:
    """Return what no other task returns; leave a trace of the run."""
    tempfile.NamedTemporaryFile(prefix=f"{number}-", dir=folder, delete=False).close()
    return number.to_bytes(8, "big") * (RESULT_BYTES // 8)


def pids_of_workers(dask_scheduler: Any) -> list[int]:
    """Return the process ids that the workers registered with; runs in the scheduler."""
    return [worker.pid for worker in dask_scheduler.workers.values()]


class Driver:
    """The cluster that there is, if any, and a client of it."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.cluster: Any = None
        self.client: Any = None

    async def open(self, encrypted: bool) -> dict[str, Any]:
        """Make a cluster that has no workers yet."""
        begun = time.perf_counter()
        self.cluster = await MAKERS[self.settings["kind"]](self.settings, encrypted)
        seconds = time.perf_counter() - begun
        if isinstance(self.cluster, Bare):
            self.client = await Client(self.cluster.scheduler_address, asynchronous=True)
        else:
            self.client = await Client(self.cluster, asynchronous=True)
        return {"wall": seconds}

    async def count(self) -> int:
        """Return how many workers have registered."""
        scheduler = getattr(self.cluster, "scheduler", None)
        if scheduler is not None:
            return len(scheduler.workers)
        return len(await self.client.scheduler.ncores(workers=None))

    async def until(self, enough: Callable[[int], bool]) -> None:
        """Wait until the number of workers is right."""
        while not enough(await self.count()):
            await asyncio.sleep(LOOK_SECONDS)

    async def scale(self, n: int) -> dict[str, Any]:
        """Have so many workers; return the seconds until they are there, or have gone."""
        begun = time.perf_counter()
        scaling = self.cluster.scale(n)
        if inspect.isawaitable(scaling):
            await scaling
        await self.until(lambda count: count == n)
        return {"wall": time.perf_counter() - begun}

    async def pids(self) -> dict[str, Any]:
        """Return the processes of the workers, as the scheduler knows them.

        A worker that is asked has more memory of its own afterwards: Python copies the table of modules to
        find out what the question takes, which touches all of them.
        """
        return {"pids": await self.client.run_on_scheduler(pids_of_workers)}

    async def adapt(self, most: int) -> dict[str, Any]:
        """Submit to a cluster without workers that adapts; return when a worker and a result came."""
        adapting = self.cluster.adapt(minimum=0, maximum=most)
        if inspect.isawaitable(adapting):
            await adapting
        begun = time.perf_counter()
        future = self.client.submit(int, 7, pure=False)
        await self.until(lambda count: count >= 1)
        first = time.perf_counter() - begun
        await future
        return {"first worker": first, "first result": time.perf_counter() - begun}

    async def shrink(self, n: int, held: int) -> dict[str, Any]:
        """Have fewer workers while those that there are hold results; count what came of these.

        Returns
        -------
        dict
            Seconds until the others have gone, and until all results are at hand; what nobody has any
            more and nobody can compute again (``lost``), or is not what it was; tasks that ran once more.
        """
        with tempfile.TemporaryDirectory(dir=self.settings["folder"]) as folder:
            futures = self.client.map(result, range(held), folder=folder, pure=False)
            await self.client.gather(self.client.map(len, futures, pure=False))
            scattered = [
                await self.client.scatter(number.to_bytes(8, "big"), hash=False)
                for number in range(await self.count())
            ]
            begun = time.perf_counter()
            found = await self.scale(n)
            wrong = sum(
                value != number.to_bytes(8, "big") * (RESULT_BYTES // 8)
                for number, value in enumerate(await self.client.gather(futures))
            )
            found["until all results are at hand"] = time.perf_counter() - begun
            # Asked for, a lost one would be waited for, for ever.
            holders = await self.client.scheduler.who_has(keys=[future.key for future in scattered])
            there = [number for number, future in enumerate(scattered) if holders.get(future.key)]
            values = await self.client.gather([scattered[number] for number in there])
            wrong += sum(
                value != number.to_bytes(8, "big") for number, value in zip(there, values, strict=True)
            )
            runs = Counter(file.name.partition("-")[0] for file in Path(folder).iterdir())
            lost = len(scattered) - len(there) + wrong
        return {**found, "lost": lost, "recomputed": sum(runs.values()) - held}

    async def close(self) -> dict[str, Any]:
        """End what there is."""
        begun = time.perf_counter()
        client, cluster = self.client, self.cluster
        self.client = self.cluster = None
        if client is not None:
            await client.close()
        if cluster is not None:
            # a gateway's cluster lives on when it is merely closed
            await getattr(cluster, "shutdown", cluster.close)()
        return {"wall": time.perf_counter() - begun}


async def main() -> None:
    """Obey until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    logging.getLogger("distributed").setLevel(logging.ERROR)
    driver = Driver(json.loads(sys.stdin.readline()))  # not an argument, as there is a token in it
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            order = json.loads(line)
            try:
                async with asyncio.timeout(ORDER_SECONDS):
                    answer = await getattr(driver, order.pop("do"))(**order)
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers, flush=True)
    finally:
        with contextlib.suppress(Exception):
            async with asyncio.timeout(20):
                await driver.close()


if __name__ == "__main__":
    asyncio.run(main())

"""Workers are scaled up and down at random, under load, over an API that is slow and refuses at random.

What must be true after it: every task ran once, every result and everything scattered is what it was,
and there are as many workers as were asked for last.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from bad_api import BadApi
from distributed import Client

from hubfleet.workers import MarathonCluster

MOST_WORKERS = 5
_HELD = 60  # results that somebody wants, at most
_ROUND_SECONDS = 180.0


def value(number: int) -> bytes:
    """Return the result of a task: large, and no other's."""
    return number.to_bytes(8, "big") * (25_000 + number % 25_000)


class ScalingStorm:
    """One cluster, its load, and what must come of it.

    Parameters
    ----------
    cluster
        An asynchronous cluster that reaches the backend through `api`.
    folder
        An empty directory: every run of a task leaves a file in it.
    """

    def __init__(self, cluster: MarathonCluster, api: BadApi, folder: Path, seed: int) -> None:
        self.cluster = cluster
        self.api = api
        self.folder = folder
        self.chance = random.Random(seed)
        self.asked: Counter[str] = Counter()
        self.submitted = 0
        self._held: deque[tuple[int, Any]] = deque()
        self._scalings: set[asyncio.Task[None]] = set()

    async def rounds(self, count: int) -> None:
        """Scale so many times, then let it come to rest, and see whether all is well."""
        began = time.monotonic()
        async with Client(self.cluster, asynchronous=True) as client:
            for number in range(count):
                async with asyncio.timeout(_ROUND_SECONDS):
                    await self._round(client)
                if (number + 1) % 100 == 0:
                    print(f"{number + 1} scalings in {time.monotonic() - began:.0f} s, {dict(self.asked)}")
            async with asyncio.timeout(_ROUND_SECONDS):
                await self._come_to_rest(client)

    async def _round(self, client: Client) -> None:
        self._submit(client)
        if self.chance.random() < 0.2 and self.cluster.observed:  # else scatter would wait for a worker
            number = self._next()
            self._ran(number)
            self._held.append((number, await client.scatter(value(number), hash=False)))
            self.asked["scattered"] += 1
        before = len(self.cluster.plan)
        target = self.chance.randint(0, MOST_WORKERS)
        self.asked["up" if target > before else "down" if target < before else "same"] += 1
        scaling = asyncio.ensure_future(self._awaited(self.cluster.scale(target)))
        self._scalings.add(scaling)
        scaling.add_done_callback(self._scalings.discard)
        # Some ask again before the first has been answered.
        if self.chance.random() < 0.7 or len(self._scalings) > 3:
            await scaling
        else:
            await asyncio.sleep(self.chance.uniform(0, 0.3))
        while len(self._held) > _HELD:
            await self._check_oldest(client)

    @staticmethod
    async def _awaited(scaling: Awaitable[None]) -> None:
        await scaling

    def _submit(self, client: Client) -> None:
        folder = str(self.folder)

        def work(number: int, seconds: float, other: bytes) -> bytes:
            import tempfile
            import time

            tempfile.NamedTemporaryFile(prefix=f"{number}-", dir=folder, delete=False).close()
            time.sleep(seconds)
            return number.to_bytes(8, "big") * (25_000 + number % 25_000)

        for _ in range(self.chance.randint(1, 6)):
            number = self._next()
            # Some need the result of an earlier one, which may be on a worker that leaves.
            other = self.chance.choice(self._held)[1] if self._held and self.chance.random() < 0.3 else b""
            future = client.submit(work, number, self.chance.uniform(0, 0.15), other, pure=False)
            self._held.append((number, future))

    def _next(self) -> int:
        self.submitted += 1
        return self.submitted

    def _ran(self, number: int) -> None:
        (self.folder / f"{number}-scattered").touch()

    async def _check_oldest(self, client: Client) -> None:
        number, future = self._held.popleft()
        if future.status != "finished":
            # Whatever was asked for before: without a worker it would be waited for in vain.
            await self.cluster.scale(1)
        assert await client.gather(future) == value(number), number

    async def _come_to_rest(self, client: Client) -> None:
        """End with a number of workers, and look at everything that there is to look at."""
        while self._scalings:
            await asyncio.wait(self._scalings)
        await self.cluster.scale(MOST_WORKERS)
        while self._held:
            number, future = self._held.popleft()
            assert await client.gather(future) == value(number), number
            del future
        runs = Counter(int(file.name.partition("-")[0]) for file in self.folder.iterdir())
        lost = set(range(1, self.submitted + 1)) - set(runs)
        again = {number: count for number, count in runs.items() if count > 1}
        assert not lost
        assert not again, f"computed more than once: {again}"
        last = self.chance.randint(1, MOST_WORKERS - 1)
        await self.cluster.scale(last)
        await self._has(last)
        self.api.delay = self.api.refuses = self.api.loses = 0.0
        app = self.cluster.marathon_workers
        assert (await app.marathon.get_app(app.app_id)).instances == last

    async def _has(self, n: int) -> None:
        scheduler = self.cluster.scheduler
        assert scheduler is not None
        while not len(scheduler.workers) == len(scheduler.running) == n == len(self.cluster.plan):
            await asyncio.sleep(0.05)

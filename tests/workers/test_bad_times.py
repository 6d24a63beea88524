"""Scaling while the backend is slow, says no, loses answers, or restarts workers in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from bad_api import BadApi
from distributed import Client, wait

from hubfleet.workers import MarathonCluster

from .conftest import Runs, kill_tasks, until
from .test_cluster import has_workers, worker_names

pytestmark = pytest.mark.long


@pytest.fixture
async def api(backend: Any) -> AsyncIterator[BadApi]:
    async with BadApi(backend.url, random.Random(1)).serving() as proxy:
        yield proxy


@pytest.fixture
async def behind(api: BadApi, arguments: dict[str, Any]) -> AsyncIterator[MarathonCluster]:
    """A cluster whose every word to the backend goes through the proxy."""
    async with MarathonCluster(**{**arguments, "url": api.url}) as cluster:
        yield cluster
        api.verdict = lambda method, path: "pass"
        api.delay = 0.0


def is_kill(path: str) -> bool:
    return path.startswith("/v2/tasks/delete")


@pytest.mark.parametrize("fate", ["refuse", "lose"])
async def test_a_kill_that_fails_or_whose_answer_is_lost_is_made_once(
    behind: MarathonCluster, api: BadApi, runs: Runs, fate: str
) -> None:
    await behind.scale(3)
    await has_workers(behind, 3)
    kills: list[str] = []

    def verdict(method: str, path: str) -> str | None:
        if not is_kill(path):
            return "pass"
        kills.append(fate if len(kills) < 2 else "pass")
        return kills[-1]

    async with Client(behind, asynchronous=True) as client:
        results = client.map(runs.counting(), range(12))
        await wait(results)
        api.verdict = verdict
        await behind.scale(1)
        await has_workers(behind, 1)
        # Refused twice, it was asked for until it was taken; lost, it was not asked for again.
        assert len(kills) == (3 if fate == "refuse" else 1)
        assert behind.marathon_workers.count.instances == 1
        assert await client.gather(results) == [number * number for number in range(12)]
    assert runs.total() == 12


async def test_a_backend_that_takes_long_changes_nothing_but_the_time(
    behind: MarathonCluster, api: BadApi, runs: Runs
) -> None:
    await behind.scale(3)
    await has_workers(behind, 3)
    api.verdict = lambda method, path: "pass"
    async with Client(behind, asynchronous=True) as client:
        results = client.map(runs.counting(pause=0.05), range(60))
        api.delay = 3.0
        await behind.scale(1)
        api.delay = 0.0
        await has_workers(behind, 1)
        assert await client.gather(results) == [number * number for number in range(60)]
    assert runs.total() == 60


async def test_workers_whose_kill_never_succeeds_stay_and_work_on(
    behind: MarathonCluster, api: BadApi, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubfleet.workers.resizing._KILL_SECONDS", 1.0)
    await behind.scale(2)
    await has_workers(behind, 2)
    api.verdict = lambda method, path: "refuse" if is_kill(path) else "pass"
    await behind.scale(1)  # cannot be now; it is remembered, and no error
    async with Client(behind, asynchronous=True) as client:
        results = client.map(runs.counting(pause=0.1), range(8))
        await wait(results)
        # Nobody is left retired, though it is retired for a moment each time that the kill is tried again.
        await until(lambda: len(worker_names(behind)) == 2)
        api.verdict = lambda method, path: "pass"
        await has_workers(behind, 1)
        assert await client.gather(results) == [number * number for number in range(8)]
    assert runs.total() == 8


async def test_a_worker_that_was_replaced_while_others_leave_does_not_spoil_the_count(
    behind: MarathonCluster, api: BadApi, backend: Any
) -> None:
    await behind.scale(3)
    await has_workers(behind, 3)
    killed: list[int] = []

    def verdict(method: str, path: str) -> str:
        if is_kill(path) and not killed:
            # Just before the kill arrives, every worker dies, and the backend starts others.
            killed.extend(kill_tasks(backend))
        return "pass"

    api.verdict = verdict
    await behind.scale(1)
    assert len(killed) >= 3
    await has_workers(behind, 1)
    await until(lambda: behind.marathon_workers.count.instances == 1)


async def test_workers_that_register_while_they_are_taken_away_lose_nothing(
    behind: MarathonCluster, runs: Runs
) -> None:
    """A worker that is chosen because it is not there yet, comes, and is given work before it ends."""
    await behind.scale(1)
    await has_workers(behind, 1)
    async with Client(behind, asynchronous=True) as client:
        results = client.map(runs.counting(pause=0.1), range(60))
        for _ in range(3):
            await behind.scale(4)
            await asyncio.sleep(random.uniform(0.1, 0.6))
            await behind.scale(1)
        assert await client.gather(results) == [number * number for number in range(60)]
        await has_workers(behind, 1)
    assert runs.total() == 60


async def test_the_count_follows_a_change_that_somebody_else_made(
    behind: MarathonCluster, backend: Any
) -> None:
    await behind.scale(1)
    await has_workers(behind, 1)
    await backend.client.update_app(behind.app().id, {"instances": 2})
    await until(lambda: behind.marathon_workers.count.instances == 2 and len(behind.plan) == 2)

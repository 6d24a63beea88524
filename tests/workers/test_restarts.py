"""Workers that end rightly, by a word of the user's, are replaced at once and not after a back-off."""

from __future__ import annotations

from typing import Any

import pytest

from hubfleet.workers import MarathonCluster, following

from .conftest import until

MANY = 8

BACK_OFF = {"backoffSeconds": 3600, "maxLaunchDelaySeconds": 3600}
"""Longer than any test waits: one end that counts as a failure is one too many."""


async def all_work(cluster: MarathonCluster) -> set[str]:
    """Wait until they are there, and the cluster has taken note of it; return their names."""
    group = cluster.groups["default"]

    def seen() -> bool:
        return sum(group.crashes.worked(task, 0) is not None for task in group.plan) == MANY

    await until(seen, 120)
    return names_of(cluster)


def names_of(cluster: MarathonCluster) -> set[str]:
    """Return the workers that are there. An address would not tell: a port is given out again."""
    return {str(worker.name) for worker in cluster.scheduler.workers.values()}


async def test_workers_that_are_restarted_or_retired_by_hand_are_replaced_at_once(
    arguments: dict[str, Any], backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_WORKED", 0.0)
    async with MarathonCluster(**arguments) as cluster, cluster.get_client() as client:
        await backend.client.update_app(cluster.app().id, BACK_OFF)
        await cluster.scale(MANY)
        first = await all_work(cluster)
        held = client.submit(pow, 2, 5)
        assert await held == 32
        await client.restart(timeout=100)
        assert held.status == "cancelled"
        second = await all_work(cluster)
        assert not second & first

        results = client.map(pow, range(40), [2] * 40)
        await client.gather(results)
        leaving = set(list(second)[1:])
        await client.retire_workers(names=list(leaving))
        await until(lambda: len(names_of(cluster) - leaving) == MANY, 100)
        assert sum(await client.gather(results)) == sum(number**2 for number in range(40))

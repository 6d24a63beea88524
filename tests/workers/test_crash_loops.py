"""Workers that never come are given up on, and it is said why."""

from __future__ import annotations

from typing import Any

import pytest

from hubfleet.workers import MarathonCluster
from hubfleet.workers.crashes import LEAST_SECONDS, MOST_CRASHES, Crashes
from hubfleet.workers.waiting import WorkersMissing

from .conftest import until


def test_many_that_end_at_once_are_not_given_up_on() -> None:
    crashes = Crashes()
    for _ in range(100):
        crashes.ended(7.0)
    assert not crashes.hopeless(7.0)
    assert crashes.hopeless(7.0 + LEAST_SECONDS)


def test_one_that_comes_makes_up_for_all_that_did_not() -> None:
    crashes = Crashes()
    for second in range(MOST_CRASHES):
        crashes.ended(second * LEAST_SECONDS)
    assert crashes.hopeless(MOST_CRASHES * LEAST_SECONDS)
    crashes.see({"one"}, {"one"}, 0.0)
    assert not crashes.hopeless(MOST_CRASHES * LEAST_SECONDS)


async def test_workers_that_crash_at_once_are_given_up_on_with_their_reason(
    arguments: dict[str, Any], backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with MarathonCluster(n_workers=3, preload="no.such.module", **arguments) as cluster:
        await until(lambda: "no more workers are started" in caplog.text, 120)
        assert "workers ended before they had reached the scheduler" in caplog.text
        assert "No module named" in caplog.text
        await until(lambda: cluster.marathon_workers.count.instances == 0)
        assert (await backend.client.get_app(cluster.app().id)).instances == 0
        await until(lambda: not backend.tasks())
        # Who looks, or waits, later on is told as well.
        assert "no more workers are started, since" in cluster._scaling_status()
        with pytest.raises(WorkersMissing, match=r"no more workers are started, since .* No module named"):
            await cluster.wait_for_workers(1, timeout=0.1)


async def test_adaptive_scaling_does_not_try_again_at_once(
    arguments: dict[str, Any], backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with MarathonCluster(**{**arguments, "python": "/no/such/python"}) as cluster:
        adaptive = cluster.adapt(minimum=2, interval="100ms")
        await until(lambda: "there will be 0 workers and not 2: the last" in caplog.text, 120)
        looks = len(adaptive.log)
        await until(lambda: len(adaptive.log) > looks + 10)
        assert cluster.marathon_workers.count.instances == 0
        assert caplog.text.count("no more workers are started") == 1

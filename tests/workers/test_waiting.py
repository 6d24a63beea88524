"""Who waits for workers that do not come is told what they wait for."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from distributed.exceptions import WorkerStartTimeoutError

from hubfleet.workers import MarathonCluster
from hubfleet.workers.counting import WAITING
from hubfleet.workers.states import GroupState
from hubfleet.workers.waiting import WorkersMissing, what_is_missing

from .conftest import GROUP, until
from .test_cluster import has_workers

RUNNING = "TASK_RUNNING"


async def test_workers_without_room_are_missed_with_the_backends_reason(
    arguments: dict[str, Any], backend: Any
) -> None:
    reason = r"arrived after 0.1: 1 waiting for room: .*50 cpus"
    async with MarathonCluster(n_workers=2, **{**arguments, "cpus": 50}) as cluster:
        await has_workers(cluster, 1)
        await until(lambda: "50 cpus" in cluster.marathon_workers.waiting_for, what="why the other waits")
        with pytest.raises(WorkersMissing, match=f"Only 1/2 workers {reason}"):
            await cluster.wait_for_workers(2, timeout=0.1)
        async with cluster.get_client() as client:
            with pytest.raises(WorkerStartTimeoutError, match=f"Only 1/2 workers {reason}"):
                await client.wait_for_workers(2, timeout=0.1)
        place = {"url": backend.url, "token": backend.admin_token, "group": GROUP, "asynchronous": True}
        async with await MarathonCluster.from_name(cluster.name, **place) as elsewhere:
            with pytest.raises(WorkersMissing, match=f"Only 1/2 workers {reason}"):
                await elsewhere.wait_for_workers(2, timeout=0.1)


async def test_workers_that_nobody_has_asked_for_are_missed_with_the_way_to_ask(
    cluster: MarathonCluster,
) -> None:
    with pytest.raises(WorkersMissing, match=r"is to have 0 at present, and more after scale\(2\)"):
        await cluster.wait_for_workers(2, timeout=0.1)


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        ({"default": GroupState({"a": RUNNING, "b": RUNNING}, present=1)}, "1 starting"),
        ({"default": GroupState({"a": RUNNING, "b": RUNNING}, present=2)}, ""),
        (
            {"default": GroupState({"a": RUNNING}, present=1, limit="there will be 1 and not 2: why")},
            "there will be 1 and not 2: why",
        ),
        (
            {
                "default": GroupState({"a": RUNNING}, present=1),
                "gpu": GroupState({"waiting-0": WAITING}, waiting_for="0 of 1 gpus are free"),
            },
            "group gpu: 1 waiting for room: 0 of 1 gpus are free",
        ),
    ],
)
def test_what_is_missing_is_told_of_each_group(groups: dict[str, GroupState], sentence: str) -> None:
    assert what_is_missing(2, groups) == sentence


def test_the_error_can_be_sent_and_says_no_more_than_is_known() -> None:
    error = WorkersMissing(1, 2, 3.0, "1 starting")
    assert str(error) == "Only 1/2 workers arrived after 3.0: 1 starting"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(WorkersMissing(1, 2, 3.0, "")) == "Only 1/2 workers arrived after 3.0"

"""Cores and memory become numbers of workers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hubfleet.workers.amounts import with_bounds_in_workers, workers_wanted
from hubfleet.workers.options import WorkerOptions

# 2 threads and 3 GB each, as in distributed's own test of these bounds.
WORKER = WorkerOptions(nthreads=2, mem=3e9 / 0.8 / 2**20)


@pytest.mark.parametrize(
    ("asked", "workers"),
    [
        ((3, None, None), 3),
        ((None, 3, None), 2),
        ((None, None, "7GB"), 3),
        ((1, 9, "7GB"), 5),
        ((None, 0, None), 0),
        ((None, 2.5, None), 2),
    ],
)
def test_as_many_workers_as_have_it_all(asked: Any, workers: int) -> None:
    assert workers_wanted(WORKER, *asked) == workers


@pytest.mark.parametrize(
    ("asked", "kind", "sentence"),
    [
        ((None, None, None), TypeError, "scale needs a number of workers, cores=... or memory=..."),
        ((None, -1, None), ValueError, "cores must be a number, at least 0; got -1"),
        ((None, "many", None), TypeError, "cores must be a number"),
        ((None, None, "much"), ValueError, "memory must be a number of bytes, or a text such as '10 GB'"),
        ((None, None, True), TypeError, "memory must be"),
        ((None, math.inf, None), ValueError, "cores must be a number"),
        ((None, None, "1 PB"), ValueError, "the number of workers must be a whole number from 0 to 10000"),
        ((2.0, None, None), TypeError, "the number of workers must be a whole number"),
    ],
)
def test_amounts_that_are_none(asked: Any, kind: Any, sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        workers_wanted(WORKER, *asked)


@pytest.mark.parametrize(
    ("bounds", "minimum", "maximum"),
    [
        ({"minimum_cores": 3, "maximum_cores": 9}, 2, 4),
        ({"minimum_memory": "7GB", "maximum_memory": "20 GB"}, 3, 6),
        (
            {
                "minimum_cores": 1,
                "minimum_memory": "7GB",
                "maximum_cores": 10,
                "maximum_memory": "1 TB",
            },
            3,
            5,
        ),
        ({"minimum": 4, "minimum_cores": 2, "maximum": 5, "maximum_cores": 100}, 4, 5),
        ({"minimum": 0, "maximum": math.inf, "maximum_cores": 4}, 0, 2),
    ],
)
def test_the_narrower_bound_holds(bounds: dict[str, Any], minimum: int, maximum: int) -> None:
    """The first three are what distributed's own test_adapt_cores_memory expects."""
    found = with_bounds_in_workers(WORKER, bounds)
    assert (found.get("minimum"), found["maximum"]) == (minimum, maximum)


def test_what_is_counted_are_workers_however_many_are_in_a_task() -> None:
    four = WorkerOptions(nthreads=2, mem=4 * 3e9 / 0.8 / 2**20, nworkers=4, nanny=True)
    assert workers_wanted(four, 6, None, None) == 6
    assert workers_wanted(four, None, 9, "7GB") == 5
    assert with_bounds_in_workers(four, {"minimum": 1, "maximum_cores": 12}) == {"minimum": 1, "maximum": 6}
    with pytest.raises(ValueError, match="maximum must be 0 or at least the 4 workers that come and go"):
        with_bounds_in_workers(four, {"maximum": 3})


def test_a_bound_of_less_than_a_worker_is_refused() -> None:
    with pytest.raises(ValueError, match="maximum_cores must be 0 or at least one worker, which has 2"):
        with_bounds_in_workers(WORKER, {"maximum_cores": 1})
    assert with_bounds_in_workers(WORKER, {"maximum_cores": 0}) == {"maximum": 0}

"""Workers with another Python or Dask than the notebook's are told of, once, when they come."""

from __future__ import annotations

import logging
from typing import Any

import distributed.worker
import pytest
from distributed import Worker
from distributed.versions import get_versions

from hubfleet.workers import MarathonCluster
from hubfleet.workers.versions import mismatch, packages

OURS = {"python": "3.11", "dask": "2026.8.0", "distributed": "2026.8.0"}


def test_what_matters_is_taken_from_what_distributed_tells() -> None:
    found = packages(get_versions())
    assert set(found) == set(OURS)
    assert found["python"].count(".") == 1
    assert packages({}) == packages({"packages": None}) == {}


@pytest.mark.parametrize("theirs", [{}, OURS, {"dask": "2026.8.0"}])
def test_nothing_is_said_where_nothing_differs_or_is_known(theirs: dict[str, str]) -> None:
    assert mismatch(OURS, theirs) is None


def test_what_differs_is_said_with_what_to_do() -> None:
    sentence = mismatch(OURS, {**OURS, "python": "3.13", "distributed": "2026.6.0"})
    assert sentence is not None
    assert "workers have python 3.13, distributed 2026.6.0" in sentence
    assert "this process has python 3.11, distributed 2026.8.0" in sentence
    assert "image=" in sentence
    assert "dask 2026" not in sentence


async def test_the_user_is_told_once_when_such_workers_come(
    cluster: MarathonCluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The workers are real ones of this process, which say that they are of another environment."""
    await same(cluster)
    assert "understood" not in caplog.text

    def other() -> dict[str, Any]:
        found = get_versions()
        return {**found, "packages": {**found["packages"], "python": "3.9.1.final.0"}}

    monkeypatch.setattr(distributed.worker, "get_versions", other)
    caplog.set_level(logging.WARNING, "hubfleet.workers")
    await same(cluster)
    await same(cluster)
    assert caplog.text.count("the workers have python 3.9, and this process has python") == 1


async def same(cluster: MarathonCluster) -> None:
    async with Worker(cluster.scheduler_address, security=cluster.security, dashboard=False):
        pass

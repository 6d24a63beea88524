"""What a user may have reaches them as a sentence, and is used up to the last bit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sites import Site, site_for_one

from hubfleet.api.app import App
from hubfleet.workers import MarathonCluster
from hubfleet.workers.waiting import WorkersMissing

from .conftest import GROUP, until
from .test_cluster import has_workers

pytestmark = pytest.mark.long


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    quota = 'c.Backend.user_quota = {"instances": 4, "cpus": 2}'
    async with site_for_one(tmp_path, configuration=quota) as running:
        yield running


@pytest.fixture
def of_alice(site: Site) -> dict[str, Any]:
    return {
        "url": site.backend.url,
        "token": "token-of-alice",
        "group": GROUP,
        "cpus": 0.1,
        "asynchronous": True,
    }


async def test_scaling_beyond_the_limit_scales_to_the_limit_and_says_who_has_what(
    site: Site, of_alice: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await site.backend.client.create_app(App(id="/jupyter/alice/notebook", cmd="exec sleep 600", cpus=0.1))
    async with MarathonCluster(**of_alice) as cluster:
        await cluster.scale(100)
        await has_workers(cluster, 3)
        assert (
            "there will be 3 workers and not 100: the user alice may have 4 instances in all" in caplog.text
        )
        assert "(1 by /jupyter/alice/notebook)" in caplog.text
        # The widget and the cluster's page say it too, for as long as it is so.
        sentence = "there will be 3 workers and not 100"
        assert sentence in cluster._scaling_status()
        assert sentence in cluster._repr_html_()
        with pytest.raises(WorkersMissing, match=f"Only 3/4 workers .*: {sentence}: the user alice may have"):
            await cluster.wait_for_workers(4, timeout=0.1)
        await cluster.scale(2)
        await has_workers(cluster, 2)
        assert sentence not in cluster._scaling_status()


async def test_a_cluster_that_begins_with_too_many_has_as_many_as_are_allowed(
    of_alice: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with MarathonCluster(n_workers=3, **{**of_alice, "cpus": 1}) as cluster:
        await has_workers(cluster, 2)
        assert "there will be 2 workers and not 3: the user alice may have 2 cpus in all" in caplog.text


async def test_adaptive_scaling_takes_what_is_allowed_and_is_not_a_nuisance(
    of_alice: dict[str, Any], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubfleet.workers.adaptive._HOLD_FIRST", 1000.0)  # so long does no test take
    async with MarathonCluster(**of_alice) as cluster:
        asked: list[int] = []
        update = cluster.marathon_workers.marathon.update_app

        async def counted_update(app_id: str, changes: dict[str, Any], force: bool = False) -> Any:
            asked.append(changes["instances"])
            return await update(app_id, changes, force)

        cluster.marathon_workers.marathon.update_app = counted_update  # type: ignore[method-assign]
        adaptive = cluster.adapt(minimum=8, interval="50ms")
        await has_workers(cluster, 4)
        await until(lambda: len(adaptive.log) > 20, what="it has looked often since")
        assert (
            caplog.text.count("there will be 4 workers and not 8: the user alice may have 4 instances") == 1
        )
        assert asked == [8, 4]


async def test_who_has_no_room_at_all_is_told_and_gets_it_when_there_is(
    site: Site, of_alice: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    other = App(id=f"{GROUP}/other/workers", cmd="exec sleep 600", cpus=0.1, instances=4)
    await site.backend.client.create_app(other)
    async with MarathonCluster(**of_alice) as cluster:
        await cluster.scale(2)
        assert "there will be 0 workers and not 2: " in caplog.text
        assert f"4 by {other.id}" in caplog.text
        await site.backend.client.delete_app(other.id)
        await site.admin.deployed()  # those that still end are counted, too
        await cluster.scale(2)
        await has_workers(cluster, 2)

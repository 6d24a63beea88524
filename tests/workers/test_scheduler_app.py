"""A scheduler in an app of its own: it outlives the notebook, is found again, and scales by itself."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from certified import authority, relaying
from distributed.client import FutureCancelledError

from hubfleet.api.errors import BackendUnreachable, Conflict
from hubfleet.workers import MarathonCluster
from hubfleet.workers.far import ClusterNotFound

from .conftest import GROUP, command_lines, kill_tasks, until

pytestmark = pytest.mark.long


@pytest.fixture
async def far(arguments: dict[str, Any]) -> AsyncIterator[MarathonCluster]:
    async with MarathonCluster("far", scheduler="app", **arguments) as cluster:
        yield cluster


@pytest.fixture
def place(backend: Any) -> dict[str, Any]:
    return {"url": backend.url, "token": backend.admin_token, "group": GROUP, "asynchronous": True}


async def test_it_outlives_its_maker_is_found_again_adapts_by_itself_and_ends_whole(
    far: MarathonCluster, place: dict[str, Any], backend: Any
) -> None:
    await far.adapt(minimum=0, maximum=2, interval="50ms")
    await far.add_worker_group("big", nthreads=2, resources={"ROOM": 1})
    far.shutdown_on_close = False  # type: ignore[attr-defined]
    await far.close()
    async with await MarathonCluster.from_name("far", **place) as again:
        assert set(again.group_states()) == {"default", "big"}
        assert again.group_states()["default"].bounds == (0, 2)
        assert again.dashboard_link
        async with again.get_client() as client:
            assert await client.submit(sum, [1, 2]) == 3  # nobody but the scheduler's own process scaled
            assert again.scheduler_address.startswith("tls://")
        await again.scale(cores=2, group="big")
        await until(lambda: again.group_states()["big"].present == 1, 60)
        assert "Register worker" in "".join((await again.get_logs()).values())
    assert len(await backend.client.list_apps()) == 3
    whole = await MarathonCluster.from_name("far", shutdown_on_close=True, **place)
    await whole.close()
    assert await backend.client.list_apps() == []


async def test_refusals_come_as_they_would_from_a_scheduler_here(
    far: MarathonCluster, arguments: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="there is no group 'gpu'; there are 'default'"):
        await far.scale(1, group="gpu")
    with pytest.raises(TypeError, match="has no option 'memory'"):
        await far.add_worker_group("gpu", memory=1)
    with pytest.raises(ValueError, match="minimum=3, maximum=2"):
        await far.adapt(minimum=3, maximum=2)
    with pytest.raises(TypeError, match="adapt has no option 'maximun'"):
        far.adapt(maximun=2)
    with pytest.raises(ValueError, match="must be a whole number from 0"):
        far.scale(-1)
    with pytest.raises(Conflict, match=r"named 'far' already .* MarathonCluster.from_name"):
        await MarathonCluster("far", scheduler="app", **arguments)


async def test_it_ends_when_nobody_has_used_it_for_long(arguments: dict[str, Any], backend: Any) -> None:
    async with MarathonCluster(scheduler="app", idle_timeout="8s", n_workers=1, **arguments) as cluster:
        await until(lambda: cluster.status.name == "closed", 90, "it has ended")
    assert await backend.client.list_apps() == []


async def test_a_cluster_of_another_process_is_found_too_and_one_that_is_not_there_is_not(
    cluster: MarathonCluster, place: dict[str, Any]
) -> None:
    async with await MarathonCluster.from_name(cluster.name, **place) as again:
        await again.scale(1)
        await again.wait_for_workers(1, timeout=90)
    assert len(cluster.plan) == 1
    with pytest.raises(ClusterNotFound, match=rf"named 'other' in {GROUP}; there are '{cluster.name}'"):
        await MarathonCluster.from_name("other", **place)


async def test_what_is_secret_is_in_the_environment_alone(far: MarathonCluster, backend: Any) -> None:
    app = await backend.client.get_app(f"{GROUP}/far/scheduler")
    key = app.env["DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY"]
    assert "PRIVATE KEY" in key
    assert backend.admin_token not in (app.cmd or "")
    shown = command_lines(backend)
    assert "hubfleet.workers.scheduler" in shown
    assert key not in shown
    assert backend.admin_token not in shown
    logs = "".join((await far.get_logs()).values())
    assert key not in logs
    assert backend.admin_token not in logs


async def test_one_that_is_killed_begins_anew_with_what_was_asked_for_here_and_nothing_is_there_twice(
    far: MarathonCluster, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await far.adapt(minimum=1, maximum=2, interval="50ms")
    await far.add_worker_group("big", 1)
    before = far.scheduler_info["id"]
    async with far.get_client() as client:
        assert await client.submit(sum, [1, 2]) == 3
        await until(lambda: far.group_states()["big"].present == 1, 60)
        lost = client.submit(max, [1, 2], resources={"NONE": 1})
        kill_tasks(backend, "_scheduler.")
        await until(lambda: far.scheduler_info["id"] != before, 90, "it is found again")
        with pytest.raises(FutureCancelledError):
            await lost
        await until(lambda: "make a new client (get_client) and submit again" in caplog.text, 60)
        assert far.get_client() is not client
        async with far.get_client() as again:
            assert await again.submit(sum, [1, 2]) == 3
        await until(lambda: far.group_states()["default"].bounds == (1, 2), 60, "it adapts again")
        await until(lambda: far.group_states()["big"].present == 1, 60)
        # Those of before have been removed with their apps: a scheduler and one worker of each group.
        await until(lambda: len(backend.tasks()) == 3, 60)
    assert len(await backend.client.list_apps()) == 3
    assert caplog.text.count("started anew") == 1


async def test_one_that_is_killed_while_nobody_looks_has_as_many_workers_as_it_had(
    far: MarathonCluster, place: dict[str, Any], backend: Any
) -> None:
    await far.scale(2)
    await until(lambda: far.group_states()["default"].present == 2, 60)
    far.shutdown_on_close = False  # type: ignore[attr-defined]
    await far.close()
    before = {task.pid for task in backend.tasks()}
    kill_tasks(backend, "_scheduler.")
    async with await MarathonCluster.from_name("far", shutdown_on_close=True, **place) as again:
        await until(lambda: again.group_states()["default"].present == 2, 60)
        await until(lambda: len(backend.tasks()) == 3, 60)
        assert not before & {task.pid for task in backend.tasks()}


async def test_one_that_cannot_start_is_said_so_with_its_own_words(
    arguments: dict[str, Any], backend: Any
) -> None:
    with pytest.raises(ClusterNotFound, match=r"'far' is away: it ended: .* 5000 cpus asked"):
        await MarathonCluster("far", scheduler="app", **{**arguments, "n_workers": 1, "cpus": 5000})
    assert await backend.client.list_apps() == []


async def test_a_backend_with_certificates_of_the_sites_own_is_trusted_by_notebook_and_scheduler(
    arguments: dict[str, Any], backend: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = authority(tmp_path / "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*ours.issue("server"))
    async with relaying(backend.port, context) as port:
        there = {**arguments, "url": f"https://127.0.0.1:{port}", "n_workers": 1}
        with pytest.raises(BackendUnreachable, match="certificate"):
            await MarathonCluster("far", scheduler="app", **there)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", ours.file)
        async with (
            MarathonCluster("far", scheduler="app", **there) as cluster,
            cluster.get_client() as client,
        ):
            assert await client.submit(sum, [1, 2]) == 3

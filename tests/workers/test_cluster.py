"""A cluster on a real backend: real scheduler, real workers, real TLS."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import dask.config
import psutil
import pytest
from distributed import Client, Security, wait

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.api.errors import AccessDenied, BackendUnreachable, Conflict, NotFound, RequestRefused
from hubfleet.api.status import DeploymentResult
from hubfleet.workers import MarathonCluster
from hubfleet.workers.tls import KEY_VARIABLE

from .conftest import GROUP, Runs, command_lines, kill_tasks, until

pytestmark = pytest.mark.long


def worker_names(cluster: MarathonCluster) -> set[str]:
    """Return the names of the workers that are registered and may be given tasks."""
    assert cluster.scheduler is not None
    return {str(worker.name) for worker in cluster.scheduler.running}


async def has_workers(cluster: MarathonCluster, n: int) -> None:
    """Wait until exactly `n` workers are registered, none of them on the way out."""
    assert cluster.scheduler is not None
    scheduler = cluster.scheduler
    await until(lambda: len(scheduler.workers) == len(scheduler.running) == n, what=f"{n} workers")


async def test_workers_are_instances_of_one_app_and_bear_the_names_of_its_tasks(
    cluster: MarathonCluster, backend: Any
) -> None:
    await cluster.scale(3)
    await has_workers(cluster, 3)
    app = await backend.client.get_app(f"{GROUP}/{cluster.name}/workers")
    assert app.instances == 3
    assert {task.id for task in app.tasks} == worker_names(cluster)
    assert app.labels[labels.CLUSTER] == cluster.name
    await until(lambda: cluster.plan == cluster.requested == cluster.observed == worker_names(cluster))


async def test_scale_goes_up_and_down_and_says_how_it_stands(cluster: MarathonCluster) -> None:
    await cluster.scale(2)
    assert len(cluster.plan) == 2  # at once, under placeholders if need be
    await has_workers(cluster, 2)
    await until(lambda: "workers=2 of 2" in repr(cluster))
    await cluster.scale(0)
    await has_workers(cluster, 0)
    assert cluster.workers == {}


async def test_scaling_down_loses_nothing_and_computes_nothing_twice(
    cluster: MarathonCluster, runs: Runs
) -> None:
    await cluster.scale(4)
    await has_workers(cluster, 4)
    async with Client(cluster, asynchronous=True) as client:
        results = client.map(runs.counting(), range(40))
        await wait(results)
        scattered = await client.scatter([f"only here {number}" for number in range(20)])
        holders = await client.who_has([*results, *scattered])
        assert len({address for addresses in holders.values() for address in addresses}) == 4

        await cluster.scale(1)
        await has_workers(cluster, 1)
        assert await client.gather(results) == [number * number for number in range(40)]
        assert await client.gather(scattered) == [f"only here {number}" for number in range(20)]
    assert runs.total() == 40


async def test_tasks_that_run_or_wait_during_a_scale_down_run_once(
    arguments: dict[str, Any], runs: Runs
) -> None:
    # So the scheduler holds nothing back: beside the task that runs on it, each worker has some that wait.
    with dask.config.set({"distributed.scheduler.worker-saturation": "inf"}):
        cluster = await MarathonCluster(n_workers=4, **arguments)
    async with cluster, Client(cluster, asynchronous=True) as client:
        await has_workers(cluster, 4)
        assert cluster.scheduler is not None
        results = client.map(runs.counting(held=True), range(24))
        await until(lambda: runs.total() == 4, what="all four run")
        busy = [len(worker.processing) for worker in cluster.scheduler.workers.values()]
        assert min(busy) > 2, busy
        scaling = cluster.scale(1)

        def left() -> list[int]:
            return sorted(len(worker.processing) for worker in cluster.scheduler.workers.values())

        # What runs is awaited, what waits is not: it goes to the one that stays.
        await until(lambda: left() == [1, 1, 1, 21], what="what waits has gone to the one that stays")
        assert not scaling.done()
        runs.let_go()
        await scaling
        await has_workers(cluster, 1)
        assert await client.gather(results) == [number * number for number in range(24)]
    assert runs.total() == 24


async def test_a_task_longer_than_the_patience_starts_anew_without_blame(
    arguments: dict[str, Any], runs: Runs
) -> None:
    async with (
        MarathonCluster(n_workers=2, drain_seconds=0.5, **arguments) as cluster,
        Client(cluster, asynchronous=True) as client,
    ):
        await has_workers(cluster, 2)
        results = client.map(runs.counting(held=True), range(2))
        await until(lambda: runs.total() == 2, what="both run")
        await cluster.scale(1)
        await has_workers(cluster, 1)
        assert cluster.scheduler is not None
        assert {cluster.scheduler.tasks[result.key].suspicious for result in results} == {0}
        runs.let_go()
        assert await client.gather(results) == [0, 1]
    assert runs.total() == 3


async def test_results_without_another_place_keep_their_worker(
    cluster: MarathonCluster, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    await cluster.scale(2)
    await has_workers(cluster, 2)
    async with Client(cluster, asynchronous=True) as client:
        results = client.map(runs.counting(), range(8))
        await wait(results)
        await cluster.scale(0)
        await has_workers(cluster, 1)
        assert "1 workers stay instead of 0, because results" in caplog.text
        assert await client.gather(results) == [number * number for number in range(8)]
        # It takes tasks again: nobody was left retired.
        assert await client.submit(runs.counting(), 9) == 81
        del results
        await until(lambda: not any(worker.has_what for worker in cluster.scheduler.workers.values()))
        await cluster.scale(0)
        await has_workers(cluster, 0)
    assert runs.total() == 9


async def test_adaptive_scaling_follows_the_load_up_and_down(cluster: MarathonCluster, runs: Runs) -> None:
    cluster.adapt(minimum=0, maximum=3, interval="100ms", target_duration="1s")
    async with Client(cluster, asynchronous=True) as client:
        results = client.map(runs.counting(held=True), range(30))
        await has_workers(cluster, 3)
        runs.let_go()
        assert await client.gather(results) == [number * number for number in range(30)]
        # While results are wanted somebody holds them.
        await until(lambda: len(cluster.plan) == 1, what="the idle ones leave")
        assert await client.gather(results) == [number * number for number in range(30)]
        del results
        await has_workers(cluster, 0)
        await until(lambda: not cluster.plan)
    assert runs.most() == 1


async def test_scale_ends_adaptive_scaling(cluster: MarathonCluster) -> None:
    adaptive = cluster.adapt(minimum=2, maximum=4, interval="100ms")
    await has_workers(cluster, 2)
    await cluster.scale(1)
    assert adaptive.state == "stopped"
    await has_workers(cluster, 1)


async def test_adapting_again_replaces_the_former_bounds(cluster: MarathonCluster) -> None:
    first = cluster.adapt(minimum=1, maximum=1, interval="100ms")
    await has_workers(cluster, 1)
    second = cluster.adapt(minimum=2, interval="100ms")
    assert (first.state, second.minimum, second.maximum) == ("stopped", 2, float("inf"))
    await has_workers(cluster, 2)


async def test_a_worker_that_dies_is_replaced_under_another_name(
    cluster: MarathonCluster, backend: Any
) -> None:
    await cluster.scale(1)
    await has_workers(cluster, 1)
    (before,) = worker_names(cluster)
    kill_tasks(backend)
    await until(lambda: worker_names(cluster) not in (set(), {before}), what="another worker")
    await until(lambda: cluster.plan == cluster.observed, what="the plan knows it")


async def test_without_the_certificate_nobody_is_let_in(cluster: MarathonCluster) -> None:
    address = cluster.scheduler_address
    assert address.startswith("tls://")
    with pytest.raises(OSError, match=r"."):
        await Client(address, asynchronous=True, timeout=2, security=Security.temporary())
    with pytest.raises(OSError, match=r"."):
        await Client(address.replace("tls://", "tcp://"), asynchronous=True, timeout=2)
    async with Client(address, asynchronous=True, security=cluster.security) as client:
        assert client.scheduler_info()["address"] == address


async def test_the_workers_too_speak_tls_only(cluster: MarathonCluster) -> None:
    await cluster.scale(2)
    await has_workers(cluster, 2)
    assert cluster.scheduler is not None
    assert all(address.startswith("tls://") for address in cluster.scheduler.workers)


async def test_the_private_key_is_in_no_command_line_and_no_log(
    cluster: MarathonCluster, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    await cluster.scale(1)
    await has_workers(cluster, 1)
    key = cluster.security.tls_worker_key.splitlines()[1]
    commands = command_lines(backend)
    assert "dask_worker" in commands
    assert key not in commands
    assert key not in caplog.text + backend.log.read_text()
    assert key not in repr(cluster) + cluster.app().model_dump_json() + cluster._repr_html_()
    assert key in str((await backend.client.get_app(cluster.app().id)).env[KEY_VARIABLE])


async def test_encryption_can_be_switched_off(arguments: dict[str, Any]) -> None:
    async with MarathonCluster(n_workers=1, security=False, **arguments) as cluster:
        assert cluster.scheduler_address.startswith("tcp://")
        await has_workers(cluster, 1)
        async with Client(cluster, asynchronous=True) as client:
            assert await client.submit(sum, [1, 2]) == 3


async def test_close_leaves_no_app_and_no_process(arguments: dict[str, Any], backend: Any) -> None:
    cluster = await MarathonCluster(n_workers=2, **arguments)
    await has_workers(cluster, 2)
    app_id = cluster.app().id
    await cluster.close()
    assert backend.tasks() == []  # at once: closing waits for it
    with pytest.raises(NotFound):
        await backend.client.get_app(app_id)
    with pytest.raises(RuntimeError, match="is closed: make a new one"):
        cluster.scale(1)


async def test_close_does_not_wait_for_what_runs(arguments: dict[str, Any], backend: Any, runs: Runs) -> None:
    cluster = await MarathonCluster(n_workers=2, **arguments)
    async with Client(cluster, asynchronous=True) as client:
        await has_workers(cluster, 2)
        futures = client.map(runs.counting(held=True), range(4))
        await until(lambda: runs.total() == 2, what="both workers are busy")
        await asyncio.wait_for(cluster.close(), 60)
        assert backend.tasks() == []
        del futures


async def test_the_workers_end_with_the_server_that_owns_them(
    arguments: dict[str, Any], backend: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = App(id="/jupyter/alice/notebook", cmd="exec sleep 1000", cpus=0.1, mem=32)
    await backend.client.create_app(server)
    monkeypatch.setenv("MARATHON_APP_ID", server.id)
    async with MarathonCluster(n_workers=1, **arguments) as cluster:
        await has_workers(cluster, 1)
        assert (await backend.client.get_app(cluster.app().id)).labels[labels.OWNER] == server.id
        await backend.client.delete_app(server.id)
        await until(lambda: not backend.tasks(), what="the workers end")
        with pytest.raises(NotFound):
            await backend.client.get_app(cluster.app().id)


async def test_an_owner_can_be_given_or_done_without(
    arguments: dict[str, Any], backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARATHON_APP_ID", "/of/another/backend")
    async with MarathonCluster(owner="", **arguments) as cluster:
        assert labels.OWNER not in (await backend.client.get_app(cluster.app().id)).labels


async def test_a_name_that_is_taken_is_left_alone(arguments: dict[str, Any], backend: Any) -> None:
    async with MarathonCluster(name="mine", n_workers=1, **arguments) as cluster:
        await has_workers(cluster, 1)
        with pytest.raises(Conflict, match="there is a Dask cluster named 'mine' already"):
            await MarathonCluster(name="mine", **arguments)
        assert (await backend.client.get_app(cluster.app().id)).instances == 1
        assert len(worker_names(cluster)) == 1


async def test_a_wrong_token_is_refused_with_the_backends_sentence(arguments: dict[str, Any]) -> None:
    with pytest.raises(AccessDenied):
        await MarathonCluster(**{**arguments, "token": "nobody-knows-this-token"})


async def test_a_backend_that_is_not_there_is_named(arguments: dict[str, Any]) -> None:
    with pytest.raises(BackendUnreachable, match=r"http://127\.0\.0\.1:1: Connection refused"):
        await asyncio.wait_for(MarathonCluster(**{**arguments, "url": "http://127.0.0.1:1"}), 60)


async def test_work_goes_on_while_the_backend_is_dead_and_scaling_resumes(
    cluster: MarathonCluster, backend: Any, runs: Runs, caplog: pytest.LogCaptureFixture
) -> None:
    await cluster.scale(2)
    await has_workers(cluster, 2)
    before = worker_names(cluster)
    async with Client(cluster, asynchronous=True) as client:
        await backend.kill()
        results = client.map(runs.counting(pause=0.05), range(20))
        await cluster.scale(3)  # cannot be now; it is remembered, and no error
        assert await client.gather(results) == [number * number for number in range(20)]
        assert worker_names(cluster) == before
        # By this wish, or by who looks after the workers: whoever has met it first.
        told = re.findall("3 workers when the backend answers|scaling waits", caplog.text)
        assert len(told) == 1

        await backend.start()
        await has_workers(cluster, 3)
        assert before < worker_names(cluster)  # nobody was replaced
        await cluster.scale(1)
        await has_workers(cluster, 1)
        assert await client.gather(results) == [number * number for number in range(20)]
    assert runs.total() == 20


async def test_adaptive_scaling_waits_for_a_dead_backend_and_says_so_once(
    cluster: MarathonCluster, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await backend.kill()
    adaptive = cluster.adapt(minimum=1, maximum=2, interval="50ms")
    await until(lambda: "scaling waits" in caplog.text, what="it is said")
    await until(lambda: len(adaptive.log) > 20, what="it has tried for a while")
    assert caplog.text.count("scaling waits") == 1
    assert "encountered an error" not in caplog.text
    await backend.start()
    await has_workers(cluster, 1)


async def test_a_worker_that_dies_while_the_backend_is_dead_is_replaced_afterwards(
    cluster: MarathonCluster, backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.adapt(minimum=1, maximum=1, interval="50ms")
    await has_workers(cluster, 1)
    await backend.kill()
    kill_tasks(backend)
    asked = cluster.marathon_workers._asked
    await until(
        lambda: cluster.marathon_workers._asked > asked + 3, what="the backend is asked again and again"
    )
    assert caplog.text.count("scaling waits") == 1
    await backend.start()
    await has_workers(cluster, 1)


async def test_a_refusal_that_names_no_smaller_number_reaches_the_caller_and_changes_nothing(
    cluster: MarathonCluster,
) -> None:
    await cluster.scale(1)

    async def refuse(app_id: str, changes: dict[str, Any], force: bool = False) -> DeploymentResult:
        # A double of a Marathon with a plug-in for its quotas.
        raise RequestRefused("alice may have 3 workers", 422)

    cluster.marathon_workers.marathon.update_app = refuse  # type: ignore[method-assign]
    with pytest.raises(RequestRefused, match="alice may have 3 workers"):
        await cluster.scale(4)
    await has_workers(cluster, 1)
    assert len(cluster.plan) == 1


async def test_an_app_that_somebody_removed_is_said_to_be_gone(
    cluster: MarathonCluster, backend: Any
) -> None:
    await backend.client.delete_app(cluster.app().id)
    with pytest.raises(NotFound, match=r"were removed, .* close this cluster and make a new one"):
        await cluster.scale(1)


async def test_a_worker_that_cannot_start_is_told_with_its_reason(
    arguments: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with MarathonCluster(n_workers=1, python="/no/such/python", **arguments):
        await until(lambda: "a worker ended badly and is replaced" in caplog.text)
        assert caplog.text.count("a worker ended badly") == 1


async def test_no_process_of_ours_is_left(arguments: dict[str, Any]) -> None:
    """Neither threads nor children: what a cluster starts here ends with it."""
    here = psutil.Process()
    children = set(here.children())
    tasks = asyncio.all_tasks()
    for _ in range(3):
        async with MarathonCluster(n_workers=1, **arguments) as cluster:
            await has_workers(cluster, 1)
    await until(lambda: not {task for task in asyncio.all_tasks() - tasks if "follow" in task.get_name()})
    await until(lambda: set(here.children()) <= children)

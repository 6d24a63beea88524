"""What a cluster shows of itself, and what remains to be read of workers that have ended."""

from __future__ import annotations

from typing import Any

from distributed.comm import CommClosedError

from hubfleet.workers import MarathonCluster, logs

from .conftest import kill_tasks, until


async def test_logs_of_live_and_dead_workers_with_what_tasks_printed(
    cluster: MarathonCluster, backend: Any
) -> None:
    await cluster.scale(2)
    await cluster.wait_for_workers(2, timeout=100)
    async with cluster.get_client() as client:
        addresses = sorted(cluster.scheduler_info["workers"])
        for number, address in enumerate(addresses):
            await client.submit(print, f"word {number}", workers=[address])
    name = cluster.scheduler_info["workers"][addresses[0]]["name"]
    kill_tasks(backend, name)
    # An address would not tell: a port is given out again.
    await until(lambda: name not in {each["name"] for each in cluster.scheduler_info["workers"].values()})
    await cluster.wait_for_workers(2, timeout=100)
    logs = await cluster.get_logs()
    assert "word 0" in logs[name]
    assert "TASK_FAILED" in logs[name]
    assert "word 1" in logs[addresses[1]]
    assert "Register worker" in logs["Scheduler"] or logs["Scheduler"]
    assert "Cluster" in logs
    only = await cluster.get_logs(cluster=False, scheduler=False, workers=[addresses[1]])
    assert list(only) == [addresses[1]]
    assert list(await cluster.get_logs(cluster=False, scheduler=False, workers=[name])) == [name]
    assert list(await cluster.get_logs(scheduler=False, workers=False)) == ["Cluster"]


async def test_workers_that_leave_while_logs_are_read_are_no_error(
    cluster: MarathonCluster, backend: Any
) -> None:
    await cluster.scale(2)
    await cluster.wait_for_workers(2, timeout=100)
    gone, stays = sorted(cluster.scheduler_info["workers"])
    name = cluster.scheduler_info["workers"][gone]["name"]
    kill_tasks(backend, name)  # nobody knows of it yet
    found = await cluster.get_logs(cluster=False, scheduler=False, workers=[gone, stays])
    assert found[stays]
    assert "Register worker" in (await cluster.get_logs())["Scheduler"]


async def test_what_lives_is_read_although_the_scheduler_and_some_workers_say_nothing() -> None:
    """The scheduler is doubled: when a real one breaks off is chance."""

    class Scheduler:
        async def get_logs(self) -> Any:
            raise CommClosedError("gone")

        async def broadcast(self, msg: Any, workers: list[str], on_error: str) -> Any:
            if workers == ["tls://ends"]:
                raise CommClosedError("in <TLS>: Stream is closed")
            return {
                worker: [("INFO", f"{msg['op']} of {worker}")] for worker in workers if "left" not in worker
            }

    found = await logs.of_workers(Scheduler(), ["tls://ends", "tls://left", "tls://lives"])
    assert found == {"tls://lives": "get_logs of tls://lives"}
    assert "does not answer: gone" in await logs.of_scheduler(Scheduler())
    assert await logs.of_workers(Scheduler(), []) == {}


async def test_a_worker_that_never_came_can_be_read_too(arguments: dict[str, Any]) -> None:
    async with MarathonCluster(n_workers=1, preload="there_is_no_such_module", **arguments) as cluster:
        await until(lambda: cluster.marathon_workers.count.failure, 60, "it has ended")
        logs = await cluster.get_logs(cluster=False, scheduler=False)
        assert any("there_is_no_such_module" in text for text in logs.values())


async def test_missing_capacity_is_shown_with_its_reason(arguments: dict[str, Any]) -> None:
    async with MarathonCluster(name="<b>bold</b>", **{**arguments, "cpus": 50}) as cluster:
        await cluster.scale(2)
        workers = cluster.marathon_workers
        await until(lambda: workers.count.waiting == 1 and "cpus" in workers.waiting_for, 60, "why one waits")
        page = cluster._repr_html_()
        assert "1 waiting for room: " in page
        assert "cpus" in page
        assert "1 waiting for room: " in cluster._scaling_status()
        assert "of 2" in repr(cluster)
        assert "<b>" not in page


async def test_the_widget_scales_and_adapts(arguments: dict[str, Any]) -> None:
    async with MarathonCluster(**arguments) as cluster:
        tab = cluster._widget()
        status, scaling = tab.children[1].children
        manual, adaptive = scaling.children
        adaptive.children[1].value = 3
        adaptive.children[2].click()
        await until(lambda: "Adaptive (0 to 3)" in status.value)
        manual.children[0].value = 2
        manual.children[1].click()
        await until(lambda: "Manual" in cluster._scaling_status() and len(cluster.plan) == 2)
        await until(lambda: "Manual" in status.value)

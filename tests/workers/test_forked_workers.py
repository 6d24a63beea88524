"""Real workers that are forked from a template: encrypted, computing, scaled."""

from __future__ import annotations

import os
from typing import Any

import pytest
from conftest import RunningBackend
from distributed import Client, Scheduler
from driving import template_of, wait_until
from rest import Rest

from hubfleet.api import labels
from hubfleet.workers import MarathonCluster

from .conftest import until


@pytest.fixture
def backend(own_backend: RunningBackend) -> RunningBackend:
    """A backend that begins without a template."""
    return own_backend


async def test_forked_workers_compute_over_tls_and_scale_without_loss(
    backend: Any, arguments: dict[str, Any]
) -> None:
    def template() -> dict[str, Any]:
        return template_of(backend.state_dir, "worker")

    async with MarathonCluster(**arguments) as cluster, cluster.get_client() as client:
        assert cluster.scheduler_address.startswith("tls://")
        # The first makes the template, and is executed itself.
        await cluster.scale(1)
        await client.wait_for_workers(1, timeout=90)
        await wait_until(lambda: template()["ready"], "the template is there")
        await cluster.scale(4)
        await client.wait_for_workers(4, timeout=90)
        assert template()["forked"] == 3, template()
        futures = client.map(lambda x: x * x, range(200), pure=False)
        seeds = await client.run(lambda: __import__("random").random())
        assert len(set(seeds.values())) == 4
        await cluster.scale(2)
        assert sum(await client.gather(futures)) == sum(x * x for x in range(200))


async def test_a_label_has_workers_executed(backend: Any, arguments: dict[str, Any]) -> None:
    forbidden = {labels.PREFORK: "false"}
    async with MarathonCluster(**arguments, labels=forbidden) as cluster, cluster.get_client() as client:
        await cluster.scale(1)
        await client.wait_for_workers(1, timeout=90)
        found = template_of(backend.state_dir, "worker")
        assert (found["pid"], found["forked"], found["executed"]) == (None, 0, 0)


async def test_a_forked_nanny_starts_its_worker_and_replaces_it(backend: Any) -> None:
    rest = Rest(backend.url, backend.admin_token)
    single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    async with (
        Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        environment = {"MALLOC_TRIM_THRESHOLD_": "65536", **single, "SCHEDULER": scheduler.address}
        command = 'exec python -m distributed.cli.dask_worker "$SCHEDULER" --nanny --no-dashboard'
        await rest.create("/first", command, env=environment, mem=1024)
        await client.wait_for_workers(1, timeout=90)
        await wait_until(lambda: template_of(backend.state_dir, "worker")["ready"], "the template is there")
        await rest.create("/second", command, env=environment, mem=1024)
        await client.wait_for_workers(2, timeout=90)
        assert template_of(backend.state_dir, "worker")["forked"] == 1
        before = await client.run(os.getpid)
        await client.restart_workers(list(before), timeout=90)
        await until(lambda: len(scheduler.running) == len(scheduler.workers) == 2)
        after = await client.run(os.getpid)
        assert len(after) == 2
        assert not set(before.values()) & set(after.values())

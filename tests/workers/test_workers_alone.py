"""`MarathonWorkers` by itself: workers for a scheduler that somebody else has made."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from conftest import STUBBORN
from distributed import Client, LocalCluster, Scheduler, Security

from hubfleet.api.app import App
from hubfleet.api.errors import Locked, NotFound
from hubfleet.workers import MarathonWorkers
from hubfleet.workers.place import backend_client, credential_of

from .conftest import GROUP, kill_tasks, until

NOWHERE = {"marathon": "http://127.0.0.1:1", "token": "", "group": "/dask"}


def test_a_script_scales_workers_for_its_cluster_and_waits_for_each_step(backend: Any) -> None:
    with (
        LocalCluster(n_workers=0, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
        MarathonWorkers(
            cluster, backend.url, token=backend.admin_token, group=GROUP, cpus=0.1, resources={"GPU": 1}
        ) as workers,
    ):
        assert workers.scale(2) == 2
        client.wait_for_workers(2, timeout=90)
        assert client.submit(sum, [1, 2], resources={"GPU": 1}).result(60) == 3
        names = [str(worker["name"]) for worker in client.scheduler_info()["workers"].values()]
        assert workers.scale_down(names[:1]) == names[:1]
        assert workers.scale_up(1).granted == 1
        app_id = workers.app_id
        assert asyncio.run(backend.client.get_app(app_id)).instances == 1
    with pytest.raises(NotFound):
        asyncio.run(backend.client.get_app(app_id))


async def test_a_coroutine_awaits_each_step(backend: Any) -> None:
    security = Security.temporary()
    async with Scheduler(
        host="127.0.0.1", protocol="tls://", security=security, dashboard_address=":0"
    ) as scheduler:
        workers = MarathonWorkers(
            scheduler, backend.client, group=GROUP, name="mine", cpus=0.1, mem=1024, nanny=True, nworkers=2
        )
        await workers.start(2)  # encrypted, as the scheduler is
        await until(lambda: len(scheduler.workers) == 2, 60, "two workers of one task")
        assert await workers.scale_down([f"{task}-0" for task in workers.count.states]) == []
        app = await backend.client.get_app(f"{GROUP}/mine/workers")
        assert {str(worker.name) for worker in scheduler.workers.values()} == {
            f"{app.tasks[0].id}-{number}" for number in range(2)
        }
        assert await workers.scale(0) == 0
        await until(lambda: not scheduler.workers, 60, "both have left")
        await workers.close()
        with pytest.raises(NotFound):
            await backend.client.get_app(workers.app_id)


async def test_the_name_of_workers_that_are_just_ending_is_waited_for(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = App(id=f"{GROUP}/mine/workers", cmd=STUBBORN, cpus=0.1, mem=1, task_kill_grace_period_seconds=100)
    create, refused = backend.client.transport.create_app, 0

    def counted(app_id: str, app: App) -> Any:
        nonlocal refused
        try:
            return create(app_id, app)
        except Locked:
            refused += 1
            raise

    monkeypatch.setattr(backend.client.transport, "create_app", counted)
    await backend.client.create_app(app)
    await backend.deaf(1)
    async with Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler:
        await backend.client.delete_app(app.id)
        workers = MarathonWorkers(scheduler, backend.client, group=GROUP, name="mine", cpus=0.1)
        starting = asyncio.ensure_future(workers.start(1))
        await until(lambda: refused, what="the name is not free yet")
        kill_tasks(backend)
        await starting
        await until(lambda: len(scheduler.workers) == 1, 60, "a worker")
        await workers.close()


async def test_a_client_is_as_good_as_its_scheduler(backend: Any) -> None:
    async with (
        Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler,
        Client(scheduler.address, asynchronous=True) as client,
    ):
        workers = MarathonWorkers(client, backend.client, group=GROUP)
        assert workers.scheduler_address == scheduler.address


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ({"scheduler": 8786}, TypeError, "scheduler must be an address, a Scheduler, a Client or a Cluster"),
        ({"scheduler": ""}, ValueError, "scheduler must not be empty"),
        ({"scheduler": Scheduler}, ValueError, "has no address yet: start it, or await it, first"),
        ({"marathon": "127.0.0.1:8081"}, ValueError, "begins with http:// or https://"),
        ({"group": "Not A Path"}, ValueError, "group must be a Marathon path"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"nprocs": 2}, TypeError, "MarathonWorkers has no option 'nprocs'"),
        ({"nthread": 2}, TypeError, "did you mean 'nthreads'?"),
        ({"drain_seconds": "long"}, TypeError, "drain_seconds must be a number of seconds"),
    ],
)
def test_bad_arguments_are_refused_at_once(
    arguments: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        MarathonWorkers(**{"scheduler": "tcp://h:1", **NOWHERE, **arguments})


@pytest.mark.parametrize(
    ("scheduler", "sentence"),
    [
        ("10.0.0.1:8786", "scheduler must be an address such as 'tcp://10.0.0.1:8786'"),
        ("tls://10.0.0.1:8786", "is encrypted: pass its certificates as security="),
        ("inproc://10.0.0.1/1/1", "is inside of one process, where no worker can reach it"),
    ],
)
def test_a_scheduler_that_no_worker_could_reach_is_refused_before_there_is_an_app(
    scheduler: str, sentence: str
) -> None:
    workers = MarathonWorkers(scheduler, **NOWHERE)
    with pytest.raises(ValueError, match=sentence):
        workers.start(1)


@pytest.mark.parametrize("wrong", [-1, 2.5, "3", None, True, 10**6])
def test_numbers_that_are_none_are_refused_before_anybody_is_asked(wrong: Any) -> None:
    workers = MarathonWorkers("tcp://h:1", **NOWHERE)
    for ask in (workers.start, workers.scale, workers.scale_up):
        with pytest.raises((TypeError, ValueError), match="the number of workers must be a whole number"):
            ask(wrong)


def test_the_definition_is_shown_before_anything_runs() -> None:
    app = MarathonWorkers(
        "tcp://10.0.0.1:8786", **NOWHERE, name="mine", constraints=[["rack", "UNIQUE"]]
    ).app(3)
    assert (app.id, app.instances) == ("/dask/mine/workers", 3)
    assert app.constraints == [["rack", "UNIQUE"]]


async def test_what_becomes_of_the_workers_is_known_without_asking(
    backend: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with Scheduler(host="127.0.0.1", dashboard_address=":0") as scheduler:
        workers = MarathonWorkers(scheduler, backend.client, group=GROUP, name="mine", cpus=40)
        async with workers:
            await workers.scale(2)
            (first,) = await until(lambda: list(scheduler.workers.values()), 60)
            wait = "1 of 2 alive, the others wait for "
            await until(lambda: wait in repr(workers) and "cpus" in repr(workers), 60, "it says why")
            kill_tasks(backend)
            await until(lambda: "a worker ended badly and is replaced" in caplog.text, 60, "it is told")
            await until(lambda: first.name not in workers.count.states and workers.count.states, 60)
            await backend.client.update_app(workers.app_id, {"instances": 1}, force=True)
            await until(lambda: workers.count.instances == 1, 60, "somebody else's word is known")
            await backend.client.delete_app(workers.app_id)
            await until(lambda: "were removed, by somebody else" in caplog.text, 60, "its end is told")


async def test_a_name_and_a_password_go_where_a_token_goes(backend: Any) -> None:
    """Our backend takes a token for the password of anybody; a Marathon has names and passwords."""
    client = backend_client(backend.url, f"Basic anybody:{backend.admin_token}")
    assert await client.list_apps() == []
    assert credential_of(client) == f"Basic anybody:{backend.admin_token}"
    client.close()
    assert credential_of(backend.client) == backend.admin_token
    assert credential_of(backend_client(backend.url, "")) == ""
    with pytest.raises(ValueError, match=r"must go on with a name, a colon and a password$") as refused:
        backend_client(backend.url, "Basic a-secret")
    assert "a-secret" not in str(refused.value)

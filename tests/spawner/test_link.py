"""What all spawners of a process share: one link per backend, and deletes that do not give up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from answering import listening
from jupyterhub.app import JupyterHub

from hubfleet.api.app import App
from hubfleet.api.errors import BackendUnreachable, NotFound
from hubfleet.api.status import DeploymentResult
from hubfleet.api.wire import now
from hubfleet.spawner import link as links
from hubfleet.spawner import reaper as reapers
from hubfleet.spawner.link import Address, Link, close_links, link_to
from hubfleet.spawner.reaper import Reaper

JUPYTERHUBS_LIMIT = JupyterHub.concurrent_spawn_limit.default_value


class ScriptedClient:
    """A double of the client: its deletes end as they are told to, one after the other."""

    def __init__(self, *outcomes: Exception | str) -> None:
        self.outcomes = list(outcomes)
        self.deleted: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def delete_app(self, app_id: str) -> DeploymentResult:
        self.deleted.append(app_id)
        await self.gate.wait()
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return DeploymentResult(version=now(), deployment_id=outcome)


@pytest.fixture
async def reaper_of() -> AsyncIterator[Callable[[ScriptedClient], Reaper]]:
    made: list[Reaper] = []

    def make(client: ScriptedClient) -> Reaper:
        made.append(Reaper(client))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for reaper in made:
        await reaper.close()


async def test_a_delete_is_repeated_until_the_backend_agrees(
    reaper_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reapers, "_RETRY_FIRST", 0.01)
    client = ScriptedClient(BackendUnreachable("down"), BackendUnreachable("down"), "deployment-1")
    reaper = reaper_of(client)
    assert await asyncio.wait_for(reaper.condemn("/a"), 60) == "deployment-1"
    assert client.deleted == ["/a"] * 3
    await asyncio.sleep(0)
    assert not reaper.holds("/a")


async def test_what_is_gone_already_is_deleted_well(reaper_of: Any) -> None:
    assert (
        await asyncio.wait_for(reaper_of(ScriptedClient(NotFound("no app", 404))).condemn("/a"), 60) is None
    )


async def test_two_who_condemn_the_same_wait_for_the_same(reaper_of: Any) -> None:
    client = ScriptedClient("deployment-1")
    reaper = reaper_of(client)
    assert reaper.condemn("/a") is reaper.condemn("/a")
    await reaper.condemn("/a")
    assert client.deleted == ["/a"]


async def test_one_who_stops_waiting_does_not_end_the_delete(reaper_of: Any) -> None:
    client = ScriptedClient("deployment-1")
    client.gate.clear()
    reaper = reaper_of(client)

    async def wait() -> None:
        await asyncio.wait({reaper.condemn("/a")})

    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert reaper.holds("/a")
    client.gate.set()
    assert await asyncio.wait_for(reaper.condemn("/a"), 60) == "deployment-1"


async def test_a_spared_app_is_not_deleted_any_more(reaper_of: Any) -> None:
    client = ScriptedClient(BackendUnreachable("down"), "never")
    reaper = reaper_of(client)
    deletion = reaper.condemn("/a")
    while not client.deleted:
        await asyncio.sleep(0)
    await asyncio.wait_for(reaper.spare("/a"), 60)
    assert deletion.done()
    assert client.deleted == ["/a"]
    assert not reaper.holds("/a")


async def test_an_app_is_spared_only_when_no_delete_is_on_its_way(reaper_of: Any) -> None:
    client = ScriptedClient("deployment-1")
    client.gate.clear()
    reaper = reaper_of(client)
    reaper.condemn("/a")
    await asyncio.sleep(0)
    sparing = asyncio.create_task(reaper.spare("/a"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not sparing.done(), "a start now would be hit by the delete that is on its way"
    client.gate.set()
    await asyncio.wait_for(sparing, 60)


async def test_a_delete_waits_for_the_submission_that_it_is_meant_for(reaper_of: Any) -> None:
    client = ScriptedClient("deployment-1")
    reaper = reaper_of(client)
    submitted = asyncio.Event()

    async def submission() -> bool:
        await submitted.wait()
        return True

    deletion = reaper.condemn("/a", after=submission())
    for _ in range(5):
        await asyncio.sleep(0)
    assert client.deleted == []
    submitted.set()
    assert await asyncio.wait_for(deletion, 60) == "deployment-1"


async def test_a_submission_that_made_nothing_is_not_followed_by_a_delete(reaper_of: Any) -> None:
    client = ScriptedClient()

    async def refused() -> bool:
        return False

    assert await asyncio.wait_for(reaper_of(client).condemn("/a", after=refused()), 60) is None
    assert client.deleted == []


@pytest.fixture
async def closed_afterwards() -> AsyncIterator[None]:
    yield
    await close_links()


def address(**changes: Any) -> Address:
    return Address(**{"urls": ("http://127.0.0.1:1",), "group": "/jupyter", "token": "t-o-k-e-n", **changes})


@pytest.mark.usefixtures("closed_afterwards")
async def test_all_spawners_of_one_backend_share_one_link() -> None:
    assert link_to(address()) is link_to(address())
    assert link_to(address()) is not link_to(address(group="/other"))
    assert link_to(address()) is not link_to(address(token="another"))


async def test_a_closed_link_is_not_given_again() -> None:
    first = link_to(address())
    await close_links()
    assert first.closed
    second = link_to(address())
    assert second is not first
    assert not second.closed
    await close_links()


def test_the_end_of_the_loop_closes_its_links() -> None:
    async def use() -> Link:
        link = link_to(address())
        await asyncio.sleep(0)
        return link

    assert asyncio.run(use()).closed


def test_credentials_are_not_shown() -> None:
    assert "t-o-k-e-n" not in repr(address(password="t-o-k-e-n"))


@pytest.mark.usefixtures("closed_afterwards")
async def test_a_new_link_waits_for_its_first_sight_once(
    small_hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "FIRST_SIGHT_SECONDS", 0.2)
    link = link_to(address())
    clock = asyncio.get_running_loop().time
    begun = clock()
    assert await asyncio.gather(*(link.sees() for _ in range(100))) == [False] * 100
    assert clock() - begun > 0.1
    assert small_hub.at_once(link.sees()) is False


@pytest.mark.usefixtures("closed_afterwards")
async def test_all_starts_that_a_hub_lets_begin_at_once_are_submitted_at_once() -> None:
    """A backend that takes its time for each must not be asked for a few of them at a time."""
    asked, all_asked = 0, asyncio.Event()

    async def answer_when_all_have_asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        request = await reader.readuntil(b"\r\n\r\n")
        asked += request.startswith(b"GET /ping")  # the stream of events comes here, too
        if asked == JUPYTERHUBS_LIMIT:
            all_asked.set()
        await all_asked.wait()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npong")
        writer.close()

    async with listening(answer_when_all_have_asked, backlog=200) as port:
        link = link_to(address(urls=(f"http://127.0.0.1:{port}",), timeout=60.0))
        async with asyncio.timeout(60):
            await asyncio.gather(*(link.client.ping() for _ in range(JUPYTERHUBS_LIMIT)))


async def test_many_who_ask_why_they_wait_share_one_request(
    small_hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(links, "_QUEUE_FRESH_SECONDS", 600.0)
    link = link_to(Address(urls=(backend.url,), token=backend.admin_token))
    asked = 0
    list_queue = link.client.list_queue

    async def counted() -> Any:
        nonlocal asked
        asked += 1
        return await list_queue()

    link.client.list_queue = counted  # type: ignore[method-assign]
    await backend.client.create_app(App(id="/full", cmd="sleep 1000", cpus=64))

    async def placed() -> int:
        return int((await backend.client.get_app("/full")).tasks_running)

    await small_hub.eventually(placed)
    await backend.client.create_app(App(id="/jupyter/a/notebook", cmd="sleep 1000", cpus=1))
    await small_hub.eventually(backend.client.list_queue)
    found = await asyncio.gather(*(link.queue_item(f"/jupyter/{name}/notebook") for name in "aaaab"))
    assert asked == 1
    assert [item is not None for item in found] == [True] * 4 + [False]
    await close_links()

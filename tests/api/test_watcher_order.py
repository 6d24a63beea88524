"""Answers that are older than what the watcher knows by now: what they say is not believed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from conftest import RunningBackend
from watching import always, gone, heard, small

from hubfleet.api.client import Client
from hubfleet.api.status import AppStatus, Event
from hubfleet.api.watcher import Watcher

pytestmark = pytest.mark.usefixtures("both_ways")

T = TypeVar("T")


class HeldClient(Client):
    """A client whose answers of one kind, once they are there, can be held up."""

    def __init__(self, backend: RunningBackend, kind: str) -> None:
        super().__init__(backend.url, token=backend.admin_token)
        self.kind = kind
        self.released = asyncio.Event()
        self.arrived = {"get_app": asyncio.Event(), "list_apps": asyncio.Event()}

    async def get_app(self, app_id: str) -> AppStatus:
        return await self._hold("get_app", super().get_app(app_id))

    async def list_apps(self, containing: str | None = None, label: str | None = None) -> list[AppStatus]:
        return await self._hold("list_apps", super().list_apps(containing, label))

    async def _hold(self, kind: str, answer: Awaitable[T]) -> T:
        found = await answer
        self.arrived[kind].set()
        if kind == self.kind:
            await self.released.wait()
        return found


async def test_a_removed_app_does_not_come_back_with_a_late_answer(backend: RunningBackend) -> None:
    client = HeldClient(backend, "get_app")
    watcher = Watcher(client)
    watcher.start()
    try:
        assert await watcher.wait_sighted(60)
        terminated = asyncio.create_task(heard(watcher, "/late", "app_terminated_event"))
        await backend.client.create_app(small("/late"))  # its events make the watcher ask
        await client.arrived["get_app"].wait()
        await backend.client.delete_app("/late")
        await terminated
        client.released.set()
        await always(watcher, "/late", there=False)
    finally:
        await watcher.close()
        client.close()


async def test_a_removed_app_does_not_come_back_with_an_answer_older_than_a_list(
    backend: RunningBackend,
) -> None:
    """The list knows nothing of the app any more, and the answer that is under way nothing of its end."""
    client = HeldClient(backend, "get_app")
    watcher = Watcher(client, relist_seconds=0.01)
    watcher.start()
    try:
        assert await watcher.wait_sighted(60)
        terminated = asyncio.create_task(heard(watcher, "/late", "app_terminated_event"))
        await backend.client.create_app(small("/late"))
        await client.arrived["get_app"].wait()
        await backend.client.delete_app("/late")
        await terminated
        for _ in range(2):  # of which the second has begun after that
            client.arrived["list_apps"].clear()
            await client.arrived["list_apps"].wait()
        await asyncio.sleep(0.01)
        client.released.set()
        await always(watcher, "/late", there=False)
    finally:
        await watcher.close()
        client.close()


async def test_an_app_made_while_the_list_was_under_way_stays(backend: RunningBackend) -> None:
    client = HeldClient(backend, "list_apps")
    watcher = Watcher(client)
    watcher.start()
    try:
        await client.arrived["list_apps"].wait()  # without the app
        started = asyncio.create_task(heard(watcher, "/new", "deployment_success"))
        await asyncio.sleep(0)
        await backend.client.create_app(small("/new"))
        await started
        async with asyncio.timeout(60):
            while "/new" not in watcher._apps:  # blind as it is, nobody else can ask it
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)  # until nothing about it is under way any more
        client.released.set()
        assert await watcher.wait_sighted(60)
        await always(watcher, "/new", there=True)
    finally:
        await watcher.close()
        client.close()


@asynccontextmanager
async def silence() -> AsyncIterator[AsyncIterator[Event]]:
    """A stream over which nothing has come yet."""

    async def events() -> AsyncIterator[Event]:
        await asyncio.Event().wait()
        raise AssertionError
        yield

    yield events()


async def test_a_removed_app_does_not_come_back_with_a_list_older_than_an_answer(
    backend: RunningBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list was made before the end of the app, and the answer afterwards; no event has told of it yet."""
    await backend.client.create_app(small("/late", instances=0))
    client = HeldClient(backend, "list_apps")
    client.released.set()
    monkeypatch.setattr(client, "events", silence)
    watcher = Watcher(client, relist_seconds=0.01)
    watcher.start()
    try:
        await watcher.wait_for("/late", lambda app: app is not None, 60)
        client.released.clear()
        client.arrived["list_apps"].clear()
        await client.arrived["list_apps"].wait()
        await backend.client.delete_app("/late")
        watcher._mark_stale("/late")
        await watcher.wait_for("/late", gone, 60)
        client.released.set()
        await always(watcher, "/late", there=False)
    finally:
        await watcher.close()
        client.close()

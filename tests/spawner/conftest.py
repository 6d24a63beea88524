"""JupyterHub's own database, users and spawn procedure around a spawner; only pages and proxy are missing."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from clocks import Clock
from jupyterhub import orm, roles
from jupyterhub.objects import Hub
from jupyterhub.user import User
from stand_in import stand_in_command
from traitlets.config import Config

from hubfleet.spawner import MarathonSpawner, launch, life, link
from hubfleet.spawner.errors import StartRefused
from hubfleet.spawner.link import close_links


class SmallHub:
    """What `jupyterhub.user.User` needs of a hub to spawn: settings and a database in memory."""

    def __init__(self, cookie_secret: bytes = b"s" * 32) -> None:
        self.db = orm.new_session_factory("sqlite:///:memory:")()
        for role in roles.get_default_roles():
            roles.create_role(self.db, role)
        self.db.add(orm.OAuthClient(identifier="jupyterhub", secret="", redirect_uri=""))
        self.db.commit()
        self.config = Config()
        self.settings: dict[str, Any] = {
            "spawner_class": MarathonSpawner,
            "config": self.config,
            "hub": Hub(),
            "cookie_secret": cookie_secret,
            "log": logging.getLogger("jupyterhub-of-the-tests"),
            # JupyterHub 5 counts here; 6 does no longer.
            "statsd": SimpleNamespace(incr=lambda *_: None, timing=lambda *_: None),
        }

    @staticmethod
    async def eventually(question: Callable[[], Awaitable[Any]], seconds: float = 60) -> Any:
        """Return the first true answer to a question; fail if there is none in time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not (answer := await question()):
            assert asyncio.get_running_loop().time() < deadline, "it did not come to be in time"
            await asyncio.sleep(0.05)
        return answer

    @staticmethod
    def at_once(question: Coroutine[Any, Any, Any]) -> Any:
        """Return what a coroutine returns that waits for nothing, not even for the next turn of the loop."""
        try:
            question.send(None)
        except StopIteration as answer:
            return answer.value
        raise AssertionError("it waits")

    @staticmethod
    async def nothing_left(backend: Any) -> bool:
        """Whether the backend has neither an app nor a process of one."""
        return not await backend.client.list_apps() and not backend.tasks()

    @staticmethod
    async def ask(url: str) -> dict[str, Any]:
        """Return what the stand-in of a server tells about itself."""

        def get() -> Any:
            with urllib.request.urlopen(url + "api", timeout=60) as answer:
                return json.load(answer)

        told = await asyncio.to_thread(get)
        assert isinstance(told, dict)
        return told

    def user(self, name: str) -> User:
        """The user of this name; asked again, a new object on the same rows, as after a hub's restart."""
        found = self.db.query(orm.User).filter_by(name=name).first()
        if found is None:
            found = orm.User(name=name)
            self.db.add(found)
            self.db.commit()
            roles.assign_default_roles(self.db, entity=found)
        return User(found, self.settings)

    def spawner(self, name: str, server: str = "", **configuration: Any) -> MarathonSpawner:
        """The spawner of a user's server, which has a place in the database but was not started."""
        user = self.user(name)
        if server not in user.orm_user.orm_spawners:
            self.db.add(orm.Spawner(user=user.orm_user, name=server))
            self.db.commit()
        spawner = user.spawners[server]
        for trait, value in configuration.items():
            setattr(spawner, trait, value)
        return spawner


@pytest.fixture
def stand_in(tmp_path: Path) -> list[str]:
    """Command of a server that answers as jupyterhub-singleuser does, as far as the hub looks."""
    return stand_in_command(tmp_path)


@pytest.fixture
def small_hub() -> Iterator[SmallHub]:
    hub = SmallHub()
    hub.config.MarathonSpawner.marathon_host = "http://127.0.0.1:1"
    yield hub
    hub.db.close()


@pytest.fixture
async def hub(
    small_hub: SmallHub, backend: Any, stand_in: list[str], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[SmallHub]:
    """A hub whose servers run on a real backend; it bears with a machine that has much else to do."""
    monkeypatch.setattr(life, "_CHORE_SECONDS", 60.0)
    monkeypatch.setattr(link, "FIRST_SIGHT_SECONDS", 60.0)
    monkeypatch.setattr(launch.Launch._output, "__defaults__", (60.0,))
    configuration = small_hub.config.MarathonSpawner
    configuration.start_timeout, configuration.http_timeout = 240, 60
    configuration.marathon_timeout = 60.0
    configuration.marathon_host = backend.url
    configuration.marathon_token = backend.admin_token
    configuration.cmd = stand_in
    configuration.ip = "127.0.0.1"
    yield small_hub
    await close_links()


@pytest.fixture
async def too_late(hub: SmallHub) -> Callable[[User, Callable[[], bool]], Awaitable[StartRefused]]:
    """Start a user's server, and have its time be over as soon as something is so; return the refusal."""
    clock = Clock()
    asyncio.get_running_loop().time = clock  # type: ignore[method-assign]

    async def refusal(user: User, reached: Callable[[], bool]) -> StartRefused:
        begun: list[float] = []
        user.spawner.pre_spawn_hook = lambda _: begun.append(clock())
        spawn = asyncio.create_task(user.spawn())
        await hub.eventually(lambda: asyncio.sleep(0, reached()))
        # A start ends some seconds before JupyterHub's own patience with it does, which says nothing.
        with (
            clock.standing_at(begun[0] + user.spawner.start_timeout - 2),
            pytest.raises(StartRefused) as late,
        ):
            await spawn
        return late.value

    return refusal

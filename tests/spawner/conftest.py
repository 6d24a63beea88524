"""JupyterHub's own database, users and spawn procedure around a spawner; only pages and proxy are missing."""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub import orm, roles
from jupyterhub.objects import Hub
from jupyterhub.user import User
from stand_in import stand_in_command
from traitlets.config import Config

from hubfleet.spawner import MarathonSpawner
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
    async def eventually(question: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
        """Return the first true answer to a question; fail if there is none in time."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not (answer := await question()):
            assert asyncio.get_running_loop().time() < deadline, "it did not come to be in time"
            await asyncio.sleep(0.05)
        return answer

    @staticmethod
    async def nothing_left(backend: Any) -> bool:
        """Whether the backend has neither an app nor a process of one."""
        return not await backend.client.list_apps() and not backend.tasks()

    @staticmethod
    async def ask(url: str) -> dict[str, Any]:
        """Return what the stand-in of a server tells about itself."""

        def get() -> Any:
            with urllib.request.urlopen(url + "api", timeout=10) as answer:
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
async def hub(small_hub: SmallHub, backend: Any, stand_in: list[str]) -> AsyncIterator[SmallHub]:
    """A hub whose servers run on a real backend."""
    configuration = small_hub.config.MarathonSpawner
    configuration.marathon_host = backend.url
    configuration.marathon_token = backend.admin_token
    configuration.cmd = stand_in
    configuration.ip = "127.0.0.1"
    yield small_hub
    await close_links()

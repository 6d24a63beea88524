"""What a hub that is started again asks its database for."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.auth import NullAuthenticator
from sqlalchemy import event, inspect
from sqlalchemy.orm import Session

from hubfleet.spawner.link import close_links
from hubfleet.spawner.restoring import read_at_once


class Restarted:
    """JupyterHub's own look at the servers of a database, as at its start, with a count of its queries."""

    def __init__(self, hub: Any) -> None:
        self.engine = hub.db.get_bind()
        self.app = JupyterHub(tornado_settings=hub.settings, authenticator=NullAuthenticator())
        self.app.db = Session(self.engine, expire_on_commit=False)
        self.queries: list[str] = []

    async def init_spawners(self) -> int:
        """Do what the hub does before it answers; return how many servers it has looked at."""
        event.listen(self.engine, "before_cursor_execute", self._note)
        try:
            return int(await self.app.init_spawners())
        finally:
            event.remove(self.engine, "before_cursor_execute", self._note)

    def _note(self, *arguments: Any) -> None:
        self.queries.append(arguments[2])

    def close(self) -> None:
        for user in self.app.users.values():
            for spawner in user.spawners.values():
                spawner.stop_polling()
        self.app.db.close()


async def test_a_restarted_hub_asks_no_more_of_its_database_for_more_servers(hub: Any) -> None:
    asked = []
    for count, name in enumerate(("alice", "bob", "carol"), start=1):
        user = hub.user(name)
        await user.spawn()
        user.spawner.stop_polling()
        await close_links()
        restarted = Restarted(hub)
        assert await restarted.init_spawners() == count
        assert all(user.spawner.ready for user in restarted.app.users.values())
        asked.append(len(restarted.queries))
        restarted.close()
        await close_links()
    assert asked[0] == asked[1] == asked[2], restarted.queries


async def test_what_was_read_is_let_go_and_is_not_read_again(small_hub: Any) -> None:
    row = small_hub.spawner("alice").orm_spawner
    row.server = orm.Server(
        proto="http", ip="127.0.0.1", port=1, cookie_name="alice", base_url="/user/alice/"
    )
    small_hub.db.commit()

    def held(db: Session) -> list[orm.Spawner]:
        gc.collect()
        return [each for each in db.identity_map.values() if isinstance(each, orm.Spawner)]

    with Session(small_hub.db.get_bind()) as db:
        read_at_once(db)
        [spawner] = held(db)
        assert not inspect(spawner).unloaded & {"user", "server"}
        assert not inspect(spawner.user).unloaded & {"_orm_spawners", "groups", "roles"}
        del spawner
        await asyncio.sleep(0)
        assert not held(db)
        read_at_once(db)
        assert not held(db)

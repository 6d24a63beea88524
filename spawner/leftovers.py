"""Apps of this hub that belong to no server of it, and their end.

They come of hubs that were killed while the backend could not be reached: the hub's database says
that the server has stopped, and the one that would have deleted the app is gone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jupyterhub import orm

from hubfleet.api import labels
from hubfleet.api.client import Client
from hubfleet.api.errors import BackendError
from hubfleet.api.ids import is_within
from hubfleet.api.status import AppStatus
from hubfleet.api.watcher import StateUnknown, Watcher
from hubfleet.api.wire import now

from .reaper import Reaper

log = logging.getLogger("hubfleet.spawner.leftovers")

LOOK_SECONDS = 30.0
"""Between two looks; a shorter grace makes it shorter."""

_LOOKS_PER_LISTING = 20  # every so many looks go beyond the group that the watcher remembers


@dataclass(frozen=True)
class Owned:
    """What the servers of a hub's database own."""

    app_ids: frozenset[str]
    """Apps of the servers that know theirs."""
    names: frozenset[tuple[str, str]]
    """User and server names of those that do not know it yet."""

    @classmethod
    def of(cls, db: Any) -> Owned:
        """Read a hub's database; a session of SQLAlchemy."""
        app_ids, names = set(), set()
        with db.no_autoflush:
            # Columns and no objects, which would take the loop of a hub with 500 servers 80 ms.
            rows = db.query(orm.Spawner.state, orm.Spawner.name, orm.User.name).join(orm.Spawner.user)
            rows = rows.filter(orm.Spawner.server_id.is_not(None))
            # JupyterHub does not say of its type of `state` that queries with it can be kept.
            for state, server, user in rows.execution_options(compiled_cache=None):
                if app_id := (state or {}).get("app_id"):
                    app_ids.add(app_id)
                else:
                    names.add((user, server or ""))
        return cls(frozenset(app_ids), frozenset(names))

    def holds(self, app: AppStatus) -> bool:
        """Whether an app belongs to a server."""
        return (
            app.id in self.app_ids
            or (app.labels.get(labels.USER), app.labels.get(labels.SERVER)) in self.names
        )


def ownerless(apps: Iterable[AppStatus], hub_id: str, owned: Owned) -> list[AppStatus]:
    """Return the apps that carry the mark of a hub and belong to no server of it."""
    return [app for app in apps if app.labels.get(labels.HUB) == hub_id and not owned.holds(app)]


def age_seconds(app: AppStatus) -> float:
    """Return how long ago the definition of an app was changed last; 0 if the backend does not say."""
    info = app.version_info
    since = (info and info.last_config_change_at) or app.version
    return float((now() - since).total_seconds()) if since else 0.0


class Leftovers:
    """Looks for leftovers, until it is closed.

    Parameters
    ----------
    hub_id
        The mark of the hub.
    read_owned
        Reads what belongs to its servers.
    grace
        Seconds that the definition of an app must be old; None if none is to be removed.
        Counted from the backend's own time of the definition, so that it survives the hub.
    """

    def __init__(
        self,
        client: Client,
        watcher: Watcher,
        reaper: Reaper,
        *,
        hub_id: str,
        read_owned: Callable[[], Owned],
        grace: float | None,
    ) -> None:
        self._client, self._watcher, self._reaper = client, watcher, reaper
        self._hub_id, self._read_owned, self._grace = hub_id, read_owned, grace
        self._seen: set[str] = set()
        self._task = asyncio.create_task(self._look_for_ever(), name=f"leftovers of {hub_id}")

    async def close(self) -> None:
        """Look no more."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _look_for_ever(self) -> None:
        pause = LOOK_SECONDS if self._grace is None else min(LOOK_SECONDS, max(0.25, self._grace / 4))
        looks, beyond = 0, False
        while True:
            try:
                await self._watcher.wait_sighted(pause)
                apps = self._watcher.apps()
                if beyond or looks % _LOOKS_PER_LISTING == 1:  # not the first: a new hub has enough to do
                    apps = await self._client.list_apps(label=labels.HUB)
                found = self._look(apps)
                beyond = any(not is_within(app_id, self._watcher.group) for app_id in found)
                looks += 1
            except (StateUnknown, BackendError) as error:
                log.debug("cannot look for leftovers: %s", error)
            except Exception:
                log.exception("The look for leftovers failed; it is repeated in %.0f seconds", pause)
            await asyncio.sleep(pause)

    def _look(self, apps: Iterable[AppStatus]) -> set[str]:
        # Read after the apps: a server is in the database before its app is at the backend.
        found = {app.id: app for app in ownerless(apps, self._hub_id, self._read_owned())}
        for app_id, app in found.items():
            if self._reaper.holds(app_id):
                continue
            if app_id not in self._seen:
                log.warning(
                    "%s is an app of this hub (user %r, server %r), and no server owns it%s",
                    app_id,
                    app.labels.get(labels.USER),
                    app.labels.get(labels.SERVER),
                    "" if self._grace is None else f"; it is removed when it is {self._grace:g} seconds old",
                )
            elif self._grace is not None and age_seconds(app) > self._grace:
                log.warning("%s is removed, since no server owns it", app_id)
                self._reaper.condemn(app_id)
        self._seen = set(found)
        return self._seen

"""The spawner itself: what JupyterHub asks of one, in terms of apps.

The rules that shape it are JupyterHub's (``user.py``): whatever comes of a stop, the
server is forgotten; a poll that returns a number means that stop is never called. So a
poll never raises, takes *unknown* for running, and no number is returned for an app that
is not gone or on the reaper's list.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.spawner import Spawner
from jupyterhub.utils import make_ssl_context
from traitlets import default

from hubfleet.api.client import split_urls
from hubfleet.api.errors import BackendError, NotFound
from hubfleet.api.ids import canonical, server_app_id
from hubfleet.api.status import AppStatus
from hubfleet.api.watcher import StateUnknown

from .app_builder import AppBuilder
from .build import Server, api_path
from .launch import Launch, newest_running, url_of
from .link import Address, Link, link_to
from .progress import ProgressLog
from .stopping import delete_and_wait

_CLEAN_UP_SECONDS = 5.0
_ROUTE_SECONDS = 10.0


def leave_options_to_start(spawner: Spawner, options: Mapping[str, Any]) -> None:
    """Do nothing: `MarathonSpawner.start` reads and checks the options, whatever way they came."""


class MarathonSpawner(AppBuilder, Spawner):
    """Runs each server as an app on a Marathon API."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._app_id = ""  # of the server that was started or restored; empty if neither
        self._group = ""
        self._starting = False
        self._exit_status: int | None = None
        self._told = ProgressLog()

    # -- configuration ----------------------------------------------------------------

    @default("options_from_form")
    def _single_values(self) -> Any:
        return self._simple_options_from_form

    @default("apply_user_options")
    def _checked_at_start(self) -> Any:
        return leave_options_to_start

    def _link(self) -> Link:
        return link_to(
            Address(
                urls=tuple(split_urls(self.marathon_host)),
                group=self._group or canonical(self.app_prefix),
                token=self.marathon_token or None,
                username=self.marathon_username or None,
                password=self.marathon_password or None,
                verify=self.marathon_verify,
                timeout=self.marathon_timeout,
            )
        )

    @property
    def _scheme(self) -> str:
        return "https" if self.internal_ssl else "http"

    @property
    def _tls(self) -> ssl.SSLContext | None:
        """How the hub shows itself to a server, and recognises it, with `JupyterHub.internal_ssl`."""
        if not self.internal_ssl:
            return None
        key, cert, ca = (self.user.settings.get(f"internal_ssl_{name}") for name in ("key", "cert", "ca"))
        context: ssl.SSLContext | None = make_ssl_context(key, cert, cafile=ca)
        return context

    # -- what runs --------------------------------------------------------------------

    @property
    def app_id(self) -> str:
        """The id of this server's app: the restored one, or what the names make of it."""
        return self._app_id or server_app_id(self.app_prefix, self.user.name, self.name)

    def is_ours(self, status: AppStatus) -> bool:
        """Whether an app carries the marks of this hub, user and server."""
        marks = Server.marks(self.hub_id, self.user.name, self.name)
        return all(status.labels.get(name) == value for name, value in marks.items())

    # -- state ------------------------------------------------------------------------

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore which app the server is."""
        super().load_state(state)
        self._app_id = state.get("app_id", "")
        self._group = state.get("group", "")

    def get_state(self) -> dict[str, Any]:
        """Return which app the server is, and the group it is watched in: a later prefix changes neither."""
        state: dict[str, Any] = super().get_state()
        if self._app_id:
            state |= {"app_id": self._app_id, "group": self._group}
        return state

    def clear_state(self) -> None:
        """Forget the server; JupyterHub does so before each start, and after each stop."""
        super().clear_state()
        self._certificates = None
        self._app_id = self._group = ""
        self._exit_status = None
        self._told = ProgressLog()

    # -- start ------------------------------------------------------------------------

    async def start(self) -> str:
        """Submit the server's app and return its address when it answers.

        Raises
        ------
        StartRefused
            It cannot start; the message says why. No app is left behind.
        """
        self._exit_status = None
        self._starting = True
        told = self._told = ProgressLog() if self._told.closed else self._told
        try:
            return await self._launch(told)
        except BaseException:
            self._exit_status = 1
            raise
        finally:
            self._starting = False
            told.close()

    async def _launch(self, told: ProgressLog) -> str:
        clock = asyncio.get_running_loop().time
        # Before JupyterHub's own patience ends, which would not say what was waited for.
        margin = min(2.0, 0.1 * self.start_timeout)
        ends_at = clock() + self.start_timeout - margin
        app = await self.app_to_submit()
        self._app_id, self._group = app.id, canonical(self.app_prefix)
        link = self._link()
        await link.reaper.spare(app.id)
        launch = Launch(
            link,
            app,
            told,
            is_ours=self.is_ours,
            api_path=api_path(self._base_path),
            tls=self._tls,
            most_failures=self.start_failures,
        )
        try:
            return await launch.run(ends_at - clock())
        except BaseException:
            deletion = link.reaper.condemn(app.id, after=launch.settled())
            rest = max(0.5 * margin, ends_at - clock())
            await asyncio.wait({deletion}, timeout=min(rest, _CLEAN_UP_SECONDS))
            raise

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the user reads while the server starts; any number of pages may listen."""
        async for message in self._told.follow():
            yield message

    # -- while it runs ----------------------------------------------------------------

    async def poll(self) -> int | None:
        """Return None while the server runs, starts, or is not known about; else its exit status.

        Answered from memory; only the end of a server is confirmed by a request.
        """
        try:
            return await self._judge()
        except StateUnknown:
            return None
        except Exception:
            # Whatever this is, it is no reason to forget a user's server.
            self.log.exception("Cannot tell whether %s runs; taking it for running", self._log_name)
            return None

    async def _judge(self) -> int | None:
        if self._starting:
            return None
        if self._exit_status is not None:
            return self._exit_status
        if not self._app_id and self.server is None:
            return 0
        link, app_id = self._link(), self.app_id
        if link.reaper.holds(app_id):
            return 0
        if not await link.sees():
            return None
        status = link.watcher.lookup(app_id)
        if status is None:
            return await self._confirm_end(link, app_id)
        if not self._app_id and not self.is_ours(status):
            return self._end(f"the app {app_id} is not this server's")
        if status.instances == 0 and not status.tasks:
            link.reaper.condemn(app_id)
            return self._end(f"its app {app_id} was scaled to no instances")
        idle = self._idle_seconds()
        if self.autotimeout and idle is not None and idle > self.autotimeout:
            link.reaper.condemn(app_id)
            return self._end(f"nobody used it for {idle:.0f} seconds, more than autotimeout")
        await self._follow_to_new_place(status)
        return None

    def _end(self, reason: str) -> int:
        self.log.warning("Server %s has ended: %s", self._log_name, reason)
        self._exit_status = 0
        return 0

    async def _confirm_end(self, link: Link, app_id: str) -> int | None:
        try:
            await link.client.get_app(app_id)
        except NotFound:
            return self._end(f"its app {app_id} is gone from the backend")
        except BackendError:
            return None
        return None

    def _idle_seconds(self) -> float | None:
        if self.orm_spawner is None:
            return None
        latest = self.orm_spawner.last_activity or self.orm_spawner.started
        if latest is None:
            return None
        # JupyterHub's database has times in UTC that do not say so.
        aware = latest.replace(tzinfo=UTC) if latest.tzinfo is None else latest
        return float((datetime.now(UTC) - aware).total_seconds())

    async def _follow_to_new_place(self, status: AppStatus) -> None:
        """Route the server to where its task runs now, which another task may do elsewhere than the last."""
        task = newest_running(status)
        if task is None or self.server is None:
            return
        place = urlsplit(url_of(self._scheme, task.host, task.ports[0]))
        if (self.server.ip, self.server.port) == (place.hostname, place.port):
            return
        self.log.warning("%s has moved from %s to %s", self._log_name, self.server.host, place.netloc)
        self.server.ip, self.server.port = place.hostname, place.port
        if self.orm_spawner is not None:
            self.user.db.commit()
        proxy = (getattr(self.user, "settings", None) or {}).get("proxy")
        if proxy is not None and self.ready:
            # If this fails, JupyterHub's own periodic check of the routes does it later.
            await asyncio.wait_for(proxy.add_user(self.user, self.name), _ROUTE_SECONDS)

    async def get_url(self) -> str:
        """Return where the server is: from memory if that is the truth, else what the hub has stored.

        Notes
        -----
        Must not raise: when a hub starts, it asks every restored server and catches nothing.
        """
        if self.server is None:
            return ""
        try:
            link = self._link()
            if await link.sees():
                status = link.watcher.lookup(self.app_id)
                task = newest_running(status) if status else None
                if task is not None:
                    return url_of(self._scheme, task.host, task.ports[0]) + self._base_path
        except Exception:
            self.log.exception("Cannot tell where %s runs; taking the stored address", self._log_name)
        return str(self.server.url)

    # -- stop -------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:
        """Delete the server's app and return when its processes have ended.

        Parameters
        ----------
        now
            Return as soon as the backend has agreed.
        """
        link, app_id = self._link(), self.app_id
        if not self._app_id and await link.sees():
            status = link.watcher.lookup(app_id)
            if status is not None and not self.is_ours(status):
                return
        if not await delete_and_wait(link, app_id, now):
            self.log.error(
                "%s is not known to have stopped; its app %s is deleted as soon as the backend agrees",
                self._log_name,
                app_id,
            )
        self._exit_status = 0

"""What becomes of a server that runs: known from memory, followed to new places, ended when it has ended.

The rules that shape it are JupyterHub's (``user.py``): a poll that returns a number means that
stop is never called. So a poll never raises, takes *unknown* for running, and no number is
returned for an app that is not gone or on the reaper's list.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from jupyterhub.spawner import Spawner
from jupyterhub.utils import make_ssl_context
from sqlalchemy import inspect

from hubfleet.api import labels
from hubfleet.api.errors import BackendError, BackendUnreachable, NotFound
from hubfleet.api.ids import canonical, server_app_id
from hubfleet.api.status import AppStatus, Task
from hubfleet.api.watcher import StateUnknown

from .build import Server
from .following import TaskEnd
from .launch import newest_running, url_of
from .leftovers import Owned
from .life_traits import LifeTraits
from .link import Link
from .linked import Linked
from .listeners import stranger_at
from .restoring import read_at_once

_ROUTE_SECONDS = 10.0
_KNOWN_ENDS = 5


class RunningServer(Linked, LifeTraits, Spawner):
    """The part of a spawner that knows its app; another one starts and stops it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._app_id = ""  # of the server that was started or restored; empty if neither
        self._task_id = ""  # of the task that users are routed to
        self._is_surely_ours = False  # the app of that id, whatever its labels say
        self._ends: dict[str, TaskEnd] = {}
        self._starting = False
        self._exit_status: int | None = None
        self._judged: AppStatus | None = None  # of which it is known that nothing is to be done about it

    async def start(self) -> str:
        """Start the server; `hubfleet.spawner.life` does."""
        raise NotImplementedError

    async def stop(self, now: bool = False) -> None:
        """Stop the server; `hubfleet.spawner.life` does."""
        raise NotImplementedError

    @property
    def app_id(self) -> str:
        """The id of this server's app: the restored one, or what the names make of it."""
        return self._app_id or server_app_id(self.app_prefix, self.user.name, self.name)

    def is_ours(self, status: AppStatus) -> bool:
        """Whether an app carries the marks of this hub, user and server."""
        marks = Server.marks(self.hub_id, self.user.name, self.name)
        return all(status.labels.get(name) == value for name, value in marks.items())

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

    # -- state ------------------------------------------------------------------------

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore which app the server is; the first spawner of a hub also begins to look for leftovers."""
        super().load_state(state)
        self._app_id = state.get("app_id", "")
        self._group = state.get("group", "")
        # The overrides that chose it are applied at a start and not now. A backend that is no longer
        # configured has moved, so that its new address counts.
        backend = state.get("backend", "")
        self._backend = backend if backend in self.other_backends else ""
        self._unlink()
        self._task_id = state.get("task_id", "")
        # The state is written before the app is submitted: where no task was seen, there may be another's.
        self._is_surely_ours = bool(self._task_id)
        self._keep_house()

    def get_state(self) -> dict[str, Any]:
        """Return which app the server is, where, and the group it is watched in.

        A later prefix, or other overrides, change none of them.
        """
        state: dict[str, Any] = super().get_state()
        if self._app_id:
            state |= {"app_id": self._app_id, "group": self._group, "task_id": self._task_id}
            if self._backend:
                state["backend"] = self._backend
        return state

    def clear_state(self) -> None:
        """Forget the server; JupyterHub does so before each start, and after each stop."""
        super().clear_state()
        self._app_id = self._group = self._backend = self._task_id = ""
        self._is_surely_ours = False
        self._judged = None
        self._unlink()
        self._ends = {}
        self._exit_status = None

    async def run_auth_state_hook(self, auth_state: Any) -> None:
        """Run the hook of a start, after the server's state is noted.

        Notes
        -----
        JupyterHub itself writes the state down only when a start has succeeded. But what it writes before a
        start (``user.py``) follows this call, so that the state is in the database before there can be an
        app, and takes no commit of its own: one takes as long as all the rest of a start of ours.
        """
        with suppress(ValueError):  # of a prefix that is none; the start says it
            place = {"app_id": self.app_id, "group": canonical(self.app_prefix), "task_id": ""}
            if self.orm_spawner is not None:
                self.orm_spawner.state = self.get_state() | place
        await super().run_auth_state_hook(auth_state)

    def _store_state(self) -> None:
        """See to it that the state is in the database."""
        row = self.orm_spawner
        if row is None:
            return
        state = self.get_state()
        if row.state != state:
            row.state = state
        if inspect(row).modified:
            self.user.db.commit()

    def _keep_house(self) -> None:
        """See to it that this hub's leftovers are looked for; costs no request of its own."""
        db = getattr(self.user, "db", None)
        if db is None or not self.marathon_host:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # somebody looks at a spawner without a hub
        read_at_once(db)
        try:
            self._link().keep_house(self.hub_id, lambda: Owned.of(db), self.leftover_grace)
        except ValueError as error:
            self.log.error("c.MarathonSpawner does not say how to reach the backend: %s", error)

    # -- while it runs ----------------------------------------------------------------

    def start_polling(self) -> None:
        """Poll from time to time, as JupyterHub does, and whenever something happens to the app."""
        super().start_polling()
        self._link().follower.follow(self.app_id, self._look, self._hear_end)

    def stop_polling(self) -> None:
        """Poll no longer."""
        super().stop_polling()
        if self.marathon_host and self._app_id:
            self._link().follower.leave(self._app_id)

    def _hear_end(self, task_id: str, end: TaskEnd) -> None:
        self._ends[task_id] = end
        while len(self._ends) > _KNOWN_ENDS:
            del self._ends[next(iter(self._ends))]

    async def _look(self) -> None:
        """See what has become of the app, and tell the hub if that is the server's end."""
        if await self.poll() is not None and self.ready and self._callbacks:
            await self.poll_and_notify()

    async def poll(self) -> int | None:
        """Return None while the server runs, starts, or is not known about; else its exit status.

        Answered from memory; only the end of a server is confirmed by a request.
        """
        if self._is_as_judged():
            return None
        try:
            return await self._judge()
        except StateUnknown:
            return None
        except Exception:
            # Whatever this is, it is no reason to forget a user's server.
            self.log.exception("Cannot tell whether %s runs; taking it for running", self._log_name)
            return None

    def _is_as_judged(self) -> bool:
        """Whether the app is in memory as it was when it was found to be well; two look-ups tell.

        What is in memory never changes: a change puts another object in its place.
        """
        link = self._linked
        return (
            self._judged is not None
            and self._exit_status is None
            and not self._starting
            and link is not None
            and link.watcher.sighted
            and link.watcher.lookup(self._app_id) is self._judged
            and not link.reaper.holds(self._app_id)
        )

    async def _judge(self) -> int | None:
        self._judged = None
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
        if not self._is_surely_ours and not self.is_ours(status):
            return self._end(f"the app {app_id} is not this server's")
        if status.instances == 0 and not status.tasks:
            return self._end(f"its app {app_id} was scaled to no instances", link)
        if (ended := await self._judge_end_of_task(link, status)) is not None:
            return ended
        is_kept = _is_kept(status)
        if is_kept:
            self._tell_activity(self._idle_seconds())
        elif self.autotimeout:
            idle = self._idle_seconds()
            if idle is not None and idle > self.autotimeout:
                return self._end(f"nobody used it for {idle:.0f} seconds, more than autotimeout", link)
        if await self._follow_to_new_place(status) and not is_kept and not self.autotimeout:
            self._judged = status
        return None

    def _end(self, reason: str, link: Link | None = None, exit_status: int = 0) -> int:
        """Declare the server ended; with a `link` its app is deleted."""
        if self._exit_status is not None:
            return self._exit_status  # said already, while this was being found out
        self.log.warning("Server %s has ended: %s", self._log_name, reason)
        if link is not None:
            link.reaper.condemn(self.app_id)
        self._exit_status = exit_status
        return exit_status

    async def _confirm_end(self, link: Link, app_id: str) -> int | None:
        try:
            await link.client.get_app(app_id)
        except NotFound:
            return self._end(f"its app {app_id} is gone from the backend")
        except BackendError:
            return None
        return None

    async def _judge_end_of_task(self, link: Link, status: AppStatus) -> int | None:
        """Decide what the end of the task that users are routed to means for the server, if it has ended."""
        task_id = self._task_id
        if not task_id or any(task.id == task_id for task in status.tasks):
            return None
        try:
            end = self._ends.get(task_id) or await _end_of_task(link, status, task_id)
        except BackendUnreachable:
            return None  # asked again at the next look
        if task_id != self._task_id:
            return None  # somebody else has judged it meanwhile
        if end.state == "TASK_FINISHED":
            return self._end("its process ended by itself, with exit status 0", link)
        if not self.restart_after_failure:
            return self._end(f"{end.message}; restart_after_failure is off", link, exit_status=1)
        self.log.warning(
            "The process of %s ended (%s); another one takes its place", self._log_name, end.message
        )
        self._task_id = ""
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

    def _tell_activity(self, idle: float | None) -> None:
        """Have a kept server look used: it is by their activity that cullers choose."""
        if self.orm_spawner is not None and (idle is None or idle > 0.5 * self.poll_interval):
            self.orm_spawner.last_activity = datetime.now(UTC).replace(tzinfo=None)
            self.user.db.commit()

    # -- where it is ------------------------------------------------------------------

    async def _follow_to_new_place(self, status: AppStatus) -> bool:
        """Route the server to where its task runs now, which another task may do elsewhere than the last.

        Return whether it is known where it runs and routed there.
        """
        task = newest_running(status)
        if task is None or self.server is None:
            return False
        self._task_id = task.id
        place = urlsplit(url_of(self._scheme, task.host, task.ports[0]))
        if (self.server.ip, self.server.port) == (place.hostname, place.port):
            self._store_state()
            return True
        if stranger := await stranger_at(task.host, task.ports[0], status):
            self.log.warning(
                "%s is not routed to %s: %s listens there", self._log_name, place.netloc, stranger
            )
            return False  # its own process, which cannot listen there, makes place for another
        self.log.warning("%s has moved from %s to %s", self._log_name, self.server.host, place.netloc)
        self.server.ip, self.server.port = place.hostname, place.port
        if self.orm_spawner is not None:
            self.orm_spawner.state = self.get_state()
            self.user.db.commit()  # both at once: after a machine's restart all its servers have moved
        proxy = (getattr(self.user, "settings", None) or {}).get("proxy")
        if proxy is not None and self.ready:
            # If this fails, JupyterHub's own periodic check of the routes does it later.
            async with asyncio.timeout(_ROUTE_SECONDS):
                await proxy.add_user(self.user, self.name)
        return True

    async def get_url(self) -> str:
        """Return where the server is: from memory if that is the truth, else what the hub has stored.

        Notes
        -----
        Must not raise: when a hub starts, it asks every restored server and catches nothing. A server
        that was starting when the hub was killed is waited for, as its start would have been.
        """
        if self.server is None:
            return ""
        try:
            link = self._link()
            if await link.sees() and (task := await self._locate(link)) is not None:
                return str(url_of(self._scheme, task.host, task.ports[0]) + self._base_path)
        except Exception:
            self.log.exception("Cannot tell where %s runs; taking the stored address", self._log_name)
        return str(self.server.url)

    async def _locate(self, link: Link) -> Task | None:
        status = link.watcher.lookup(self.app_id)
        if status is None:
            return None
        if (task := newest_running(status)) is not None:
            return task
        started = self.orm_spawner.started if self.orm_spawner is not None else None
        age = (datetime.now(UTC) - started.replace(tzinfo=UTC)).total_seconds() if started else 0.0
        patience = max(float(self.http_timeout), self.start_timeout - age)
        try:
            status = await link.watcher.wait_for(
                self.app_id, lambda found: found is None or newest_running(found) is not None, patience
            )
        except TimeoutError:
            return None
        return newest_running(status) if status is not None else None


def _is_kept(status: AppStatus) -> bool:
    return status.labels.get(labels.KEEP, "").lower() == "true"


async def _end_of_task(link: Link, status: AppStatus, task_id: str) -> TaskEnd:
    """Return how a task of an app ended that nobody saw end.

    Raises
    ------
    BackendUnreachable
        The backend cannot say it now.
    """
    try:
        history = await link.client.app_history(status.id)
        for ended in history.ended_tasks:
            if ended.id == task_id:
                return TaskEnd(ended.state, ended.message)
    except NotFound:
        pass  # Marathon does not tell
    last = status.last_task_failure
    if last is not None and last.task_id == task_id:
        return TaskEnd(last.state, last.message)
    return TaskEnd("", "how its process ended is not known")

"""The asyncio face of a Marathon API: typed calls, none of which ever runs on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar
from urllib.parse import urlsplit

from .app import App
from .errors import BackendUnreachable, Locked, NotFound
from .news import FOLLOWED_EVENTS
from .quota import QuotaReport
from .session import Session, ThreadSession
from .status import AppHistory, AppStatus, Deployment, DeploymentResult, Event, HistoryEvent, QueueItem, Task
from .transport import Transport

T = TypeVar("T")

_LOCKED_FIRST, _LOCKED_MOST = 0.1, 2.0  # seconds between questions whether a lock is gone


def split_urls(urls: str | Iterable[str]) -> list[str]:
    """Return the URLs of a comma-separated text or of a list, without blanks.

    Raises
    ------
    ValueError
        There is none, one does not begin with http:// or https://, or holds a password.
    """
    parts = urls.split(",") if isinstance(urls, str) else list(urls)
    found = [part.strip().rstrip("/") for part in parts if part.strip()]
    if not found:
        raise ValueError("the address of the Marathon API is missing; give one such as http://127.0.0.1:8081")
    for url in found:
        if "@" in urlsplit(url).netloc:
            # Addresses are shown, logged, and told to servers; so is this sentence, which names none.
            raise ValueError(
                "the address of a Marathon API must hold no user name or password: give them apart, as "
                "username and password, or give a token"
            )
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the address of a Marathon API begins with http:// or https://, got {url!r}")
    return found


class Client:
    """Calls to a Marathon API v2, from an event loop.

    Parameters
    ----------
    urls
        One or several addresses (list, or comma-separated), tried in order.
    token
        Sent as ``Authorization: token=<token>``.
    username, password
        Basic authentication, in place of a token.
    timeout
        Seconds for a connection, and for each answer.
    verify
        Whether to verify certificates, or the path of a CA file.
    certificate
        Path of a client certificate and its key in one file, or the paths of both.
    connections
        Most calls at once; further ones wait their turn.
    session
        How requests travel: by a thread for each, from any event loop; or with
        `hubfleet.api.loop_session.LoopSession` over the loop on which this is made, for whoever makes many.

    Notes
    -----
    Every call may raise `hubfleet.api.errors.BackendUnreachable` (nothing is known)
    or a `hubfleet.api.errors.RequestRefused` (the answer is no).

    A deployment locks the apps that it changes. What is asked meanwhile is refused with
    `hubfleet.api.errors.Locked`, unless ``force`` ends that deployment.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout: float = 10.0,
        verify: bool | str = True,
        certificate: str | tuple[str, str] | None = None,
        connections: int = 16,
        session: type[Session] = ThreadSession,
    ) -> None:
        self.urls = split_urls(urls)
        self.session = session(certificate, connections)
        self.transport = Transport(
            self.urls,
            self.session,
            token=token,
            username=username,
            password=password,
            timeout=timeout,
            verify=verify,
        )

    def __repr__(self) -> str:
        return f"<Client of {', '.join(self.urls)}>"

    def close(self) -> None:
        """Let go of the connections; calls under way end by their time-out, or at once."""
        self.session.close()

    async def wait_closed(self) -> None:
        """After `close`, return when nothing is left that the loop would have to end."""
        await self.session.wait_closed()

    def events(self) -> AbstractAsyncContextManager[AsyncIterable[Event]]:
        """Return the events that say something of an app, while it is entered.

        To enter, or to iterate when the stream breaks off, raises `BackendUnreachable`.
        """
        return self.session.events(lambda: self.transport.open_event_stream(FOLLOWED_EVENTS))

    async def _call(self, function: Callable[[], T]) -> T:
        try:
            return await self.session.run(function)
        except (ValueError, KeyError, TypeError) as error:
            # A login page of something in between, say.
            raise BackendUnreachable(f"what answers at {self!r} is no Marathon API") from error

    async def ping(self) -> None:
        """Return when a server answers."""
        await self._call(self.transport.ping)

    async def is_hubfleet(self) -> bool:
        """Whether what answers is hubfleet's own backend, and no Marathon."""
        return await self._call(self.transport.is_hubfleet)

    async def create_app(self, app: App, lock_seconds: float = 0.0) -> AppStatus:
        """Submit a new app.

        Parameters
        ----------
        lock_seconds
            How long to wait while the deletion of a former app of this id is under way. There is no
            ``force`` here, which would take an app that is just being made for one to be replaced.

        Raises
        ------
        hubfleet.api.errors.Conflict
            There is an app of this id already; `hubfleet.api.errors.Locked` if a deployment still
            holds the id.
        """
        give_up = asyncio.get_running_loop().time() + lock_seconds
        pause = _LOCKED_FIRST
        while True:
            try:
                return await self._call(lambda: self.transport.create_app(app.id, app))
            except Locked:
                if asyncio.get_running_loop().time() + pause > give_up:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LOCKED_MOST)

    async def replace_app(self, app: App, force: bool = False) -> DeploymentResult:
        """Submit an app as a whole, whether there is one of its id or not."""
        body = app.to_wire()
        answer = await self._call(lambda: self.transport.update_app(app.id, body, force=force, partial=False))
        return DeploymentResult.from_wire(answer)

    async def update_app(self, app_id: str, changes: dict[str, Any], force: bool = False) -> DeploymentResult:
        """Replace the given fields of an app; the others keep their values."""
        answer = await self._call(lambda: self.transport.update_app(app_id, changes, force=force))
        return DeploymentResult.from_wire(answer)

    async def delete_app(self, app_id: str, force: bool = True) -> DeploymentResult:
        """End an app's tasks and remove it."""
        answer = await self._call(lambda: self.transport.delete_app(app_id.strip("/"), force=force))
        return DeploymentResult.from_wire(answer)

    async def get_app(self, app_id: str) -> AppStatus:
        """Return an app with its tasks."""
        return await self._call(lambda: self.transport.get_app(app_id))

    async def list_apps(self, containing: str | None = None, label: str | None = None) -> list[AppStatus]:
        """Return the apps with their tasks: all, those whose id contains a text, or those of a label."""
        return await self._call(lambda: self.transport.list_apps(containing, label))

    async def list_tasks(self, app_id: str) -> list[Task]:
        """Return the tasks of an app."""
        return list(await self._call(lambda: self.transport.list_tasks(app_id.strip("/"))))

    async def kill_and_scale(self, task_ids: Sequence[str]) -> DeploymentResult:
        """Kill exactly these tasks, and lower their apps' instances by as many, in one change."""
        answer = await self._call(lambda: self.transport.kill_given_tasks(task_ids, scale=True, force=True))
        return DeploymentResult.from_wire(answer)

    async def list_deployments(self) -> list[Deployment]:
        """Return the deployments that are under way."""
        return list(await self._call(self.transport.list_deployments))

    async def list_queue(self) -> list[QueueItem]:
        """Return the apps that wait, and why."""
        return await self._call(self.transport.list_queue)

    async def reset_delay(self, app_id: str) -> None:
        """Let an app whose tasks have ended start the next ones at once, without its back-off.

        Raises
        ------
        NotFound
            No instance of it waits.
        """
        await self._call(lambda: self.transport.reset_delay(app_id))

    async def quota(self, user: str | None = None) -> QuotaReport | None:
        """Return what a user may have and has; None where the backend has no quotas, as Marathon has none.

        Parameters
        ----------
        user
            The hub's name of the user, for administrators; without it the token's own.
        """
        try:
            return await self._call(lambda: self.transport.get_quota(user))
        except NotFound:
            return None

    async def task_output(self, task_id: str, name: str = "stdout", tail: int | None = None) -> str:
        """Return what a task, running or ended lately, has written.

        Parameters
        ----------
        name
            ``stdout`` or ``stderr``.
        tail
            How many of the last lines; None is all that is kept.

        Raises
        ------
        hubfleet.api.errors.NotFound
            There is no such output, or the server is Marathon, which has none.
        """
        params = {} if tail is None else {"tail": tail}
        content = await self._call(lambda: self.transport.task_output(task_id, name, params))
        return content.decode("utf-8", "replace")

    async def task_history(self, task_id: str) -> list[HistoryEvent]:
        """Return what happened to a task, oldest first.

        Raises
        ------
        hubfleet.api.errors.NotFound
            There is no such task, or the server is Marathon, which does not tell.
        """
        return await self._call(lambda: self.transport.task_history(task_id))

    async def app_history(self, app_id: str) -> AppHistory:
        """Return what happened to an app and its tasks, also for a while after it is gone.

        Raises
        ------
        hubfleet.api.errors.NotFound
            There is no such app, or the server is Marathon, which does not tell.
        """
        return await self._call(lambda: self.transport.app_history(app_id))

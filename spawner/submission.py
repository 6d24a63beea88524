"""The handing over of a server's app to the backend, whatever is in its place or in the way."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from datetime import datetime

from hubfleet.api.app import App
from hubfleet.api.errors import (
    AccessDenied,
    BackendUnreachable,
    Conflict,
    NotFound,
    RequestRefused,
    TooManyDeployments,
)
from hubfleet.api.status import AppStatus

from . import progress
from .errors import StartRefused, closed
from .link import Link
from .progress import ProgressLog

log = logging.getLogger("hubfleet.spawner.submission")

PATIENCE_SECONDS = 10.0
"""How long a backend that has not answered, such as one that is just restarting, is asked again."""

_PAUSE_FIRST, _PAUSE_MOST = 0.25, 2.0  # seconds


class Submission:
    """One app on its way to the backend.

    Parameters
    ----------
    link
        The backend.
    app
        What to run; its id is this server's own.
    told
        Where the user reads how it goes.
    is_ours
        Tells an app of this very hub, user and server from anybody else's.
    """

    def __init__(
        self, link: Link, app: App, told: ProgressLog, *, is_ours: Callable[[AppStatus], bool]
    ) -> None:
        self.link = link
        self.app = app
        self.told = told
        self.is_ours = is_ours
        self.since: datetime | None = None
        """Tasks older than this belong to a former definition; None until the backend has agreed."""
        self.agreed = asyncio.Event()
        self.may_exist = False
        """Whether an app of ours may be at the backend."""
        self.outlook = "its app was not yet accepted"
        self._sending: asyncio.Task[None] | None = None

    async def send(self) -> None:
        """Return when the backend has accepted the app.

        A backend that does not answer is asked again for a while, however long it took not to; one
        that has too much under way, as when everybody logs in at once, for as long as the caller waits.

        Raises
        ------
        StartRefused
            It does not accept it; with its words.
        """
        give_up: float | None = None
        pause = _PAUSE_FIRST
        while True:
            self._sending = asyncio.create_task(self._send())
            try:
                await asyncio.shield(self._sending)  # see `settled`
                self.agreed.set()
                return
            except BackendUnreachable as error:
                now = asyncio.get_running_loop().time()
                give_up = give_up or now + PATIENCE_SECONDS
                if now > give_up:
                    raise StartRefused(
                        f"The backend that runs the servers cannot be reached: {error}. Try again later.",
                        reason="backend-unreachable",
                        status_code=503,
                    ) from error
                self.outlook = "the backend that runs the servers cannot be reached"
                self.told.add(progress.SUBMITTED, "The backend does not answer; asking again")
                pause = _PAUSE_FIRST
            except TooManyDeployments as error:
                self.outlook = f"the backend has too much under way ({error})"
                self.told.add(
                    progress.SUBMITTED, "Many servers start at this moment; waiting for the backend's turn"
                )
                give_up = None
            except AccessDenied as error:
                raise StartRefused(
                    f"The backend does not let this hub start the server: {error}. An administrator "
                    "has to check c.MarathonSpawner.marathon_token and what it may do.",
                    reason="backend-access",
                    status_code=500,
                ) from error
            except RequestRefused as error:
                raise StartRefused(
                    f"The backend refuses this server: {closed(str(error))}", reason="backend-refused"
                ) from error
            # Jittered, or those who were refused together would come again together.
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 (no secret)
            pause = min(pause * 1.5, _PAUSE_MOST)

    async def settled(self) -> bool:
        """Return whether there may be an app of this submission, once none is on its way.

        A cancelled call goes on in its thread, and may reach the backend after
        a delete that was meant for it.
        """
        if self._sending is not None:
            await asyncio.wait({self._sending})
            if not self._sending.cancelled() and self._sending.exception() is not None:
                log.debug("the submission of %s ended with %r", self.app.id, self._sending.exception())
        return self.may_exist

    async def look_up(self) -> AppStatus | None:
        """Return what the backend says of the app now, or None if it has no such app."""
        try:
            return await self.link.client.get_app(self.app.id)
        except NotFound:
            return None

    async def _send(self) -> None:
        """Create the app, or put it in the place of our own leftover."""
        client, app = self.link.client, self.app
        existed, self.may_exist = self.may_exist, True
        try:
            with self.link.watcher.expecting(app.id):
                created = await client.create_app(app)
                self.since = created.version
                self.link.watcher.learn(created)
            return
        except Conflict:
            present = await self.look_up()
        except RequestRefused:
            self.may_exist = existed  # by an attempt before, to which no answer came
            raise
        if present is not None and not self.is_ours(present):
            self.may_exist = False
            raise StartRefused(
                f"The backend already has an app {app.id}, and its labels do not say that it is this "
                "server of this hub. It is left alone; an administrator has to remove it, or to give "
                "this hub another c.MarathonSpawner.app_prefix.",
                reason="conflict",
                status_code=409,
            )
        # Either our own leftover, or an app of this id that is still on its way out and
        # holds the id by a lock. Both are ours to override.
        version = (await client.replace_app(app, force=True)).version
        replaced = await self.look_up()
        info = replaced.version_info if replaced else None
        # An unchanged definition keeps its tasks, whose version is older than the answer's.
        self.since = (info and info.last_config_change_at) or version

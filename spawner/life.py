"""The life of a server, as JupyterHub asks for it: start, stop, rename, delete.

Whatever comes of a stop, JupyterHub forgets the server afterwards (``user.py``). So what cannot be
deleted now is handed to the reaper.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from hubfleet.api.app import App
from hubfleet.api.ids import canonical

from .build import api_path
from .launch import Launch
from .progress import ProgressLog
from .running import RunningServer
from .stopping import delete_and_wait, delete_if_ours

_CLEAN_UP_SECONDS = 5.0
# JupyterHub gives a start that a user cancels one second to end (`apihandlers/users.py`).
_CANCELLED_CLEAN_UP_SECONDS = 0.5


class ServerLife(RunningServer):
    """A server that is an app on a Marathon API, whatever the app is made of."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._told = ProgressLog()

    async def app_to_submit(self) -> App:
        """Return the app of this server, as it is to run now."""
        raise NotImplementedError

    def clear_state(self) -> None:
        """Forget the server, and what was told of its last start."""
        super().clear_state()
        self._told = ProgressLog()

    # -- start ------------------------------------------------------------------------

    async def start(self) -> str:
        """Submit the server's app and return its address when it answers.

        Raises
        ------
        hubfleet.spawner.errors.StartRefused
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
        margin = min(4.0, 0.1 * self.start_timeout)
        ends_at = clock() + self.start_timeout - margin
        app = await self.app_to_submit()
        self._app_id, self._group = app.id, canonical(self.app_prefix)
        self._backend = self._backend_now if self._backend_now in self.other_backends else ""
        self._store_state()
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
            secrets=(self.api_token,),
        )
        try:
            address = await launch.run(ends_at - clock())
        except BaseException as error:
            deletion = link.reaper.condemn(app.id, after=launch.settled())
            rest = min(max(0.5 * margin, ends_at - clock()), _CLEAN_UP_SECONDS)
            if isinstance(error, asyncio.CancelledError):
                rest = min(rest, _CANCELLED_CLEAN_UP_SECONDS)
            await asyncio.wait({deletion}, timeout=rest)
            raise
        self._task_id = launch.task_id or ""
        return address

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the user reads while the server starts; any number of pages may listen."""
        async for message in self._told.follow():
            yield message

    # -- stop -------------------------------------------------------------------------

    async def stop(self, now: bool = False) -> None:
        """Delete the server's app and return when its processes have ended.

        Parameters
        ----------
        now
            Return as soon as the backend has agreed.
        """
        link, app_id = self._link(), self.app_id
        # An app that is known only by its place is looked at first: it may be another hub's.
        after = None if self._app_id else delete_if_ours(link, app_id, self.is_ours)
        if not await delete_and_wait(link, app_id, now, after):
            self.log.error(
                "%s is not known to have stopped; its app %s is deleted as soon as the backend agrees",
                self._log_name,
                app_id,
            )
        self._exit_status = 0

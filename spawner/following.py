"""Wakes the spawner of a running server as soon as something happens to its app.

JupyterHub polls each server every half minute. For a server that was started again elsewhere that
is too late: people would be sent to a port which by then may be somebody else's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from hubfleet.api.status import ENDED_STATES, Event
from hubfleet.api.watcher import Watcher

log = logging.getLogger("hubfleet.spawner.following")


@dataclass(frozen=True)
class TaskEnd:
    """How a task ended, as far as it is known: its state, and the backend's words."""

    state: str
    message: str


@dataclass
class _Followed:
    look: Callable[[], Awaitable[None]]
    hear_end: Callable[[str, TaskEnd], None]
    again: bool = False
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Follower:
    """The running servers of one backend, by the ids of their apps."""

    def __init__(self, watcher: Watcher) -> None:
        self._followed: dict[str, _Followed] = {}
        self._looking: set[asyncio.Task[None]] = set()
        watcher.observe(self._hear)

    def follow(
        self,
        app_id: str,
        look: Callable[[], Awaitable[None]],
        hear_end: Callable[[str, TaskEnd], None],
    ) -> None:
        """Call `look` now, and whenever an app may have changed; never twice at a time.

        Parameters
        ----------
        app_id
            Which app.
        look
            Looks what has become of it.
        hear_end
            Takes a task's id and how it ended, before `look` is called.
        """
        self._followed[app_id] = _Followed(look, hear_end)
        self._wake(app_id)

    def leave(self, app_id: str) -> None:
        """Follow an app no longer; a look that is under way goes on."""
        self._followed.pop(app_id, None)

    async def close(self) -> None:
        """Follow nothing any more."""
        self._followed.clear()
        for task in self._looking:
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

    def _hear(self, app_id: str, event: Event | None) -> None:
        followed = self._followed.get(app_id)
        if followed is None:
            return
        if (
            event is not None
            and event.event_type == "status_update_event"
            and event["taskStatus"] in ENDED_STATES
        ):
            end = TaskEnd(str(event["taskStatus"]), str(event["message"] or ""))
            followed.hear_end(str(event["taskId"]), end)
        self._wake(app_id)

    def _wake(self, app_id: str) -> None:
        followed = self._followed[app_id]
        if followed.task is not None and not followed.task.done():
            followed.again = True
            return
        followed.task = asyncio.create_task(self._look(app_id, followed), name=f"look at {app_id}")
        self._looking.add(followed.task)
        followed.task.add_done_callback(self._looking.discard)

    async def _look(self, app_id: str, followed: _Followed) -> None:
        while True:
            followed.again = False
            try:
                await followed.look()
            except Exception:
                # JupyterHub's own poll looks again.
                log.exception("Cannot tell what has become of %s", app_id)
            if not followed.again or self._followed.get(app_id) is not followed:
                return

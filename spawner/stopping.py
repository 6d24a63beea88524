"""The end of a server's app, and the wait until its processes have ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from typing import Any

from hubfleet.api.errors import BackendError, NotFound
from hubfleet.api.status import AppStatus

from .link import Link

log = logging.getLogger("hubfleet.spawner.stopping")

UNANSWERED_SECONDS = 20.0
"""How long a stop goes on without a word from the backend; then the reaper has it.

A hub that is told to end stops its servers first. Where the backend has gone, it must have done
before whoever told it loses patience: Kubernetes after 30 s, systemd after 90 s.
"""
END_SECONDS = 60.0
"""How long a stop waits for the processes' end, of which the backend says that it is under way."""

_ASK_FIRST, _ASK_MOST = 0.5, 5.0  # seconds between questions for the deployment, should an event be lost


async def delete_if_ours(link: Link, app_id: str, is_ours: Callable[[AppStatus], bool]) -> bool:
    """Return whether there is an app to delete and it is ours, as soon as the backend says so."""
    pause = _ASK_FIRST
    while True:
        try:
            return is_ours(await link.client.get_app(app_id))
        except NotFound:
            return False
        except BackendError as error:
            log.warning("cannot look at %s before it is deleted, trying again: %s", app_id, error)
        await asyncio.sleep(pause)
        pause = min(pause * 2, _ASK_MOST)


async def delete_and_wait(
    link: Link, app_id: str, now: bool = False, after: Coroutine[Any, Any, bool] | None = None
) -> bool:
    """Delete an app and return when its tasks have ended, with `now` when the backend has agreed.

    Parameters
    ----------
    after
        See `Reaper.condemn`.

    Returns
    -------
    bool
        Whether it is so. If not, the link's reaper goes on deleting.
    """
    # Listening comes first, or the end could be over before anybody listens.
    ended = asyncio.create_task(_hear_end(link, app_id))
    await asyncio.sleep(0)
    try:
        deletion = link.reaper.condemn(app_id, after)
        await asyncio.wait({deletion}, timeout=UNANSWERED_SECONDS)
        if not deletion.done() or deletion.cancelled():
            return False
        deployment_id = deletion.result()
        if now or deployment_id is None:
            return True
        return await _wait_for_end(link, deployment_id, ended)
    finally:
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)


async def _wait_for_end(link: Link, deployment_id: str, ended: asyncio.Task[None]) -> bool:
    clock = asyncio.get_running_loop().time
    answered_at = clock()
    try:
        async with asyncio.timeout(END_SECONDS):
            pause = _ASK_FIRST
            while clock() - answered_at < UNANSWERED_SECONDS:
                await asyncio.wait({ended}, timeout=min(pause, UNANSWERED_SECONDS))
                if ended.done():
                    return True
                try:
                    deployments = await link.client.list_deployments()
                except BackendError as error:
                    log.debug("cannot ask for deployment %s: %s", deployment_id, error)
                else:
                    if all(deployment.id != deployment_id for deployment in deployments):
                        return True
                    answered_at = clock()
                pause = min(pause * 1.5, _ASK_MOST)
    except TimeoutError:
        pass
    return False


async def _hear_end(link: Link, app_id: str) -> None:
    async with aclosing(link.watcher.events(app_id, "app_terminated_event")) as events:  # type: ignore[type-var]
        async for _ in events:
            return

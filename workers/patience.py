"""Asks a backend again that cannot just now, for a moment, before it is called away; and hears it out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from hubfleet.api.errors import BackendUnreachable, Conflict, TooManyDeployments

T = TypeVar("T")

NOT_NOW = (BackendUnreachable, Conflict, TooManyDeployments)
"""Answers after which the same request may well be taken."""

PATIENCE_SECONDS = 1.0

LOCK_SECONDS = 30.0
"""How long a cluster waits for the end of a former one of its name, whose tasks end meanwhile."""

_FIRST = 0.1


async def patiently(request: Callable[[], Awaitable[T]]) -> T:
    """Make a request that may be repeated, a few times if need be, and return its answer.

    Raises
    ------
    BackendUnreachable
        The backend could not for `PATIENCE_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    deadline, pause = loop.time() + PATIENCE_SECONDS, _FIRST
    while True:
        try:
            return await request()
        except NOT_NOW as error:
            if loop.time() + pause > deadline:
                raise BackendUnreachable(str(error)) from error
        await asyncio.sleep(pause)
        pause *= 2


async def to_the_end(making: Coroutine[Any, Any, T]) -> T:
    """Await what makes something at the backend; who cancels this, as Ctrl-C does, waits for it all the same.

    The request is on its way, and what it makes would be nobody's if nobody took note of the answer.
    """
    task = asyncio.ensure_future(making)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # the cancellation is what counts
        raise

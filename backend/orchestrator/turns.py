"""How many tasks are asked at once, so that it neither comes in bursts nor takes all descriptors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

MOST = 400
"""Questions at once; each is a connection, of which a process may have a thousand by default."""

MOST_OF_OWNER = 80
"""Of one owner, so that tasks that do not answer cost nobody else a turn."""


class Turns:
    """A bound on what is asked at once, in all and of each owner's tasks.

    Parameters
    ----------
    most, most_of_owner
        See the constants of this module.

    Notes
    -----
    An app's owner is its group two levels deep: ``/<prefix>/<user>``. Who waits for a turn of
    their own holds none of the others'.
    """

    def __init__(self, most: int = MOST, most_of_owner: int = MOST_OF_OWNER) -> None:
        self._all = asyncio.Semaphore(most)
        self._most_of_owner = most_of_owner
        self._of_owner: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def one(self, app_id: str) -> AsyncIterator[None]:
        """Wait for a turn, and hold it."""
        owner = "/".join(app_id.split("/", 3)[:3])
        own = self._of_owner.get(owner)
        if own is None:
            own = self._of_owner[owner] = asyncio.Semaphore(self._most_of_owner)
        async with own, self._all:
            yield

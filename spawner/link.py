"""What all spawners of a process share for one backend: connections, the watcher, the reaper.

A hub has thousands of spawners and one event loop; each link is made by the first spawner
that needs it, and closed by a task of its own that the end of the loop cancels.
"""

from __future__ import annotations

import asyncio
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field

from hubfleet.api.client import Client
from hubfleet.api.loop_session import LoopSession
from hubfleet.api.status import QueueItem
from hubfleet.api.watcher import Watcher

from .following import Follower
from .leftovers import Leftovers, Owned
from .reaper import Reaper

FIRST_SIGHT_SECONDS = 5.0
"""How long after a link was made its spawners wait for the first full picture."""

CONNECTIONS = 110
"""Most requests at once: one for each start that a hub allows at a time (JupyterHub's
``concurrent_spawn_limit``, 100 by default), and some to follow and to stop what there is."""

_QUEUE_FRESH_SECONDS = 1.5


@dataclass(frozen=True)
class Address:
    """Where a backend is, as whom, and which group of its apps matters."""

    urls: tuple[str, ...]
    group: str = ""
    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    verify: bool | str = True
    certificate: str | tuple[str, str] | None = None
    timeout: float = 10.0


class Link:
    """One backend as this process sees it."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.loop = asyncio.get_running_loop()
        self.client = Client(
            list(address.urls),
            token=address.token,
            username=address.username,
            password=address.password,
            verify=address.verify,
            certificate=address.certificate,
            timeout=address.timeout,
            connections=CONNECTIONS,
            session=LoopSession,
        )
        self.watcher = Watcher(self.client, group=address.group or "/")
        self.reaper = Reaper(self.client)
        self.follower = Follower(self.watcher)
        self._queue: dict[str, QueueItem] = {}
        self._queue_read_at = float("-inf")
        self._queue_lock = asyncio.Lock()
        self._closed = False
        self._houses: dict[str, Leftovers] = {}
        self.watcher.start()
        # One wait with one end for all spawners, however many a restarted hub asks about.
        self._first_sight = asyncio.create_task(self.watcher.wait_sighted(FIRST_SIGHT_SECONDS))

    async def sees(self) -> bool:
        """Whether the watcher's memory is the truth; of a new link, wait a little until it is."""
        if not self._first_sight.done():
            await asyncio.wait({self._first_sight})
        return bool(self.watcher.sighted)

    async def queue_item(self, app_id: str) -> QueueItem | None:
        """Return why an app waits, if it does; all who ask within a moment share one request.

        Raises
        ------
        hubfleet.api.errors.BackendError
            The queue cannot be read now.
        """
        async with self._queue_lock:
            if time.monotonic() - self._queue_read_at > _QUEUE_FRESH_SECONDS:
                items = await self.client.list_queue()
                self._queue = {item.app.id: item for item in items if item.app is not None}
                self._queue_read_at = time.monotonic()
        return self._queue.get(app_id)

    def keep_house(self, hub_id: str, read_owned: Callable[[], Owned], grace: float | None) -> None:
        """Look for a hub's leftovers from now on; asked again, nothing is done. See `Leftovers`."""
        if hub_id not in self._houses:
            self._houses[hub_id] = Leftovers(
                self.client, self.watcher, self.reaper, hub_id=hub_id, read_owned=read_owned, grace=grace
            )

    async def close(self) -> None:
        """Let go of everything."""
        self._closed = True
        self._first_sight.cancel()
        await asyncio.gather(self._first_sight, return_exceptions=True)
        for house in self._houses.values():
            await house.close()
        await self.follower.close()
        await self.reaper.close()
        await self.watcher.close()
        self.client.close()
        await self.client.wait_closed()

    @property
    def closed(self) -> bool:
        """Whether this link is of no more use."""
        return self._closed

    async def keep(self) -> None:
        """Hold the link open until cancelled, which the end of the hub does."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()


@dataclass
class _Kept:
    link: Link
    keeper: asyncio.Task[None]


_links: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Address, _Kept]] = (
    weakref.WeakKeyDictionary()
)


def link_to(address: Address) -> Link:
    """Return this loop's link to a backend; the first to ask makes it.

    Raises
    ------
    ValueError
        The address is none.
    """
    links = _links.setdefault(asyncio.get_running_loop(), {})
    kept = links.get(address)
    if kept is None or kept.link.closed or kept.keeper.done():
        link = Link(address)
        keeper = asyncio.create_task(link.keep(), name=f"link to {address.urls}")
        kept = links[address] = _Kept(link, keeper)
        keeper.add_done_callback(lambda _: links.pop(address, None) if links.get(address) is kept else None)
    return kept.link


async def close_links() -> None:
    """Close all links of this loop; for who ends before their loop does."""
    kept = list(_links.pop(asyncio.get_running_loop(), {}).values())
    for one in kept:
        one.keeper.cancel()
    await asyncio.gather(*(one.keeper for one in kept), return_exceptions=True)
    for one in kept:
        if not one.link.closed:  # cancelled before it ever ran
            await one.link.close()

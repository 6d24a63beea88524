"""The memory of a Marathon API's apps: follows its events, so that a question costs no request.

While the events flow, memory is the truth a moment ago. While they do not, the
watcher is *blind*: it says so (`StateUnknown`), and never takes silence for an end.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from .client import Client
from .errors import BackendError, HubfleetError, NotFound
from .ids import canonical, is_within
from .news import after, is_failure, stops
from .status import AppStatus, Event

log = logging.getLogger("hubfleet.watcher")

_RETRY_FIRST, _RETRY_MOST = 0.2, 15.0  # seconds between attempts to see again
_REMEMBERED_EVENTS = 200  # per app that somebody follows


class StateUnknown(HubfleetError):
    """The backend cannot be seen now; what became of the app is not known."""


@dataclass(eq=False)
class _Listener:
    """Who waits for events of one app, and what was not taken of them yet."""

    types: tuple[str, ...]
    heard: deque[Event] = field(default_factory=lambda: deque(maxlen=_REMEMBERED_EVENTS))
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, event: Event) -> None:
        """Keep an event that is waited for."""
        if not self.types or event.event_type in self.types:
            self.heard.append(event)
            self.arrived.set()


class Watcher:
    """Follows one Marathon API and remembers the apps of a group.

    Parameters
    ----------
    client
        How the API is reached.
    group
        Remember only the apps in this group, such as ``/jupyter``.
    relist_seconds
        How often the whole state is read anew although the events flow.
    log_level
        Level at which blindness is logged; for those who tell it in their own words, a low one.
    """

    def __init__(
        self,
        client: Client,
        group: str = "/",
        relist_seconds: float = 300.0,
        log_level: int = logging.WARNING,
    ) -> None:
        self.client = client
        self.group = canonical(group)
        self.relist_seconds = relist_seconds
        self.log_level = log_level
        self._apps: dict[str, AppStatus] = {}
        self._touched: dict[str, int] = {}  # app id -> the count of the last event about it
        self._count = 0
        self._before: dict[str, list[Event]] = {}  # of apps that are not in memory, for `learn`
        self._expected: dict[str, int] = {}  # app id -> how many are about to `learn` it
        self._sighted = asyncio.Event()
        self._changed: dict[str, asyncio.Event] = {}
        self._listeners: dict[str, list[_Listener]] = {}
        self._observers: list[Callable[[str, Event | None], None]] = []
        self._stale: set[str] = set()
        self._asked: set[str] = set()  # the apps that are asked for one by one, now
        self._stale_wakeup = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- life -------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to follow; it goes on until `close`."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow_for_ever(), name="marathon-watcher")

    async def close(self) -> None:
        """End following."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._sighted.clear()

    @property
    def sighted(self) -> bool:
        """Whether memory is the truth now."""
        return self._sighted.is_set()

    async def wait_sighted(self, timeout: float) -> bool:
        """Wait until memory is the truth, at most `timeout` seconds; return whether it is."""
        try:
            async with asyncio.timeout(timeout):
                await self._sighted.wait()
        except TimeoutError:
            return False
        return True

    # -- questions --------------------------------------------------------------------

    def lookup(self, app_id: str) -> AppStatus | None:
        """Return the state of an app, or None if there is no such app.

        Raises
        ------
        StateUnknown
            The backend cannot be seen now.
        """
        if not self.sighted:
            raise StateUnknown(f"the state of {app_id} is unknown: {self.client!r} cannot be followed now")
        return self._apps.get(app_id)

    def apps(self) -> list[AppStatus]:
        """Return the state of all apps.

        Raises
        ------
        StateUnknown
            The backend cannot be seen now.
        """
        if not self.sighted:
            raise StateUnknown(f"the apps of {self.client!r} are unknown: it cannot be followed now")
        return list(self._apps.values())

    def learn(self, created: AppStatus) -> None:
        """Take the answer to the creation of an app into memory, with what the events have told of it since.

        So who created it need not wait until it was asked for, which takes a busy backend its time. What
        memory already holds, and what was removed again, stays as it is.
        """
        since = created.version
        if not self.sighted or since is None or created.id in self._apps or not self._mine(created.id):
            return
        later = [
            event
            for event in self._before.pop(created.id, [])
            if event.timestamp is None or event.timestamp >= since
        ]
        if any(event.event_type == "app_terminated_event" for event in later):
            return
        self._count += 1
        self._touched[created.id] = self._count  # an answer that is under way may be older
        self._put(created.id, created)
        for event in later:
            if not self._apply(created.id, event):
                self._mark_stale(created.id)
        self._announce(created.id)

    @contextmanager
    def expecting(self, app_id: str) -> Iterator[None]:
        """Ask for no app of this id that memory lacks until it is left: who enters will `learn` it."""
        self._expected[app_id] = self._expected.get(app_id, 0) + 1
        try:
            yield
        finally:
            self._expected[app_id] -= 1
            if not self._expected[app_id]:
                del self._expected[app_id]
                if app_id in self._before:  # no answer came that could be learned
                    self._mark_stale(app_id)

    async def wait_for(
        self, app_id: str, condition: Callable[[AppStatus | None], bool], timeout: float | None = None
    ) -> AppStatus | None:
        """Wait until the state of an app meets a condition, and return that state.

        While the watcher is blind the condition is not asked.

        Raises
        ------
        TimeoutError
            It did not within `timeout` seconds.
        """
        async with asyncio.timeout(timeout):
            while True:
                changed = self._change(app_id)
                if self.sighted:
                    state = self._apps.get(app_id)
                    if condition(state):
                        return state
                await changed.wait()

    async def events(self, app_id: str, *types: str) -> AsyncIterator[Event]:
        """Yield the events of one app from now on, of these types or of all, until the iterator is closed."""
        listener = _Listener(types)
        listeners = self._listeners.setdefault(app_id, [])
        listeners.append(listener)
        try:
            while True:
                await listener.arrived.wait()
                listener.arrived.clear()
                while listener.heard:
                    yield listener.heard.popleft()
        finally:
            listeners.remove(listener)
            if not listeners:
                del self._listeners[app_id]

    def observe(self, observer: Callable[[str, Event | None], None]) -> None:
        """Call a function with the id of each app that may have changed, and with the event that says so.

        It is called after memory has changed, on the event loop, and must neither wait nor raise. No
        event is given where the whole state of the app was read.
        """
        self._observers.append(observer)

    def _change(self, app_id: str) -> asyncio.Event:
        """Return what is set at the next change of an app."""
        return self._changed.setdefault(app_id, asyncio.Event())

    def _announce(self, app_id: str, event: Event | None = None, wakes: bool = True) -> None:
        """Tell of an app; and wake those who wait for a state of it, which may be another now."""
        for observer in self._observers:
            observer(app_id, event)
        changed = self._changed.pop(app_id, None) if wakes else None
        if changed is not None:
            changed.set()

    def _announce_all(self, app_ids: Iterable[str]) -> None:
        for app_id in {*self._changed, *app_ids}:
            self._announce(app_id)

    # -- following --------------------------------------------------------------------

    async def _follow_for_ever(self) -> None:
        pause = _RETRY_FIRST
        while True:
            try:
                await self._follow_once()
                pause = _RETRY_FIRST
            except BackendError as error:
                was_sighted = self.sighted
                self._sighted.clear()
                pause = _RETRY_FIRST if was_sighted else min(pause * 2, _RETRY_MOST)
                log.log(
                    self.log_level, "cannot follow %r, trying again in %.1f s: %s", self.client, pause, error
                )
            except Exception:  # a fault of ours must not make the watcher blind for ever
                pause = _RETRY_MOST
                log.exception("following %r failed, trying again in %.1f s", self.client, pause)
            finally:
                self._sighted.clear()
            await asyncio.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311 (jitter, no secret)

    async def _follow_once(self) -> None:
        """Attach to the events, then read the whole state, then live from the events."""
        async with self.client.events() as stream:
            parts = [
                asyncio.create_task(self._listen(stream)),
                asyncio.create_task(self._relist_for_ever()),
                asyncio.create_task(self._refresh_for_ever()),
            ]
            try:
                # Whichever ends first, by the stream's end or by an error, ends the others.
                done, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
                for part in done:
                    part.result()
            finally:
                self._sighted.clear()
                for part in parts:
                    part.cancel()
                await asyncio.gather(*parts, return_exceptions=True)

    async def _listen(self, stream: AsyncIterable[Event]) -> None:
        async for event in stream:
            self._take(event)

    async def _relist_for_ever(self) -> None:
        while True:
            try:
                await self._relist()
            except BackendError as error:
                if not self.sighted:
                    log.log(self.log_level, "cannot read the apps of %r: %s", self.client, error)
                    await asyncio.sleep(_RETRY_FIRST * 5)
                    continue
            await asyncio.sleep(self.relist_seconds)

    async def _relist(self) -> None:
        begun, before = self._count, set(self._apps)
        listed = {app.id: app for app in await self.client.list_apps(containing=self.group or None)}
        for app_id in set(listed) | set(self._apps) | self._asked:
            if not self._mine(app_id):
                continue
            if self._touched.get(app_id, -1) > begun:
                # Events overtook the list; ask for this app alone, which cannot be older than they are.
                self._mark_stale(app_id)
                continue
            # An answer about this app that is still under way may be older than the list.
            self._touched[app_id] = self._count + 1
            self._put(app_id, listed.get(app_id))
        self._count += 1
        self._before = {
            app_id: events for app_id, events in self._before.items() if self._touched.get(app_id, -1) > begun
        }
        self._touched = {
            app_id: count for app_id, count in self._touched.items() if app_id in self._apps or count > begun
        }
        if not self.sighted:
            log.info("following %r: %d apps", self.client, len(self._apps))
            self._sighted.set()
        self._announce_all(before | set(listed))

    async def _refresh_for_ever(self) -> None:
        """Re-read the apps whose events did not tell all."""
        while True:
            await self._stale_wakeup.wait()
            self._stale_wakeup.clear()
            stale, self._stale = self._stale, set()
            await asyncio.gather(*(self._refresh(app_id) for app_id in stale))

    async def _refresh(self, app_id: str) -> None:
        begun = self._count
        self._asked.add(app_id)
        try:
            found: AppStatus | None = await self.client.get_app(app_id)
        except NotFound:
            found = None
        except BackendError as error:
            log.log(self.log_level, "cannot read %s, trying again: %s", app_id, error)
            await asyncio.sleep(_RETRY_FIRST * 5)
            self._mark_stale(app_id)
            return
        finally:
            self._asked.discard(app_id)
        if self._touched.get(app_id, -1) > begun:
            # Something newer overtook the answer, which may be the older one.
            self._mark_stale(app_id)
            return
        # A list that is still under way may be older than the answer.
        self._count += 1
        self._touched[app_id] = self._count
        self._put(app_id, found)
        self._announce(app_id)

    def _put(self, app_id: str, app: AppStatus | None) -> None:
        if app is None:
            self._apps.pop(app_id, None)
        else:
            self._apps[app_id] = app
            self._before.pop(app_id, None)

    def _mark_stale(self, app_id: str) -> None:
        self._stale.add(app_id)
        self._stale_wakeup.set()

    def _mine(self, app_id: str) -> bool:
        return not self.group or is_within(app_id, self.group)

    def _take(self, event: Event) -> None:
        """Move memory by one event."""
        self._count += 1
        for app_id in event.app_ids:
            if not self._mine(app_id):
                continue
            self._touched[app_id] = self._count
            for listener in self._listeners.get(app_id, ()):
                listener.hear(event)
            known = self._apps.get(app_id)
            if not self._apply(app_id, event):
                self._mark_stale(app_id)
            state = self._apps.get(app_id)
            if state is None:
                self._before.setdefault(app_id, []).append(event)
            self._announce(app_id, event, wakes=state is not known)

    def _apply(self, app_id: str, event: Event) -> bool:
        """Change memory as an event says; return False where it does not say enough."""
        if event.event_type == "app_terminated_event":
            self._apps.pop(app_id, None)
            return True
        known = self._apps.get(app_id)
        if known is None:
            return app_id in self._expected or stops(event, app_id)
        app = after(known, event)
        if app is not None:
            self._apps[app_id] = app
        return app is not None and not is_failure(event)

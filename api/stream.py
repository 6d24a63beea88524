"""The event stream as an asynchronous iterator: a thread reads, the loop listens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import requests

from .client import Client
from .errors import BackendError
from .news import FOLLOWED_EVENTS
from .status import Event
from .transport import read_events

log = logging.getLogger("hubfleet.watcher")


class EventStream:
    """The events of a Marathon API, while it is entered.

    Iterating raises `BackendError` when the stream breaks off, and ends when it is ended.

    Parameters
    ----------
    client
        How the API is reached.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._heard: deque[Event | BackendError | None] = deque()
        self._arrived = asyncio.Event()
        self._woken = False
        self._response: requests.Response | None = None
        self._closed = threading.Event()

    async def __aenter__(self) -> EventStream:
        opened: asyncio.Future[None] = self._loop.create_future()
        threading.Thread(target=self._read, args=(opened,), name="marathon-events", daemon=True).start()
        try:
            await opened
        except BaseException:
            self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        self._closed.set()
        # The thread closes the response. To close it here would block the loop until the thread's
        # read returns, at the next keep-alive; `shutdown` (urllib3 2.3) makes it return at once.
        shutdown = getattr(getattr(self._response, "raw", None), "shutdown", None)
        if shutdown is not None:
            with contextlib.suppress(OSError, RuntimeError, ValueError):  # ended already
                shutdown()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._heard:
                item = self._heard.popleft()
                if isinstance(item, BackendError):
                    raise item
                if item is None:
                    return
                yield item

    def _tell(self, callback: Callable[..., object], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *arguments)
        except RuntimeError:
            self._closed.set()  # the loop is gone, and with it everybody who listened

    def _hear(self, body: dict[str, Any]) -> None:
        try:
            event = Event.from_wire(body)
        except ValueError:
            log.warning("an event that makes no sense is passed over: %s", body.get("eventType"))
        else:
            self._put(event)

    def _put(self, item: Event | BackendError | None) -> None:
        """Hand something over to the loop, which is woken once for all that comes in a burst."""
        self._heard.append(item)
        if not self._woken:
            self._woken = True
            self._tell(self._wake)

    def _wake(self) -> None:
        self._woken = False  # before anything is taken: what comes from now on wakes anew
        self._arrived.set()

    def _read(self, opened: asyncio.Future[None]) -> None:
        try:
            response = self._response = self._client.transport.open_event_stream(FOLLOWED_EVENTS)
        except Exception as error:  # whatever it is, the loop waits for it
            self._tell(_fail, opened, error)
            return
        self._tell(_succeed, opened)
        try:
            with response:
                if self._closed.is_set():
                    return
                for body in read_events(response):
                    if self._closed.is_set():
                        return
                    if body is not None:
                        self._hear(body)
        except BackendError as error:
            self._put(error)
        finally:
            # Whatever ended this thread, the loop must not go on taking silence for peace.
            self._put(None)


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)

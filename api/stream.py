"""The event stream as an asynchronous iterator: a thread reads, the loop listens."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

import requests
import urllib3

from .errors import BackendError, BackendUnreachable
from .status import Event

log = logging.getLogger("hubfleet.watcher")


class EventLines:
    """Makes events of a stream's bytes, in whichever pieces they come."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """Yield the events that are complete; keep-alives are none.

        Raises
        ------
        ValueError
            What comes is no event stream.
        """
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            field, _, value = line.rstrip(b"\r").partition(b":")
            body = json.loads(value) if field == b"data" else None
            if not isinstance(body, dict):
                continue
            try:
                event = Event.from_wire(body)
            except ValueError:
                log.warning("an event that makes no sense is passed over: %s", body.get("eventType"))
            else:
                yield event


class EventStream:
    """The events of a Marathon API, while it is entered.

    Iterating raises `BackendError` when the stream breaks off, and ends when it is ended.

    Parameters
    ----------
    opens
        Asks for the events, and waits for the beginning of the answer.
    """

    def __init__(self, opens: Callable[[], requests.Response]) -> None:
        self._opens = opens
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
            response = self._response = self._opens()
        except Exception as error:  # whatever it is, the loop waits for it
            self._tell(_fail, opened, error)
            return
        self._tell(_succeed, opened)
        lines = EventLines()
        try:
            with response:
                # read1 returns what has arrived; read and iter_lines would wait for a full buffer.
                while not self._closed.is_set() and (chunk := response.raw.read1(65536)):
                    for event in lines.feed(chunk):
                        self._put(event)
        except (OSError, ValueError, AttributeError, urllib3.exceptions.HTTPError) as error:
            # The raw stream raises urllib3's own errors, which requests translates only for its iterators.
            # AttributeError: another thread closed the response while this one was reading it.
            self._put(broken_off(error))
        finally:
            # Whatever ended this thread, the loop must not go on taking silence for peace.
            self._put(None)


def broken_off(error: BaseException) -> BackendUnreachable:
    """Return what a stream raises that ends with an error."""
    return BackendUnreachable(f"the event stream broke off: {cause_of(error)}")


def _fail(future: asyncio.Future[None], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def cause_of(error: BaseException) -> str:
    """Name the innermost cause of an error on the way, without the URL's query or any header."""
    innermost = error
    for _ in range(8):
        # requests and urllib3 hand the cause on as an argument, or as the reason of one.
        within = [each for part in innermost.args for each in (getattr(part, "reason", None), part)]
        inner = next((each for each in within if isinstance(each, BaseException)), innermost.__cause__)
        if inner is None:
            break
        innermost = inner
    if isinstance(innermost, OSError) and innermost.strerror:
        return f"{innermost.strerror}: {innermost.filename}" if innermost.filename else innermost.strerror
    if innermost.args and (type(innermost) is OSError or isinstance(innermost, ConnectionError)):
        return str(innermost)  # a file of certificates is not there; the other side closed the connection
    return type(innermost).__name__

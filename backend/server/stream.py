"""``/v2/events``: the event stream, as server-sent events (``marathon-v2`` section 6)."""

from __future__ import annotations

import asyncio
import json

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError, RequestHandler

from hubfleet.api.status import Event

from .. import events
from ..access import Caller, Forbidden, Unidentified
from ..events import Notice, Subscription
from .base import ApiHandler
from .hiding import shown_to

KEEP_ALIVE_SECONDS = 10.0
"""Between two lines of an idle stream, as Jetty's heart beat in Marathon."""

IDENTIFIED_SECONDS = 60.0
"""How long a reader's credential is taken to be good; one that was withdrawn ends the stream."""


class EventsHandler(ApiHandler):
    """One reader of the events, for as long as it reads."""

    head = RequestHandler.head  # not like GET: without a body there is nothing to wait for
    _sender: asyncio.Task[None] | None = None

    def negotiate(self) -> None:
        """Refuse who does not ask for just this, as Marathon does."""
        if self.request.headers.get("Accept", "") != "text/event-stream":
            raise HTTPError(405, reason="The event stream needs the header Accept: text/event-stream")

    async def get(self) -> None:
        """Send events as they happen."""
        types = set(self.get_query_arguments("event_type"))
        subscription = Subscription(
            wants=lambda event: (not types or event.event_type in types) and self.caller.hears(event),
            overrun=self._stop,
        )
        self.set_header("Content-Type", "text/event-stream;charset=utf-8")
        self.set_header("Connection", "close")
        bus, seats = self.orchestrator.bus, self.services.seats
        name = self.caller.name
        seats.take(name, self.caller.trusted)
        # The reader's own arrival comes first; it is told by hand, since not everybody hears of readers.
        attached = events.event("event_stream_attached", remoteAddress=self.request.remote_ip)
        bus.publish(attached)
        bus.subscribe(subscription)
        sender = self._sender = asyncio.create_task(self._send_all(subscription, attached))
        try:
            await asyncio.wait({sender})
        finally:
            bus.unsubscribe(subscription)
            sender.cancel()
            seats.leave(name)
            bus.publish(events.event("event_stream_detached", remoteAddress=self.request.remote_ip))
        if sender.cancelled():
            # The reader has gone, or does not read: nothing can be finished in good order.
            self.detach().close()
        else:
            sender.result()

    def on_connection_close(self) -> None:
        """Let go of a reader that has gone, without waiting for the next event."""
        self._stop()

    def _stop(self) -> None:
        if self._sender is not None:
            self._sender.cancel()

    async def _send_all(self, subscription: Subscription, attached: Event) -> None:
        """Send what the subscription collects, until the reader has gone or may hear no more."""
        loop = asyncio.get_running_loop()
        good_until = loop.time() + IDENTIFIED_SECONDS
        try:
            await self._send([Notice(attached)])
            while True:
                found = await subscription.take(KEEP_ALIVE_SECONDS)
                if loop.time() >= good_until:
                    await self.identify_again()
                    good_until = loop.time() + IDENTIFIED_SECONDS
                await self._send([notice for notice in found if self.caller.hears(notice.event)])
                # Where the reader takes all at once, nothing else here lets others have their turn.
                await asyncio.sleep(0)
        except (StreamClosedError, Unidentified, Forbidden):
            pass

    async def _send(self, found: list[Notice]) -> None:
        """Send events in one go, or a sign of life if there is none."""
        self.write(b"".join(text_for(self.caller, notice) for notice in found) or b"\r\n")
        await self.flush()


def text_for(caller: Caller, notice: Notice) -> bytes:
    """Return an event as it is written to a caller."""
    # All that `shown_to` goes by.
    shown_alike = caller.opens if caller.hides else None
    if shown_alike not in notice.texts:
        event = notice.event
        text = json.dumps(shown_to(caller, events.body(event)), separators=(",", ":"))
        notice.texts[shown_alike] = f"event: {event.event_type}\r\ndata: {text}\r\n\r\n".encode()
    return notice.texts[shown_alike]

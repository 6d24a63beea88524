"""``/v2/events``: the event stream, as server-sent events (``marathon-v2`` section 6)."""

from __future__ import annotations

import asyncio
import json

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from hubfleet.api.status import Event

from .. import events
from ..events import Subscription
from .base import ApiHandler

KEEP_ALIVE_SECONDS = 10.0
"""Between two lines of an idle stream, as Jetty's heart beat in Marathon."""


class EventsHandler(ApiHandler):
    """One reader of the events, for as long as it reads."""

    _subscription: Subscription | None = None

    async def get(self) -> None:
        """Send events as they happen."""
        if self.request.headers.get("Accept", "") != "text/event-stream":
            raise HTTPError(405, reason="The event stream needs the header Accept: text/event-stream")
        types = set(self.get_query_arguments("event_type"))
        subscription = self._subscription = self.orchestrator.bus.subscribe(
            lambda event: (not types or event.event_type in types) and self.caller.hears(event)
        )
        self.set_header("Content-Type", "text/event-stream;charset=utf-8")
        try:
            await self._send(events.event("event_stream_attached", remoteAddress=self.request.remote_ip))
            while await self._send_next(subscription):
                pass
        except StreamClosedError:
            pass
        finally:
            self.orchestrator.bus.unsubscribe(subscription)

    def on_connection_close(self) -> None:
        """Let go of a reader that has gone, without waiting for the next event."""
        if self._subscription is not None:
            self.orchestrator.bus.unsubscribe(self._subscription)
            self._subscription.queue.put_nowait(None)

    async def _send_next(self, subscription: Subscription) -> bool:
        """Send the next event or a sign of life; return False when the stream is to end."""
        try:
            event = await asyncio.wait_for(subscription.queue.get(), KEEP_ALIVE_SECONDS)
        except TimeoutError:
            self.write("\r\n")
            await self.flush()
            return True
        if event is None:
            return False
        await self._send(event)
        return True

    async def _send(self, event: Event) -> None:
        body = json.dumps(event.to_wire(), separators=(",", ":"))
        self.write(f"event: {event.event_type}\r\ndata: {body}\r\n\r\n")
        await self.flush()

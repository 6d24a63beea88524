"""How a request travels while an event loop does something else: no thread waits for its answer.

A thread for each request costs a busy hub several times what the request itself takes: the interpreter's
lock changes hands at each step. The field's client is written to block, though, and what it does is worth
having once. So it runs in a greenlet, as SQLAlchemy's blocking core does over drivers of asyncio: where it
would wait, the coroutine that runs it awaits in its stead (`on_loop`, `_awaited`).
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Unpack

import aiohttp
import requests
from greenlet import getcurrent, greenlet
from yarl import URL

from .session import NeverSent, Settings
from .status import Event
from .stream import EventLines, broken_off, cause_of

T = TypeVar("T")


async def on_loop(function: Callable[[], T]) -> T:
    """Run a function whose requests go over a `LoopSession`; return or raise what it does.

    It must wait for nothing else.
    """
    task = greenlet(function)
    step = task.switch()
    while not task.dead:
        try:
            found = await step
        except BaseException as error:
            step = task.throw(error)
        else:
            step = task.switch(found)
    result: T = step
    return result


def _awaited(awaitable: Awaitable[T]) -> T:
    """Return what the coroutine that runs this greenlet gets by awaiting."""
    runner = getcurrent().parent
    assert runner is not None, "a request over the event loop is made within `on_loop`"
    found: T = runner.switch(awaitable)
    return found


@dataclass(frozen=True)
class LoopAnswer:
    """What a server has answered; of a stream, `body` is what is still to come."""

    status_code: int
    reason: str | None
    content: bytes
    body: aiohttp.ClientResponse

    @property
    def text(self) -> str:
        """The content as a text."""
        return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return what the content says; raises `ValueError` if it is no JSON."""
        return json.loads(self.content)

    def close(self) -> None:
        """Let go of the connection of an answer that was not read to its end."""
        self.body.close()


class LoopSession:
    """A session of the event loop on which it is first used, in place of a `ThreadSession`.

    Parameters
    ----------
    certificate
        Path of a client certificate and its key in one file, or the paths of both.
    connections
        Most requests at once, the event stream among them; further ones wait their turn.
    """

    def __init__(self, certificate: str | tuple[str, str] | None, connections: int) -> None:
        self._certificate = (certificate,) if isinstance(certificate, str) else certificate or ()
        self._connections = connections
        self._http: aiohttp.ClientSession | None = None
        self._tls: tuple[list[int], ssl.SSLContext] | None = None
        self._closing: asyncio.Task[None] | None = None

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function that makes requests; while they are under way the loop goes on."""
        return await on_loop(function)

    def request(self, method: str, url: str, **settings: Unpack[Settings]) -> LoopAnswer:
        """Send a request, as `ThreadSession.request` does, from a function that is run.

        Where that is safe, aiohttp itself sends it once more over a new connection if a kept one breaks.
        """
        timeout = settings["timeout"]
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        return _awaited(
            self._send(
                method,
                URL(url),
                settings["verify"],
                settings.get("stream", False),
                params=list(_pairs(settings.get("params") or {})),
                data=settings.get("data"),
                headers=settings["headers"],
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read),
            )
        )

    async def _send(
        self, method: str, url: URL, verify: bool | str, stream: bool, **settings: Any
    ) -> LoopAnswer:
        try:
            tls = await self._context(verify) if url.scheme == "https" else True
            body = await self._opened().request(method, url, ssl=tls, **settings)
            content = b"" if stream and body.status < 400 else await body.read()
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise OSError(cause_of(error)) from error
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise NeverSent(_cause(error)) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise OSError(_cause(error)) from error
        return LoopAnswer(body.status, body.reason, content, body)

    def _opened(self) -> aiohttp.ClientSession:
        if self._http is None:
            # Names are looked up as everywhere on the machine, and the environment's proxies and .netrc are
            # not ours to obey: they would carry the token away.
            self._http = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, resolver=aiohttp.ThreadedResolver()),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._http

    async def _context(self, verify: bool | str) -> ssl.SSLContext:
        """Return how a server is recognised and one shows oneself; made anew when its files are renewed."""
        authorities = verify if isinstance(verify, str) else requests.utils.DEFAULT_CA_BUNDLE_PATH
        changed = [os.stat(file).st_mtime_ns for file in (authorities, *self._certificate)]
        if self._tls is None or self._tls[0] != changed:
            context = await asyncio.to_thread(_new_context, verify, authorities, self._certificate)
            self._tls = changed, context
        return self._tls[1]

    @asynccontextmanager
    async def events(self, opens: Callable[[], LoopAnswer]) -> AsyncIterator[AsyncIterator[Event]]:
        """Return the events of an answer that does not end, while it is entered."""
        answer = await self.run(opens)
        try:
            yield _events_of(answer.body)
        finally:
            answer.close()

    def close(self) -> None:
        """Let go of the connections; calls under way fail."""
        if self._closing is None and self._http is not None:
            self._closing = asyncio.get_running_loop().create_task(self._http.close())

    async def wait_closed(self) -> None:
        """Return when the connections are closed."""
        if self._closing is not None:
            await self._closing


def _pairs(params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the parameters of a query as requests writes them."""
    for name, value in params.items():
        for one in value if isinstance(value, list) else [value]:
            if one is not None:
                yield name, str(one)


async def _events_of(body: aiohttp.ClientResponse) -> AsyncIterator[Event]:
    lines = EventLines()
    try:
        async for chunk in body.content.iter_any():
            for event in lines.feed(chunk):
                yield event
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise broken_off(error) from error


def _new_context(verify: bool | str, authorities: str, certificate: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if Path(authorities).is_dir():
        context.load_verify_locations(capath=authorities)
    else:
        context.load_verify_locations(cafile=authorities)
    if verify is False:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(*certificate)
    return context


def _cause(error: BaseException) -> str:
    """Name the cause of an error in the words of the other session."""
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the other side closed the connection without response"
    number = error.errno if isinstance(error, aiohttp.ClientConnectorError) else None
    if number is not None and number > 0:
        return os.strerror(number)  # asyncio's own sentence says no more
    return cause_of(error)

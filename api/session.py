"""How a request travels while a thread waits for its answer, and what may become of it on the way.

`hubfleet.api.transport` needs to know only whether a server can have seen the request, and the cause in
words; `hubfleet.api.loop_session` says the same of a request that no thread waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, Required, TypedDict, TypeVar, Unpack

import requests
import urllib3
from requests.adapters import HTTPAdapter

from .errors import ClientClosed
from .status import Event
from .stream import EventStream, cause_of

T = TypeVar("T")

SAFE_TO_REPEAT = frozenset({"GET", "PUT", "DELETE"})


class NeverSent(OSError):
    """No connection came about, so that no server has seen the request."""


class Answer(Protocol):
    """What a server has answered: of `requests.Response` all that is read."""

    @property
    def status_code(self) -> int:
        """The status."""
        ...

    @property
    def reason(self) -> str | None:
        """The words beside the status."""
        ...

    @property
    def content(self) -> bytes:
        """The body."""
        ...

    def json(self) -> Any:
        """Return what the content says; raises `ValueError` if it is no JSON."""
        ...

    def close(self) -> None:
        """Let go of the connection of an answer that was not read to its end."""
        ...


class Settings(TypedDict, total=False):
    """What `requests.Session.request` is told of a request beside its place."""

    params: dict[str, Any] | None
    data: bytes | None
    headers: Required[dict[str, str]]
    verify: Required[bool | str]
    timeout: Required[float | tuple[float, float]]
    stream: bool


class Session(Protocol):
    """A way for requests to travel."""

    def __init__(self, certificate: str | tuple[str, str] | None, connections: int) -> None: ...

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function that makes requests and is written to block; the event loop goes on."""
        ...

    def request(self, method: str, url: str, **settings: Unpack[Settings]) -> Any:
        """Return the `Answer` to a request, from a function that is run; see `ThreadSession.request`."""
        ...

    def events(self, opens: Callable[[], Any]) -> AbstractAsyncContextManager[AsyncIterable[Event]]:
        """Return the events of an answer that does not end, while it is entered.

        Parameters
        ----------
        opens
            Requests the stream.
        """
        ...

    def close(self) -> None:
        """Let go of the connections; calls under way end by their time-out, or at once."""
        ...

    async def wait_closed(self) -> None:
        """Return when nothing is left of them that the loop would have to end."""
        ...


class ThreadSession(requests.Session):
    """A session that lets a thread wait for each answer.

    Parameters
    ----------
    certificate
        Path of a client certificate and its key in one file, or the paths of both.
    connections
        Most calls at once; further ones wait their turn.
    """

    def __init__(self, certificate: str | tuple[str, str] | None, connections: int) -> None:
        super().__init__()
        adapter = HTTPAdapter(pool_maxsize=connections)
        self.mount("http://", adapter)
        self.mount("https://", adapter)
        self.cert = certificate
        # The environment's proxies and .netrc are not ours to obey: they would carry the token away.
        self.trust_env = False
        self._pool = ThreadPoolExecutor(connections, thread_name_prefix="marathon-client")

    async def run(self, function: Callable[[], T]) -> T:
        """Call a function that makes requests, in a thread.

        Raises
        ------
        ClientClosed
            There are no threads any more.
        """
        try:
            answer = asyncio.get_running_loop().run_in_executor(self._pool, function)
        except RuntimeError as error:
            raise ClientClosed("nothing can be asked any more, since this process ends") from error
        return await answer

    def request(self, method: Any, *place: Any, **settings: Any) -> requests.Response:
        """Send a request; where that is safe and the connection broke, once more.

        A connection that was kept may be one that a server or proxy has just closed.

        Raises
        ------
        NeverSent
            No server has seen it.
        OSError
            No answer came, or a file of certificates cannot be read.
        """
        repeats = method in SAFE_TO_REPEAT
        while True:
            try:
                return super().request(method, *place, **settings)
            except OSError as error:
                if repeats and _broke(error):
                    repeats = False
                    continue
                raise (NeverSent if _never_sent(error) else OSError)(cause_of(error)) from error

    def events(self, opens: Callable[[], requests.Response]) -> EventStream:
        """Return the events of an answer that does not end, while it is entered."""
        return EventStream(opens)

    def close(self) -> None:
        """Let go of the connections and threads; calls under way end by their time-out."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        super().close()

    async def wait_closed(self) -> None:
        """Return at once."""


def _never_sent(error: OSError) -> bool:
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    return type(reason).__name__ in {"NewConnectionError", "NameResolutionError", "ConnectTimeoutError"}


def _broke(error: OSError) -> bool:
    return (
        isinstance(error, requests.exceptions.ConnectionError)
        and bool(error.args)
        and isinstance(error.args[0], urllib3.exceptions.ProtocolError)
    )

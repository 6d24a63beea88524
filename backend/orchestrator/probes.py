"""Asking a task whether it is alive, over the network."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from urllib.parse import quote

from hubfleet.api.app import HealthCheck

from .health import run_by_agent

FIRST_PROBE_MOST_SECONDS = 5.0

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([ -~]*))?\s*")
# What a path and a query are made of; the rest is escaped, so that nothing of it ends the request's line.
_OF_A_PATH = "/?&=%#:@!$'()*+,;~[]"


# What a connection fails for that is no fault of the task's: descriptors, memory and ports of ours.
_OUR_OWN_WANT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class NoVerdict(Exception):
    """It cannot be said whether the task is alive: it answered neither, or could not be asked."""


async def probe_for_ever(
    check: HealthCheck, ask: Callable[[], Awaitable[str | None]], probed: Callable[[str | None], None]
) -> None:
    """Probe a task until cancelled.

    Parameters
    ----------
    ask
        Returns the cause of a failure or None, or raises `NoVerdict`.
    probed
        Called after each probe with what was returned.
    """
    loop = asyncio.get_running_loop()
    first = (
        check.delay_seconds if run_by_agent(check) else min(check.interval_seconds, FIRST_PROBE_MOST_SECONDS)
    )
    await asyncio.sleep(first)
    while True:
        begun = loop.time()
        try:
            probed(await ask())
        except NoVerdict:
            pass
        await asyncio.sleep(max(0.0, check.interval_seconds - (loop.time() - begun)))


async def probe(check: HealthCheck, host: str, port: int) -> str | None:
    """Return None if a task is alive by a check, else the cause.

    Raises
    ------
    NoVerdict
        It did not say.
    """
    try:
        async with asyncio.timeout(check.timeout_seconds):
            if check.protocol.endswith("TCP"):
                async with _connection(host, port, tls=False):
                    return None
            return await _probe_http(check, host, port)
    except TimeoutError:
        return f"no answer within {check.timeout_seconds} s"
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _OUR_OWN_WANT:
            raise NoVerdict from error
        # a line that is too long is a ValueError
        return _cause(error)


async def _probe_http(check: HealthCheck, host: str, port: int) -> str | None:
    """Judge by the status line alone: 200 to 399. Redirects are not followed, certificates not verified."""
    path = "/" + quote((check.path or "/").lstrip("/"), safe=_OF_A_PATH)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    async with _connection(host, port, tls=check.protocol.endswith("HTTPS")) as (reader, writer):
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: hubfleet\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        line = await reader.readline()
    answer = _STATUS_LINE.fullmatch(line)
    if answer is None:
        return "what answers does not speak HTTP" if line else "the connection was closed without an answer"
    status = int(answer[1])
    if status < 200 and check.ignore_http1xx:
        raise NoVerdict
    if 200 <= status < 400:
        return None
    return f"{status} {(answer[2] or b'').decode('ascii')}".strip()


def _cause(error: Exception) -> str:
    """Return an error in the system's words where it has some; asyncio's own hide them behind addresses."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@asynccontextmanager
async def _connection(
    host: str, port: int, tls: bool
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(host, port, ssl=_any_certificate() if tls else None)
    try:
        yield reader, writer
    finally:
        # Not closed in good order, for which a task that hangs would keep us waiting.
        writer.transport.abort()


@cache
def _any_certificate() -> ssl.SSLContext:
    """Return what all probes share: to make one costs more than a probe."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

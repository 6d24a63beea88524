"""Asking a task whether it is alive, over the network."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from random import Random
from urllib.parse import quote

from hubfleet.api.app import HealthCheck

from ..records import Health
from .health import run_by_agent

FIRST_PROBE_MOST_SECONDS = 5.0

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: ([ -~]*))?\s*")
# What a path and a query are made of; the rest is escaped, so that nothing of it ends the request's line.
_OF_A_PATH = "/?&=%#:@!$'()*+,;~[]"


# Which of a host's addresses is asked.
_FAMILIES = {"IPv4": socket.AF_INET, "IPv6": socket.AF_INET6, None: socket.AF_UNSPEC}

# What a connection fails for that is no fault of the task's: descriptors, memory and ports of ours.
_OUR_OWN_WANT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class NoVerdict(Exception):
    """It cannot be said whether the task is alive: it answered neither, or could not be asked."""


def first_probe_in(check: HealthCheck) -> float:
    """Return the seconds from the start of a task to its first probe (``marathon-v2`` 2.4)."""
    if run_by_agent(check):
        return check.delay_seconds
    return min(check.interval_seconds, FIRST_PROBE_MOST_SECONDS)


def found_probe_in(check: HealthCheck, health: Health, chance: Random) -> float:
    """Return the seconds to the next probe of a task that ran before the backend was started.

    Chance spreads them, for all tasks are found at once; those that somebody waits for, since
    they never were healthy, come soon.
    """
    most: float = check.interval_seconds
    if health.first_success is None:
        most = min(most, FIRST_PROBE_MOST_SECONDS)
    return chance.uniform(0, most)


async def probe_for_ever(
    check: HealthCheck,
    first: float,
    ask: Callable[[], Awaitable[str | None]],
    probed: Callable[[str | None], None],
) -> None:
    """Probe a task until cancelled.

    Parameters
    ----------
    first
        Seconds until the first probe.
    ask
        Returns the cause of a failure or None, or raises `NoVerdict`.
    probed
        Called after each probe with what was returned.
    """
    loop = asyncio.get_running_loop()
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
                async with _connection(check, host, port, tls=False):
                    return None
            return await _probe_http(check, host, port)
    except TimeoutError:
        return f"no answer within {check.timeout_seconds} s"
    except (OSError, EOFError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in _OUR_OWN_WANT:
            raise NoVerdict from error
        # a line that is too long is a ValueError
        return cause(error)


async def _probe_http(check: HealthCheck, host: str, port: int) -> str | None:
    """Judge by the status line alone: 200 to 399. Redirects are not followed, certificates not verified."""
    async with _connection(check, host, port, tls=check.protocol.endswith("HTTPS")) as (reader, writer):
        writer.write(
            f"GET {request_path(check.path)} HTTP/1.1\r\nHost: {place(host, port)}\r\n"
            "User-Agent: hubfleet\r\n"
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


def request_path(path: str | None) -> str:
    """Return a check's path as a request's line can hold it."""
    return "/" + quote((path or "/").lstrip("/"), safe=_OF_A_PATH)


def place(host: str, port: int) -> str:
    """Return where a task is, as URLs and the ``Host`` header have it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cause(error: Exception) -> str:
    """Return an error in the system's words where it has some; asyncio's own hide them behind addresses."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@asynccontextmanager
async def _connection(
    check: HealthCheck, host: str, port: int, tls: bool
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(
        host, port, ssl=any_certificate() if tls else None, family=_FAMILIES[check.ip_protocol]
    )
    try:
        yield reader, writer
    finally:
        # Not closed in good order, for which a task that hangs would keep us waiting.
        writer.transport.abort()


@cache
def any_certificate() -> ssl.SSLContext:
    """Return what all probes share: to make one costs more than a probe."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context

"""Marathon's own health checks: what a probe's outcome means (pure), and the probing (``marathon-v2`` 2.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from tornado.httpclient import AsyncHTTPClient, HTTPError
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from hubfleet.api.app import HealthCheck
from hubfleet.api.wire import now

from ..records import Health, Instance

PROBED_HERE = frozenset({"HTTP", "HTTPS", "TCP", "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP"})
"""The protocols that are probed. A process has no executor of its own, so the MESOS_ spellings are too."""

FIRST_PROBE_MOST_SECONDS = 5.0


@dataclass(frozen=True)
class Verdict:
    """What one probe leads to."""

    health: Health
    counted: bool
    """Whether it was a failure that counts."""
    kill: bool


def judge(
    health: Health, check: HealthCheck, failure: str | None, running_since: datetime, at: datetime
) -> Verdict:
    """Return what a probe's outcome means for a running task.

    Parameters
    ----------
    failure
        The cause, or None for a success.
    running_since, at
        When the task became running, and the moment of the probe.
    """
    if failure is None:
        success = {
            "first_success": health.first_success or at,
            "last_success": at,
            "consecutive_failures": 0,
        }
        return Verdict(health.model_copy(update=success), counted=False, kill=False)
    failed = {"last_failure": at, "last_failure_cause": failure}
    in_grace = at - running_since < timedelta(seconds=check.grace_period_seconds)
    if health.first_success is None and in_grace:
        return Verdict(health.model_copy(update=failed), counted=False, kill=False)
    # The kill comes with the failure after the last one allowed.
    kill = 0 < check.max_consecutive_failures <= health.consecutive_failures
    failed["consecutive_failures"] = health.consecutive_failures + 1  # type: ignore[assignment]
    return Verdict(health.model_copy(update=failed), counted=True, kill=kill)


class HealthProber:
    """Probes one running task by one check, until it is closed.

    Parameters
    ----------
    probed
        Called with the cause of the failure, or None, after each probe.
    """

    def __init__(self, instance: Instance, check: HealthCheck, probed: Callable[[str | None], None]) -> None:
        self._check = check
        self._host = instance.host
        self._port = _port(instance, check)
        self._probed = probed
        self._task = asyncio.create_task(self._run(), name=f"health of {instance.id}")

    def close(self) -> None:
        """End probing."""
        self._task.cancel()

    async def _run(self) -> None:
        await asyncio.sleep(min(self._check.interval_seconds, FIRST_PROBE_MOST_SECONDS))
        while True:
            begun = asyncio.get_running_loop().time()
            self._probed(await self._probe())
            took = asyncio.get_running_loop().time() - begun
            await asyncio.sleep(max(0.0, self._check.interval_seconds - took))

    async def _probe(self) -> str | None:
        if self._check.protocol.endswith("TCP"):
            return await probe_tcp(self._host, self._port, self._check.timeout_seconds)
        scheme = "https" if self._check.protocol.endswith("HTTPS") else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        path = "/" + (self._check.path or "/").lstrip("/")
        return await probe_http(f"{scheme}://{host}:{self._port}{path}", self._check.timeout_seconds)


def _port(instance: Instance, check: HealthCheck) -> int:
    if check.port_index is not None:
        return instance.ports[check.port_index]
    return check.port or instance.ports[0]


async def probe_tcp(host: str, port: int, timeout: float) -> str | None:
    """Return None if a connection opens in time, else the cause."""
    try:
        async with asyncio.timeout(timeout):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return f"no connection within {timeout:g} s"
    except OSError as error:
        return error.strerror or type(error).__name__
    writer.close()
    return None


async def probe_http(url: str, timeout: float) -> str | None:
    """Return None if the answer's status is 200 to 399, else the cause. Redirects are not followed."""
    try:
        response = await _client().fetch(
            url,
            raise_error=False,
            follow_redirects=False,
            validate_cert=False,
            request_timeout=timeout,
            connect_timeout=timeout,
        )
    except (OSError, HTTPError) as error:
        return str(error) or type(error).__name__
    if 200 <= response.code < 400:
        return None
    if response.code == 599:
        return str(response.error) or "no answer"
    return f"{response.code} {response.reason}"


def _client() -> AsyncHTTPClient:
    """Return the loop's client for probes: as many at once as there are, so that none waits for another."""
    return SimpleAsyncHTTPClient(max_clients=1000, max_body_size=1024 * 1024)


def updated(instance: Instance, index: int, check: HealthCheck, failure: str | None) -> Verdict:
    """Return what a probe of a running instance means now."""
    health = instance.health.get(index, Health())
    return judge(health, check, failure, instance.started_at or now(), now())

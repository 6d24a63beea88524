"""The checks of an app: of health, of readiness, and Mesos' general one (``marathon-v2`` 2, 2.4, 2.5).

Times are in seconds.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .fields import Count, Path, Period, Port, PortName, Scheme, Text
from .wire import Wire


class Command(Wire):
    """A shell command."""

    value: str


class HealthCheck(Wire):
    """How the life of a running task is judged (``marathon-v2`` 2.4)."""

    protocol: Literal["HTTP", "HTTPS", "TCP", "COMMAND", "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP"] = "HTTP"
    path: str | None = None
    port: Port | None = None
    port_index: Port | None = None
    command: Command | None = None
    grace_period_seconds: Count = 300
    interval_seconds: Period = 60
    timeout_seconds: Period = 20
    max_consecutive_failures: Count = 3
    delay_seconds: Count = 15
    ignore_http1xx: bool | None = Field(default=None, alias="ignoreHttp1xx")
    ip_protocol: Literal["IPv4", "IPv6"] | None = None


class ReadinessCheck(Wire):
    """When a new task may count in a deployment (``marathon-v2`` 2.5)."""

    name: Text = "readinessCheck"
    protocol: Scheme = "HTTP"
    path: Path = "/"
    port_name: PortName = "http-api"
    interval_seconds: Period = 30
    timeout_seconds: Period = 10
    http_status_codes_for_ready: Annotated[
        list[Annotated[int, Field(ge=100, le=999)]], Field(min_length=1)
    ] = Field(default_factory=lambda: [200])
    preserve_last_response: bool = False


class HttpCheck(Wire):
    """A general check that asks over HTTP."""

    port_index: Port | None = None
    port: Port | None = None
    path: Path | None = None
    scheme: Scheme = "HTTP"


class TcpCheck(Wire):
    """A general check that connects."""

    port_index: Port | None = None
    port: Port | None = None


class CheckCommand(Wire):
    """What a general check runs: a line of the shell, or a program and its arguments."""

    shell: Text | None = None
    argv: Annotated[list[str], Field(min_length=1)] | None = None


class ExecCheck(Wire):
    """A general check that runs a command."""

    command: CheckCommand


class Check(Wire):
    """Mesos' general check, whose result is only told (Marathon 1.8 and later)."""

    http: HttpCheck | None = None
    tcp: TcpCheck | None = None
    exec: ExecCheck | None = None
    interval_seconds: Period = 60
    timeout_seconds: Period = 20
    delay_seconds: Count = 15

"""The app definition: Marathon's JSON of ``marathon-v2`` section 2, with its limits and defaults.

The limits here are those of Marathon's RAML files, whose violations it calls
"Invalid JSON". Rules between fields are in `hubfleet.api.rules`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from .ids import MAX_ID
from .wire import Timestamp, Wire

_SEGMENT = r"(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])|(\.|\.\.)"
PathId = Annotated[str, Field(pattern=rf"^/?({_SEGMENT})(/({_SEGMENT}))*$", max_length=MAX_ID)]
PortName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Port = Annotated[int, Field(ge=0, le=65535)]
Protocol = Literal["tcp", "udp", "udp,tcp"]
Unit = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Period = Annotated[int, Field(ge=1, le=2**31 - 1)]
# Bounded, since a moment that far in the future must still be a moment.
Seconds = Annotated[float, Field(ge=0, le=2**31 - 1)]


class PortDefinition(Wire):
    """A port of an app on the host's network."""

    port: Port = 0
    protocol: Protocol = "tcp"
    name: PortName | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class PortMapping(Wire):
    """A port of an app on a container's network."""

    container_port: Port = 0
    host_port: Port | None = None
    service_port: Port = 0
    protocol: Protocol = "tcp"
    name: PortName | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    network_names: list[str] = Field(default_factory=list)


class Network(Wire):
    """A network that an app joins."""

    mode: Literal["host", "container", "container/bridge"] = "container"
    name: str | None = None
    labels: dict[str, str] = Field(default_factory=dict)


class Command(Wire):
    """A shell command."""

    value: str


class HealthCheck(Wire):
    """How the life of a running task is judged (``marathon-v2`` 2.4). Times in seconds."""

    protocol: Literal["HTTP", "HTTPS", "TCP", "COMMAND", "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP"] = "HTTP"
    path: str | None = None
    port: Port | None = None
    port_index: Count | None = None
    command: Command | None = None
    grace_period_seconds: Count = 300
    interval_seconds: Period = 60
    timeout_seconds: Period = 20
    max_consecutive_failures: Count = 3
    delay_seconds: Count = 15
    ignore_http1xx: bool | None = Field(default=None, alias="ignoreHttp1xx")
    ip_protocol: Literal["IPv4", "IPv6"] | None = None


class ReadinessCheck(Wire):
    """When a new task may count in a deployment (``marathon-v2`` 2.5). Times in seconds."""

    name: str = "readinessCheck"
    protocol: Literal["HTTP", "HTTPS"] = "HTTP"
    path: str = "/"
    port_name: str = "http-api"
    interval_seconds: Period = 30
    timeout_seconds: Period = 10
    http_status_codes_for_ready: list[int] = Field(default_factory=lambda: [200])
    preserve_last_response: bool = False


class UpgradeStrategy(Wire):
    """How much of an app may be missing or surplus while it is replaced, as shares of its instances."""

    minimum_health_capacity: Unit = 1.0
    maximum_over_capacity: Unit = 1.0


class UnreachableStrategy(Wire):
    """When a task on a lost host is replaced and forgotten. Seconds."""

    inactive_after_seconds: Count = 0
    expunge_after_seconds: Count = 0


class Fetch(Wire):
    """Something to be put into the sandbox before the task starts."""

    uri: str
    extract: bool = True
    executable: bool = False
    cache: bool = False
    dest_path: str | None = None


class PersistentVolume(Wire):
    """Storage that outlives the task. Sizes in MiB."""

    size: Annotated[int, Field(gt=0)]
    type: Literal["root", "path", "mount"] = "root"
    max_size: Annotated[int, Field(gt=0)] | None = None
    profile_name: str | None = None
    constraints: list[list[str]] = Field(default_factory=list)


class ExternalVolume(Wire):
    """Storage of a volume provider. Size in GiB."""

    name: str
    provider: str
    options: dict[str, str] = Field(default_factory=dict)
    size: Annotated[int, Field(gt=0)] | None = None
    shared: bool | None = None


class Volume(Wire):
    """Exactly one of a host path, persistent or external storage, or a secret, inside the container."""

    container_path: Annotated[str, Field(min_length=1)]
    mode: Literal["RO", "RW"] | None = None
    host_path: str | None = None
    persistent: PersistentVolume | None = None
    external: ExternalVolume | None = None
    secret: str | None = None


class DockerParameter(Wire):
    """An option of the Docker command line."""

    key: str
    value: str


class Docker(Wire):
    """The image of a container, and how it is run."""

    image: Annotated[str, Field(min_length=1)]
    force_pull_image: bool = False
    privileged: bool = False
    parameters: list[DockerParameter] = Field(default_factory=list)
    pull_config: dict[str, Any] | None = None
    # deprecated since Marathon 1.5; accepted, never emitted
    network: Literal["BRIDGE", "HOST", "NONE", "USER"] | None = None
    port_mappings: list[PortMapping] | None = None


class Container(Wire):
    """What surrounds the command."""

    type: Literal["MESOS", "DOCKER"] = "DOCKER"
    docker: Docker | None = None
    volumes: list[Volume] = Field(default_factory=list)
    port_mappings: list[PortMapping] | None = None
    linux_info: dict[str, Any] | None = None


class SecretRef(Wire):
    """A value of the environment that is looked up in the app's secrets."""

    secret: str


class SecretSource(Wire):
    """Where the value of a secret comes from."""

    source: Annotated[str, Field(min_length=1)]


class VersionInfo(Wire):
    """When an app was last changed; read-only."""

    last_scaling_at: Timestamp | None = None
    last_config_change_at: Timestamp | None = None


class App(Wire):
    """A command, its resources and the number of its instances (``marathon-v2`` section 2).

    Times are in seconds, memory and disk in MiB. A value of None is absent:
    what Marathon has no default for, or works out from other fields.
    """

    id: PathId
    cmd: Annotated[str, Field(min_length=1)] | None = None
    args: list[str] = Field(default_factory=list)
    cpus: Annotated[float, Field(ge=0.001)] = 1.0
    mem: Annotated[float, Field(ge=0)] = 128.0
    disk: Annotated[float, Field(ge=0)] = 0.0
    gpus: Count = 0
    instances: Count = 1
    user: str | None = None
    env: dict[str, str | SecretRef] = Field(default_factory=dict)
    secrets: dict[str, SecretSource] = Field(default_factory=dict)
    labels: dict[str, str] = Field(default_factory=dict)
    constraints: list[list[str]] = Field(default_factory=list)
    container: Container | None = None
    networks: list[Network] = Field(default_factory=list)
    port_definitions: list[PortDefinition] | None = None
    require_ports: bool = False
    health_checks: list[HealthCheck] = Field(default_factory=list)
    check: dict[str, Any] | None = None
    readiness_checks: list[ReadinessCheck] = Field(default_factory=list)
    upgrade_strategy: UpgradeStrategy = Field(default_factory=UpgradeStrategy)
    backoff_seconds: Seconds = 1.0
    backoff_factor: Annotated[float, Field(ge=1)] = 1.15
    max_launch_delay_seconds: Seconds = 300.0
    task_kill_grace_period_seconds: Count | None = None
    kill_selection: Literal["YOUNGEST_FIRST", "OLDEST_FIRST"] = "YOUNGEST_FIRST"
    unreachable_strategy: UnreachableStrategy | Literal["disabled"] = Field(
        default_factory=UnreachableStrategy
    )
    fetch: list[Fetch] = Field(default_factory=list)
    accepted_resource_roles: list[str] | None = None
    dependencies: list[PathId] = Field(default_factory=list)
    executor: Annotated[str, Field(pattern=r"^(//cmd)|(/?[^/]+(/[^/]+)*)|$")] = ""
    role: str | None = None
    tty: bool | None = None
    version: Timestamp | None = None
    version_info: VersionInfo | None = None

    # Deprecated since Marathon 1.5; accepted, never emitted.
    ports: list[Port] | None = None
    uris: list[str] | None = None

    @property
    def on_host_network(self) -> bool:
        """Whether the app uses the host's own network, as it does when it names none."""
        return all(network.mode == "host" for network in self.networks)

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON object as Marathon answers it: empty collections of some fields left out."""
        body = super().to_wire()
        for name in _LEFT_OUT_WHEN_EMPTY:
            if not body.get(name, True):
                del body[name]
        return body


_LEFT_OUT_WHEN_EMPTY = (
    "args",
    "constraints",
    "dependencies",
    "env",
    "fetch",
    "healthChecks",
    "readinessChecks",
    "secrets",
)

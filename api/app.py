"""The app definition: Marathon's JSON of ``marathon-v2`` section 2, with its limits and defaults.

The limits here are those of Marathon's RAML files, whose violations it calls
"Invalid JSON". Rules between fields are in `hubfleet.api.rules`. The parts of a definition
are in modules of their own and may be taken from here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from .checks import Check, Command, HealthCheck, ReadinessCheck
from .container import (
    Container,
    Docker,
    DockerParameter,
    ExternalVolume,
    HostVolume,
    PersistentVolume,
    SecretVolume,
    Volume,
)
from .fields import Count, LongCount, PathId, Port, Seconds, Text, Unit, Uri, is_empty
from .fields import Path as PathText
from .network import IpAddress, Network, PortDefinition, PortMapping
from .wire import Timestamp, Wire

__all__ = [
    "App",
    "Check",
    "Command",
    "Container",
    "Docker",
    "DockerParameter",
    "ExternalVolume",
    "Fetch",
    "HealthCheck",
    "HostVolume",
    "Network",
    "PersistentVolume",
    "PortDefinition",
    "PortMapping",
    "ReadinessCheck",
    "Residency",
    "SecretRef",
    "SecretVolume",
    "UnreachableStrategy",
    "UpgradeStrategy",
    "VersionInfo",
    "Volume",
]


class UpgradeStrategy(Wire):
    """How much of an app may be missing or surplus while it is replaced, as shares of its instances."""

    minimum_health_capacity: Unit = 1.0
    maximum_over_capacity: Unit = 1.0


class UnreachableStrategy(Wire):
    """When a task on a lost host is replaced and forgotten. Seconds."""

    inactive_after_seconds: LongCount = 0
    expunge_after_seconds: LongCount = 0


class Fetch(Wire):
    """Something to be put into the sandbox before the task starts."""

    uri: Uri
    extract: bool = True
    executable: bool = False
    cache: bool = False
    dest_path: PathText | None = None


class SecretRef(Wire):
    """A value of the environment that is looked up in the app's secrets."""

    secret: str


class SecretSource(Wire):
    """Where the value of a secret comes from."""

    source: Text


class ExecutorResources(Wire):
    """What an executor takes beside the task (Marathon 1.6 and later). Memory and disk in MiB."""

    cpus: Annotated[float, Field(ge=0.1)] = 0.1
    mem: Annotated[float, Field(ge=32)] = 32.0
    disk: Annotated[float, Field(ge=10)] = 10.0


def _kind(value: Any) -> str:
    return "=text" if isinstance(value, str) else "=other"


Limit = Annotated[
    Annotated[Literal["unlimited"], Tag("=text")] | Annotated[float, Tag("=other")], Discriminator(_kind)
]


class ResourceLimits(Wire):
    """How much more than requested a task may use (Marathon 1.10 and later). Memory in MiB."""

    cpus: Limit | None = None
    mem: Limit | None = None


class Residency(Wire):
    """How an app with persistent volumes keeps to its places; deprecated, without effect."""

    relaunch_escalation_timeout_seconds: LongCount = 3600
    task_lost_behavior: Literal["WAIT_FOREVER", "RELAUNCH_AFTER_TIMEOUT"] = "WAIT_FOREVER"


class VersionInfo(Wire):
    """When an app was last changed; read-only."""

    last_scaling_at: Timestamp | None = None
    last_config_change_at: Timestamp | None = None


def _env_kind(value: Any) -> str:
    return "=reference" if isinstance(value, dict | SecretRef) else "=text"


EnvValue = Annotated[
    Annotated[str, Tag("=text")] | Annotated[SecretRef, Tag("=reference")], Discriminator(_env_kind)
]
Unreachable = Annotated[
    Annotated[Literal["disabled"], Tag("=text")] | Annotated[UnreachableStrategy, Tag("=other")],
    Discriminator(_kind),
]


class App(Wire):
    """A command, its resources and the number of its instances (``marathon-v2`` section 2).

    Times are in seconds, memory and disk in MiB. A value of None is absent:
    what Marathon has no default for, or works out from other fields.
    """

    id: PathId
    cmd: Annotated[str, Field(min_length=1)] | None = None
    args: list[str] = Field(default_factory=list, exclude_if=is_empty)
    cpus: Annotated[float, Field(ge=0.001)] = 1.0
    mem: Annotated[float, Field(ge=0)] = 128.0
    disk: Annotated[float, Field(ge=0)] = 0.0
    gpus: Count = 0
    instances: Count = 1
    user: str | None = None
    env: dict[str, EnvValue] = Field(default_factory=dict, exclude_if=is_empty)
    secrets: dict[str, SecretSource] = Field(default_factory=dict, exclude_if=is_empty)
    labels: dict[str, str] = Field(default_factory=dict)
    constraints: list[list[str]] = Field(default_factory=list, exclude_if=is_empty)
    container: Container | None = None
    networks: list[Network] = Field(default_factory=list)
    port_definitions: list[PortDefinition] | None = None
    require_ports: bool = False
    health_checks: list[HealthCheck] = Field(default_factory=list, exclude_if=is_empty)
    check: Check | None = None
    readiness_checks: list[ReadinessCheck] = Field(default_factory=list, exclude_if=is_empty)
    upgrade_strategy: UpgradeStrategy = Field(default_factory=UpgradeStrategy)
    backoff_seconds: Seconds = 1.0
    backoff_factor: Annotated[float, Field(ge=1)] = 1.15
    max_launch_delay_seconds: Seconds = 300.0
    task_kill_grace_period_seconds: Count | None = None
    kill_selection: Literal["YOUNGEST_FIRST", "OLDEST_FIRST"] = "YOUNGEST_FIRST"
    unreachable_strategy: Unreachable = Field(default_factory=UnreachableStrategy)
    fetch: list[Fetch] = Field(default_factory=list, exclude_if=is_empty)
    accepted_resource_roles: list[str] | None = None
    dependencies: list[PathId] = Field(default_factory=list, exclude_if=is_empty)
    executor: Annotated[str, Field(pattern=r"^(//cmd|/?[^/]+(/[^/]+)*|)$")] = ""
    executor_resources: ExecutorResources | None = None
    resource_limits: ResourceLimits | None = None
    residency: Residency | None = None
    role: Text | None = None
    tty: bool | None = None
    version: Timestamp | None = None
    version_info: VersionInfo | None = None

    # Deprecated since Marathon 1.5; accepted, never emitted.
    ports: list[Port] | None = None
    uris: list[Uri] | None = None
    ip_address: IpAddress | None = None

    @property
    def on_host_network(self) -> bool:
        """Whether the app uses the host's own network, as it does when it names none."""
        return all(network.mode == "host" for network in self.networks)

    @property
    def resident(self) -> bool:
        """Whether the app keeps to the places of its persistent volumes."""
        return self.container is not None and any(
            isinstance(volume, PersistentVolume) for volume in self.container.volumes
        )

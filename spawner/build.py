"""A server's app, from values alone: no I/O, no hub, so that it can be read and tested by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hubfleet.api import environment, labels
from hubfleet.api.app import (
    App,
    Container,
    Docker,
    Fetch,
    HealthCheck,
    ReadinessCheck,
    SecretRef,
    UnreachableStrategy,
    UpgradeStrategy,
)
from hubfleet.api.ids import dask_path, server_app_id

from .command import shell_line
from .options import Choice
from .ports import Ports

# Jupyter Server ends its kernels on SIGTERM; Mesos' own 3 s are not enough for several.
KILL_GRACE_SECONDS = 10

# Two servers of one user must not run side by side on one home: the old ends first.
ONE_AT_A_TIME = {"minimumHealthCapacity": 0, "maximumOverCapacity": 0}


@dataclass(frozen=True, kw_only=True)
class Server:
    """All that decides a server's app.

    Parameters
    ----------
    prefix, user, server, hub_id
        Whose server it is: first part of the app id, the names as the hub has them
        (the server's is empty for the default one), and the hub's own mark.
    command
        Program and arguments (`shell_line`).
    base_path
        Path of the server's URLs, such as ``/user/alice/``.
    choice
        Resources and image.
    env
        Environment; values of None are left out, ``{"secret": …}`` names one of `secrets`.
    listen_ip
        Address that the server binds; empty for all.
    home_dir
        Directory that is made, entered and given as ``HOME``; empty for the backend's sandbox.
    root_dir
        Directory that the server shows, to be made as well; empty for the home.
    ports
        Its network, and where it listens there.
    container_type
        Which of Marathon's containers an image runs in.
    volumes, constraints, fetch, secrets, unreachable_strategy, upgrade_strategy, readiness_checks
        Marathon's own objects.
    extra_labels
        Labels beside the marks of hub, user and server, which go before them.
    run_as
        System account of the server; None for the backend's own.
    health_failures, health_interval, health_timeout, health_grace
        After so many failed checks in a row the backend replaces the task, 0 for never; seconds between
        two checks, for an answer, and after the start during which a failure does not count.
    health_checks
        Marathon's objects in place of the check that these make; None for that check.
    tls
        Whether the server speaks TLS and asks for a client's certificate.
    writes_certificates
        Whether its certificates come in its environment (`hubfleet.spawner.command`).
    """

    prefix: str
    user: str
    server: str
    hub_id: str
    command: Sequence[str]
    base_path: str
    choice: Choice
    env: Mapping[str, Any] = field(default_factory=dict)
    listen_ip: str = ""
    home_dir: str = ""
    root_dir: str = ""
    ports: Ports = field(default_factory=Ports)
    container_type: str = "MESOS"
    volumes: Sequence[Mapping[str, Any]] = ()
    constraints: Sequence[Sequence[Any]] = ()
    fetch: Sequence[Mapping[str, Any]] = ()
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unreachable_strategy: Mapping[str, Any] | str | None = None
    upgrade_strategy: Mapping[str, Any] = field(default_factory=lambda: ONE_AT_A_TIME)
    extra_labels: Mapping[str, str] = field(default_factory=dict)
    run_as: str | None = None
    health_failures: int = 0
    health_interval: int = 10
    health_timeout: int = 20
    health_grace: int = 300
    health_checks: Sequence[Mapping[str, Any]] | None = None
    readiness_checks: Sequence[Mapping[str, Any]] = ()
    tls: bool = False
    writes_certificates: bool = False

    @property
    def app_id(self) -> str:
        """The id of the server's app."""
        return server_app_id(self.prefix, self.user, self.server)

    @property
    def labels(self) -> dict[str, str]:
        """All labels, among them those that tie the app to this hub, user and server."""
        return {**self.extra_labels, **self.marks(self.hub_id, self.user, self.server)}

    @staticmethod
    def marks(hub_id: str, user: str, server: str) -> dict[str, str]:
        """Return the labels by which a hub knows the app of a user's server again."""
        return {labels.HUB: hub_id, labels.USER: user, labels.SERVER: server}


def build_app(server: Server) -> App:
    """Return the app that runs a server.

    Raises
    ------
    ValueError
        The configuration makes no legal app; the message says which part.
    """
    return App.from_wire(
        {
            "id": server.app_id,
            "cmd": shell_line(
                server.command,
                server.listen_ip,
                server.home_dir,
                server.root_dir,
                server.ports.listens_at,
                server.writes_certificates,
            ),
            "cpus": server.choice.cpu,
            "mem": server.choice.mem,
            "disk": server.choice.disk,
            "gpus": server.choice.gpu,
            "instances": 1,
            "user": server.run_as,
            "env": {name: _value(value) for name, value in server.env.items() if value is not None},
            "secrets": dict(server.secrets),
            "labels": server.labels,
            "constraints": [[str(part) for part in constraint] for constraint in server.constraints],
            "container": _container(server),
            "networks": server.ports.networks(),
            "portDefinitions": server.ports.definitions(),
            "requirePorts": server.ports.required,
            "healthChecks": _health_checks(server),
            "readinessChecks": [ReadinessCheck.from_wire(check) for check in server.readiness_checks],
            "upgradeStrategy": UpgradeStrategy.from_wire(server.upgrade_strategy),
            "fetch": [Fetch.from_wire(entry) for entry in server.fetch],
            "taskKillGracePeriodSeconds": KILL_GRACE_SECONDS,
            **_unreachable(server.unreachable_strategy),
        }
    )


def api_path(base_path: str) -> str:
    """Return the path that a Jupyter server answers without a login."""
    return base_path.rstrip("/") + "/api"


def backend_env(prefix: str, user: str, urls: str) -> dict[str, str]:
    """Return the variables by which a server finds the backend and its own place there."""
    return {environment.BACKEND_URL: urls, environment.DASK_GROUP: dask_path(prefix, user)}


def _value(value: Any) -> str | SecretRef:
    if isinstance(value, Mapping) and set(value) == {"secret"}:
        return SecretRef(secret=str(value["secret"]))
    return str(value)


def _container(server: Server) -> Container | None:
    image, force = server.choice.image, server.choice.force_pull
    docker = Docker(image=image, force_pull_image=force) if image else None
    mappings = server.ports.mappings()
    if docker is None and not server.volumes and mappings is None:
        return None
    container = Container.from_wire(
        {
            "type": server.container_type if docker else "MESOS",
            "volumes": [dict(volume) for volume in server.volumes],
        }
    )
    return container.model_copy(update={"docker": docker, "port_mappings": mappings})


def _health_checks(server: Server) -> list[HealthCheck]:
    """Return the checks; a server that asks for a certificate can only be looked at from without."""
    if server.health_checks is not None:
        return [HealthCheck.from_wire(check) for check in server.health_checks]
    return [
        HealthCheck(
            protocol="TCP" if server.tls else "HTTP",
            path=None if server.tls else api_path(server.base_path),
            port_index=0,
            grace_period_seconds=server.health_grace,
            interval_seconds=server.health_interval,
            timeout_seconds=server.health_timeout,
            max_consecutive_failures=server.health_failures,
        )
    ]


def _unreachable(strategy: Mapping[str, Any] | str | None) -> dict[str, Any]:
    if strategy is None:
        return {}
    if isinstance(strategy, Mapping):
        return {"unreachableStrategy": UnreachableStrategy.from_wire(strategy)}
    return {"unreachableStrategy": strategy}

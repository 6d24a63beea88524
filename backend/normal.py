"""One spelling of each definition: the network API of before Marathon 1.5 becomes today's.

Pure; the rules are those of ``marathon-v2`` 2.1. `contradictions` says where an old and a new
spelling in one request disagree; `normal` always answers, and applied again changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar
from urllib.parse import urlsplit

from hubfleet.api.app import (
    App,
    Container,
    Fetch,
    Network,
    PortDefinition,
    PortMapping,
    Residency,
    UpgradeStrategy,
)
from hubfleet.api.fields import NETWORK_NAME
from hubfleet.api.ids import resolved
from hubfleet.api.rules import Violation, port_count

DEFAULT_ROLE = "*"
"""The role of every app: there is no Mesos here that would know another."""

_BRIDGE_NAME = "mesos-bridge"  # Marathon's --mesos_bridge_name
_OLD_MODES = {"HOST": "host", "BRIDGE": "container/bridge", "USER": "container"}
_EXTRACTED = (".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".gz", ".tgz", ".tbz2", ".txz", ".zip")
_DEFAULT = "default"
_NETWORK_NAME = re.compile(NETWORK_NAME)

T = TypeVar("T")


def contradictions(app: App) -> list[Violation]:
    """Return where a request spells one thing in two ways, or in a way that means nothing.

    Parameters
    ----------
    app
        What was sent, as it was sent: of a change only the changed fields.
    """
    return [*_networks_twice(app), *_ports_twice(app), *_uris(app), *_old_container(app)]


def _networks_twice(app: App) -> Iterator[Violation]:
    docker = app.container.docker if app.container is not None else None
    old = docker.network if docker is not None else None
    if old is not None and app.networks:
        yield Violation("/", "must not specify both container.docker.network and networks")
    if old == "NONE":
        yield Violation("/container/docker/network", "unsupported docker network type NONE")
    if app.ip_address is not None and app.networks:
        yield Violation("/", "must not specify both networks and ipAddress")
    if app.ip_address is not None and (app.ports or app.port_definitions):
        yield Violation("/", "cannot specify both an IP address and port")
    name = app.ip_address.network_name if app.ip_address is not None else None
    if name is not None and not _is_network_name(name):
        yield Violation("/ipAddress/networkName", f"must fully match regular expression '{NETWORK_NAME}'")


def _is_network_name(name: str | None) -> bool:
    return name is not None and len(name) <= 63 and _NETWORK_NAME.fullmatch(name) is not None


def _ports_twice(app: App) -> Iterator[Violation]:
    fixed = [port for port in app.ports or [] if port]
    if len(fixed) != len(set(fixed)):
        yield Violation("/", "ports must be unique")
    defined = app.port_definitions
    if app.ports is not None and defined is not None and app.ports != [port.port for port in defined]:
        yield Violation("/", "cannot specify both ports and port definitions")
    mappings = app.container.port_mappings if app.container is not None else None
    if mappings and any(network.mode == "host" for network in app.networks):
        yield Violation("/", "portMappings are not allowed with host-networking")


def _uris(app: App) -> Iterator[Violation]:
    if app.uris and app.fetch:
        yield Violation("/uris", "may not be set in conjunction with fetch")


def _old_container(app: App) -> Iterator[Violation]:
    container = app.container
    discovered = app.ip_address.discovery if app.ip_address is not None else None
    if container is not None and container.type == "DOCKER" and discovered is not None:
        yield Violation("/ipAddress", "ipAddress/discovery is not allowed for Docker containers")
    if container is None:
        return
    if container.port_mappings and discovered is not None and discovered.ports:
        yield Violation("/", "container.portMappings and ipAddress.discovery.ports must not both be set")
    docker = container.docker
    if docker is None:
        return
    if container.port_mappings and docker.port_mappings:
        yield Violation("/", "cannot specify both portMappings and docker.portMappings")
    if docker.credential is not None:
        yield Violation("/container/docker/credential", "must be empty")
    if container.type == "MESOS":
        if docker.network is not None:
            yield Violation("/container/docker/network", "must be empty")
        if docker.port_mappings:
            yield Violation("/container/docker/portMappings", "must be empty")


def spells_networks(app: App) -> bool:
    """Whether what was sent says, in any spelling, which networks the app joins."""
    docker = app.container.docker if app.container is not None else None
    return (
        bool(app.networks)
        or app.ip_address is not None
        or (docker is not None and docker.network is not None)
    )


def normal(app: App) -> App:
    """Return the canonical form of a definition whose id is absolute.

    Deprecated fields are gone, and what follows from other fields is written out: networks,
    ports, the port of each health check, the strategies of apps with volumes, the role.
    """
    networks = _networks(app)
    on_host = all(network.mode == "host" for network in networks)
    definitions = app.port_definitions
    if definitions is None and app.ports is not None:
        definitions = [PortDefinition(port=port) for port in app.ports]
    changes: dict[str, Any] = {
        "networks": networks,
        "container": _container(app, networks, len(definitions or [])),
        "port_definitions": None,
        "require_ports": app.require_ports and on_host,
        "fetch": app.fetch or [Fetch(uri=uri, extract=is_extracted(uri)) for uri in app.uris or []],
        "role": app.role or DEFAULT_ROLE,
        "constraints": _each_once(app.constraints),
        "health_checks": _each_once(app.health_checks),
        "dependencies": _each_once(resolved(path, app.id) or "/" for path in app.dependencies),
        "residency": (app.residency or Residency()) if app.resident else None,
        **{"ports": None, "uris": None, "ip_address": None},
    }
    if app.accepted_resource_roles is not None:
        changes["accepted_resource_roles"] = _each_once(app.accepted_resource_roles)
    if on_host:
        default = [PortDefinition(name=_DEFAULT)]
        changes["port_definitions"] = default if definitions is None else definitions
    given = app.model_fields_set
    if app.resident and "unreachable_strategy" not in given:
        changes["unreachable_strategy"] = "disabled"
    if _keeps_data(app) and "upgrade_strategy" not in given:
        changes["upgrade_strategy"] = UpgradeStrategy(minimum_health_capacity=0.5, maximum_over_capacity=0.0)
    return _with_port_indices(app.model_copy(update=changes))


def is_extracted(uri: str) -> bool:
    """Whether what a deprecated URI names is unpacked: by the end of its path, as Marathon tells it."""
    try:
        return urlsplit(uri).path.endswith(_EXTRACTED)
    except ValueError:
        return False


def _networks(app: App) -> list[Network]:
    if app.networks:
        return app.networks
    docker = app.container.docker if app.container is not None else None
    old = docker.network if docker is not None else None
    wish = app.ip_address
    if wish is None:
        return [Network.model_validate({"mode": _OLD_MODES.get(old or "HOST", "host")})]
    if old == "HOST":
        return [Network(mode="host")]
    if old == "BRIDGE" or (old is None and wish.network_name == _BRIDGE_NAME):
        return [Network(mode="container/bridge", labels=wish.labels)]
    name = wish.network_name if _is_network_name(wish.network_name) else None
    return [Network(mode="container", name=name, labels=wish.labels)]


def _container(app: App, networks: list[Network], ports: int) -> Container | None:
    on_host = all(network.mode == "host" for network in networks)
    container = app.container
    if container is None:
        if on_host:
            return None
        container = Container(type="MESOS")
    mappings = container.port_mappings
    docker = container.docker
    if docker is not None:
        mappings = mappings or docker.port_mappings or mappings
        docker = docker.model_copy(update={"network": None, "port_mappings": None, "credential": None})
    wish = app.ip_address
    if wish is not None and wish.discovery is not None and wish.discovery.ports and not mappings:
        mappings = [
            PortMapping(
                container_port=port.number, name=port.name, protocol=port.protocol, labels=port.labels
            )
            for port in wish.discovery.ports
        ]
    if on_host:
        mappings = None
    else:
        if mappings is None:
            mappings = [PortMapping(name=_DEFAULT)]
        mappings = [*mappings, *(PortMapping() for _ in range(ports - len(mappings)))]
        if any(network.mode == "container/bridge" for network in networks):
            mappings = [
                mapping if mapping.host_port is not None else mapping.model_copy(update={"host_port": 0})
                for mapping in mappings
            ]
    return container.model_copy(update={"docker": docker, "port_mappings": mappings})


def _with_port_indices(app: App) -> App:
    """Return an app whose checks name their port; without one it is the first."""
    if not app.health_checks or not port_count(app):
        return app
    checks = [
        check
        if check.protocol == "COMMAND" or check.port is not None or check.port_index is not None
        else check.model_copy(update={"port_index": 0})
        for check in app.health_checks
    ]
    return app.model_copy(update={"health_checks": checks})


def _keeps_data(app: App) -> bool:
    volumes = app.container.volumes if app.container is not None else []
    return any(volume.persistent is not None or volume.external is not None for volume in volumes)


def _each_once(items: Iterable[T]) -> list[T]:
    """Return what Marathon keeps as a set, in the order in which it was given."""
    found: dict[str, T] = {}
    for item in items:
        found.setdefault(repr(item), item)
    return list(found.values())

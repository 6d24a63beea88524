"""The rules of networks, containers and volumes (``marathon-v2`` 2.1 and 2.3), in Marathon's words. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from .app import App
from .container import Container, Docker, PersistentInfo, Volume
from .network import PortMapping
from .violation import Violation

_URI = re.compile(
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:(?=[^#])(?!//(?:$|[?#]))|(?![A-Za-z][A-Za-z0-9+.-]*:))"
    r"(?:[A-Za-z0-9\-._~:/?@!$&'()*+,;=\[\]]|%[0-9A-Fa-f]{2}|[^\x00-\xa0])*"
    r"(?:#(?:[A-Za-z0-9\-._~:/?@!$&'()*+,;=\[\]]|%[0-9A-Fa-f]{2}|[^\x00-\xa0])*)?"
)
_OPTION = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_./]*[A-Za-z0-9])?")
_LABEL = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9_.]*[a-zA-Z0-9])?")
_NO_SECRETS = "Feature secrets is not enabled. Enable with --enable_features secrets)"
_NO_VOLUMES = "Feature external_volumes is not enabled. Enable with --enable_features external_volumes)"


def is_expression(value: str) -> bool:
    """Whether a text is a regular expression."""
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def uri_violations(uri: str, path: str) -> Iterator[Violation]:
    """Yield what is wrong with a URI (RFC 2396, by which Java reads it)."""
    if _URI.fullmatch(uri) is None:
        yield Violation(path, "URI has invalid syntax.")


def network_violations(app: App) -> Iterator[Violation]:
    """Yield what is wrong with the networks that an app joins."""
    modes = [network.mode for network in app.networks]
    names = [network.name for network in app.networks if network.name]
    for network in app.networks:
        if network.mode == "host" and (network.name or network.labels):
            yield Violation("/networks", "Host networks may not have names or labels")
        if network.mode == "container/bridge" and network.name:
            yield Violation("/networks", "Bridge networks may not have names")
    unnamed = sum(1 for network in app.networks if network.mode == "container" and not network.name)
    if unnamed > 1 or len(names) != len(set(names)):
        yield Violation("/networks", "Duplicate networks are not allowed")
    if unnamed:
        yield Violation("/networks", "Network name must be specified when container network is selected.")
    if len(set(modes)) > 1 or modes.count("host") > 1 or modes.count("container/bridge") > 1:
        yield Violation(
            "/networks",
            "May specify a single host network, single bridge network, or else 1-to-n container networks",
        )
    if app.container is not None and app.container.type == "DOCKER" and modes.count("container") > 1:
        yield Violation(
            "/", "may only specify a single container network when using the Docker container engine"
        )


def container_violations(app: App, secrets: bool, external_volumes: bool) -> Iterator[Violation]:
    """Yield what is wrong with a container; the flags say which features there are."""
    container = app.container
    if container is None:
        return
    if container.docker is not None:
        yield from _docker(app, container, container.docker, secrets)
    elif container.type == "DOCKER":
        yield Violation("/container/docker", "not defined")
    yield from _mappings(container.port_mappings or [], app)
    names = [volume.external.name for volume in container.volumes if volume.external is not None]
    if len(names) != len(set(names)):
        yield Violation("/container/volumes", "Volume names must be unique")
    for index, volume in enumerate(container.volumes):
        path = f"/container/volumes({index})"
        yield from _volume(app, volume, path)
        if volume.external is not None and not external_volumes:
            yield Violation(path, _NO_VOLUMES)
        if volume.secret is not None and not secrets:
            yield Violation(path, _NO_SECRETS)


def _docker(app: App, container: Container, docker: Docker, secrets: bool) -> Iterator[Violation]:
    if container.type == "MESOS" and docker.parameters:
        yield Violation("/container/docker/parameters", "must be empty")
    pull = docker.pull_config
    if pull is None:
        return
    path = "/container/docker/pullConfig"
    if container.type == "DOCKER":
        yield Violation(path, "pullConfig is not supported with Docker containerizer")
        return
    if not secrets:
        yield Violation(path, _NO_SECRETS)
    if pull.secret not in app.secrets:
        yield Violation(path, "pullConfig.secret must refer to an existing secret")


def _mappings(mappings: Sequence[PortMapping], app: App) -> Iterator[Violation]:
    port_names = [mapping.name for mapping in mappings if mapping.name]
    if len(port_names) != len(set(port_names)):
        yield Violation("/container/portMappings", "Port names must be unique.")
    known = [network.name for network in app.networks if network.name]
    several = sum(1 for network in app.networks if network.mode == "container") > 1
    for index, mapping in enumerate(mappings):
        path = f"/container/portMappings({index})"
        if several and mapping.host_port is not None and len(mapping.network_names) != 1:
            yield Violation(
                path,
                "networkNames must be a single item list when hostPort is specified and more than 1 "
                "container network is defined",
            )
        for number, name in enumerate(mapping.network_names):
            if name not in known:
                yield Violation(f"{path}/networkNames({number})", f"is not one of ({','.join(known)})")


def _volume(app: App, volume: Volume, path: str) -> Iterator[Violation]:
    if volume.persistent is not None:
        if "/" in volume.container_path:
            yield Violation(f"{path}/containerPath", 'value must not contain "/"')
        if volume.container_path in (".", ".."):
            yield Violation(f"{path}/containerPath", "can not be one of (.,..)")
        if volume.mode != "RW":
            yield Violation(f"{path}/mode", "got RO, expected RW")
        yield from _persistent(volume.persistent, f"{path}/persistent")
    if volume.external is not None:
        provider, name = volume.external.provider, volume.external.name
        if not name:
            yield Violation(f"{path}/external/name", "must not be empty")
        if _LABEL.fullmatch(provider) is None:
            yield Violation(f"{path}/external/provider", f"must match regular expression '{_LABEL.pattern}'")
        if isinstance(volume.external.options, dict):
            for key in volume.external.options:
                if _OPTION.fullmatch(key) is None:
                    yield Violation(
                        f"{path}/external/options", f"must match regular expression '{_OPTION.pattern}'"
                    )
        if provider == "dvdi" and app.instances > 1:
            yield Violation(
                "/", f"Number of instances is limited to 1 when declaring DVDI volumes in app [{app.id}]"
            )
    if volume.secret is not None and volume.secret not in app.secrets:
        yield Violation(path, "volume.secret must refer to an existing secret")


def _persistent(volume: PersistentInfo, path: str) -> Iterator[Violation]:
    if not volume.size:
        yield Violation(f"{path}/size", "got 0, expected more than 0")
    if volume.max_size is not None:
        if volume.type != "mount":
            yield Violation(path, "Only mount volumes can have maxSize")
        if volume.max_size <= volume.size:
            yield Violation(path, "Max size must be larger than size")
    if volume.type == "root" and volume.constraints:
        yield Violation(path, "Constraints on root volumes are not supported")
    for index, constraint in enumerate(volume.constraints):
        if error := _volume_constraint(constraint):
            yield Violation(f"{path}/constraints({index})", error)


def _volume_constraint(constraint: Sequence[str]) -> str | None:
    if not constraint:
        return "Missing field and operator"
    if len(constraint) != 3 or constraint[0] != "path":
        return f"Unsupported constraint {','.join(constraint)}"
    if constraint[1] not in ("LIKE", "UNLIKE"):
        return "Operator must be one of LIKE, UNLIKE"
    return None if is_expression(constraint[2]) else "Invalid regular expression"

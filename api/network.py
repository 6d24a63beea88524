"""The networks and ports of an app (``marathon-v2`` 2 and 2.1), the deprecated spellings among them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from .fields import Labels, Name, NetworkName, Port, PortName, Protocol, Text, is_empty
from .wire import Wire


class PortDefinition(Wire):
    """A port of an app on the host's network."""

    port: Port = 0
    protocol: Protocol = "tcp"
    name: PortName | None = None
    labels: Labels = Field(default_factory=dict, exclude_if=is_empty)


class PortMapping(Wire):
    """A port of an app on a container's network.

    A container port of 0 is the same as the host's; without a host port it is not mapped.
    """

    container_port: Port = 0
    host_port: Port | None = None
    service_port: Port = 0
    protocol: Protocol = "tcp"
    name: PortName | None = None
    labels: Labels = Field(default_factory=dict)
    network_names: list[Name] = Field(default_factory=list, exclude_if=is_empty)


class Network(Wire):
    """A network that an app joins."""

    mode: Literal["host", "container", "container/bridge"] = "container"
    name: NetworkName | None = None
    labels: Labels = Field(default_factory=dict, exclude_if=is_empty)


class DiscoveryPort(Wire):
    """A port of an app with an address of its own; deprecated since Marathon 1.5."""

    number: Port = 0
    name: PortName
    protocol: Protocol = "tcp"
    labels: Labels = Field(default_factory=dict, exclude_if=is_empty)


class Discovery(Wire):
    """The ports of an app with an address of its own; deprecated since Marathon 1.5."""

    ports: list[DiscoveryPort] = Field(default_factory=list, exclude_if=is_empty)


class IpAddress(Wire):
    """The wish for an address of each task's own; deprecated since Marathon 1.5."""

    discovery: Discovery | None = None
    groups: list[str] = Field(default_factory=list, exclude_if=is_empty)
    labels: Labels = Field(default_factory=dict, exclude_if=is_empty)
    network_name: Text | None = None

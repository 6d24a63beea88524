"""The network of a server, and where it listens there. Pure.

On the host's own network the scheduler gives the task its ports, since several servers share the machine.
A container with a network of its own has all its ports to itself: there the server's is fixed, and the
scheduler gives the host's port that leads to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hubfleet.api.app import Network, PortDefinition, PortMapping

NAME = "notebook"
"""Name of the server's own port."""

IN_CONTAINER = 8888
"""Where a Jupyter server listens in its container, if nothing else is said."""

MODES = {
    "HOST": "host",
    "BRIDGE": "container/bridge",
    "USER": "container",
    "CONTAINER": "container",
    "CONTAINER/BRIDGE": "container/bridge",
}
"""Marathon's modes by their old names (``USER`` was Docker's) and by their own, in capitals."""


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The network of a server and its ports.

    Parameters
    ----------
    mode
        Marathon's: ``host``, ``container/bridge`` or ``container``.
    network
        The container's network in mode ``container``.
    port
        Where the server listens: 0 for what the scheduler gives on the host's network, and for
        `IN_CONTAINER` in a container.
    further
        More ports of a container, without names.
    named
        More ports by name; 0 for what the scheduler gives.
    """

    mode: str = "host"
    network: str = ""
    port: int = 0
    further: Sequence[int] = ()
    named: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if NAME in self.named:
            raise ValueError(
                f"c.MarathonSpawner.extra_ports cannot have the name {NAME!r}: it is the server's"
            )
        if self.mode == "container" and not self.network:
            raise ValueError("c.MarathonSpawner.network_name is missing: which do the containers join?")

    @property
    def on_host(self) -> bool:
        """Whether the server is on the host's own network."""
        return self.mode == "host"

    @property
    def listens_at(self) -> int:
        """The port that the server's command names; 0 for ``$PORT0``."""
        return self.port if self.on_host else self.port or IN_CONTAINER

    @property
    def required(self) -> bool:
        """Whether one of the host's ports must be just that one."""
        return self.on_host and any([self.port, *self.named.values()])

    def networks(self) -> list[Network]:
        """Return the networks that the app joins."""
        name = self.network if self.mode == "container" else None
        return [Network.from_wire({"mode": self.mode, "name": name})]

    def definitions(self) -> list[PortDefinition] | None:
        """Return the ports on the host's network; None in a container."""
        if not self.on_host:
            return None
        named = {NAME: self.port, **self.named}
        return [PortDefinition(port=port, name=name) for name, port in named.items()]

    def mappings(self) -> list[PortMapping] | None:
        """Return a container's ports, each with a port of the host that leads to it; None on the host."""
        if self.on_host:
            return None
        ports: list[tuple[str | None, int]] = [(NAME, self.listens_at)]
        ports += [(None, port) for port in self.further]
        ports += list(self.named.items())
        return [PortMapping(container_port=port, host_port=0, name=name) for name, port in ports]

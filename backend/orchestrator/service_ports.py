"""Service ports: a number for each port of each app, the same for all its tasks (``marathon-v2`` 5.7).

Nothing listens on them here. They are what a load balancer before Marathon is set up by, and
what ``PORT_<number>`` is called by in a task's environment.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from hubfleet.api.app import App

from . import plans

RANGE = (10_000, 20_000)
"""The numbers that are given, as Marathon's ``--local_port_min`` and ``--local_port_max``."""


def service_ports(app: App) -> list[int]:
    """Return the ports under which an app's ports are known to all, 0 where none is assigned."""
    if app.port_definitions is not None:
        return [definition.port for definition in app.port_definitions]
    mappings = app.container.port_mappings if app.container else None
    return [mapping.service_port for mapping in mappings or ()]


class ServicePorts:
    """Gives each port that an app leaves to us, as 0, a number that no other app has.

    Parameters
    ----------
    bounds
        The first and the last number that is given.
    apps
        All there are. What they ask for by number is theirs, also outside of the bounds, and
        also where another app has the same, as with Marathon.
    """

    def __init__(self, bounds: tuple[int, int], apps: Iterable[App]) -> None:
        self.bounds = bounds
        self._used = Counter(port for app in apps for port in service_ports(app) if port)
        self._lowest = bounds[0]  # below it none is free

    def assigned(
        self, before: Mapping[str, App | None], targets: Mapping[str, App | None]
    ) -> dict[str, App | None]:
        """Return what some apps are to become with their ports numbered; nothing is taken yet.

        An app keeps the numbers that it was given before, in their order. One whose
        configuration stays is left as it is; so are ports of an app that requires the very
        numbers (``requirePorts``), since a number given here would become one of the machine's.
        Where all numbers are taken a port keeps its 0: it is only a name, for the lack of
        which nobody's server is refused.

        Parameters
        ----------
        before
            What the same apps are now.
        """
        found = dict(targets)
        named = {port for app in targets.values() if app is not None for port in service_ports(app)}
        free = self._free(named)
        for app_id, app in targets.items():
            old = before.get(app_id)
            if app is None or app.require_ports or 0 not in service_ports(app):
                continue
            if old is None or not plans.same_configuration(old, app):
                found[app_id] = _numbered(app, [*self._kept(old, app)], free)
        return found

    def moved(self, before: App | None, after: App | None) -> None:
        """Take note of what was accepted of one app."""
        if before is not None:
            gone = [port for port in service_ports(before) if port]
            self._used.subtract(gone)
            self._lowest = min(self._lowest, max(min(gone, default=self._lowest), self.bounds[0]))
        if after is not None:
            self._used.update(port for port in service_ports(after) if port)

    def _kept(self, old: App | None, app: App) -> Iterator[int]:
        """Yield the numbers that an app has been given and does not ask for by name."""
        asked = set(service_ports(app))
        for port in service_ports(old) if old is not None else ():
            if self.bounds[0] <= port <= self.bounds[1] and port not in asked:
                yield port

    def _free(self, named: set[int]) -> Iterator[int]:
        while self._used[self._lowest] > 0 and self._lowest <= self.bounds[1]:
            self._lowest += 1
        for port in range(self._lowest, self.bounds[1] + 1):
            if self._used.get(port, 0) == 0 and port not in named:
                yield port


def _numbered(app: App, kept: list[int], free: Iterator[int]) -> App:
    """Return an app with a number for each port that has none, those that it had first."""
    ports = [port or (kept.pop(0) if kept else next(free, 0)) for port in service_ports(app)]
    if app.port_definitions is not None:
        definitions = [
            definition.model_copy(update={"port": port})
            for definition, port in zip(app.port_definitions, ports, strict=True)
        ]
        return app.model_copy(update={"port_definitions": definitions})
    assert app.container is not None
    assert app.container.port_mappings is not None
    mappings = [
        mapping.model_copy(update={"service_port": port})
        for mapping, port in zip(app.container.port_mappings, ports, strict=True)
    ]
    return app.model_copy(update={"container": app.container.model_copy(update={"port_mappings": mappings})})

"""What is reserved of each host, kept as tasks come and go: a look at it is no look at all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TypeVar

from hubfleet.api.app import App

from .records import Instance

_UNITS = 1_000_000_000
"""Amounts are summed up as whole billionths: a sum of floats drifts as parts are taken away again."""

_Key = TypeVar("_Key", int, str)


@dataclass(frozen=True)
class _Held:
    """What one task holds."""

    app_id: str
    host: str
    cpus: int
    mem: int
    disk: int
    gpus: tuple[int, ...]
    ports: tuple[int, ...]


@dataclass
class Reserved:
    """What is reserved of one host; numbers and ports by how many tasks hold them."""

    _cpus: int = 0
    _mem: int = 0
    _disk: int = 0
    gpus: Counter[int] = field(default_factory=Counter)
    ports: Counter[int] = field(default_factory=Counter)

    @property
    def cpus(self) -> float:
        """How many."""
        return self._cpus / _UNITS

    @property
    def mem(self) -> float:
        """MiB."""
        return self._mem / _UNITS

    @property
    def disk(self) -> float:
        """MiB."""
        return self._disk / _UNITS

    def count(self, held: _Held, times: int) -> None:
        """Add what a task holds, or (-1) take it away."""
        self._cpus += times * held.cpus
        self._mem += times * held.mem
        self._disk += times * held.disk
        for counter, numbers in ((self.gpus, held.gpus), (self.ports, held.ports)):
            for number in numbers:
                _count(counter, number, times)


class Reservations:
    """What launched tasks hold, by host, and on which hosts each app's are.

    A host that the engine offers no longer still counts: its tasks may be there.

    Attributes
    ----------
    hosts
        What is reserved of each host of which something is.
    placed
        How many tasks an app has on each host, by the app's id.
    """

    def __init__(self) -> None:
        self.hosts: dict[str, Reserved] = {}
        self.placed: dict[str, Counter[str]] = {}
        self._held: dict[str, _Held] = {}

    def hold(self, instance: Instance, app: App) -> None:
        """Let an instance hold what a task of this definition takes where it is, and nothing else."""
        held = _Held(
            instance.app_id,
            instance.host,
            round(app.cpus * _UNITS),
            round(app.mem * _UNITS),
            round(app.disk * _UNITS),
            tuple(instance.gpus),
            tuple(instance.ports),
        )
        if self._held.get(instance.id) != held:
            self.release(instance.id)
            self._held[instance.id] = held
            self._count(held, 1)

    def release(self, instance_id: str) -> None:
        """Let an instance hold nothing."""
        held = self._held.pop(instance_id, None)
        if held is not None:
            self._count(held, -1)

    def _count(self, held: _Held, times: int) -> None:
        self.hosts.setdefault(held.host, Reserved()).count(held, times)
        on_hosts = self.placed.setdefault(held.app_id, Counter())
        _count(on_hosts, held.host, times)
        if not on_hosts:
            del self.placed[held.app_id]


def _count(counter: Counter[_Key], key: _Key, times: int) -> None:
    """Add to a counter; what is down to nothing is not kept."""
    counter[key] += times
    if not counter[key]:
        del counter[key]

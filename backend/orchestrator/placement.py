"""Which place takes a task: a pipeline of filters, each of which can say why not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hubfleet.api.app import App
from hubfleet.api.rules import port_count

from ..drivers import Offer


@dataclass
class Place:
    """One host: what it has in all, and what of it is reserved."""

    offer: Offer
    cpus: float = 0.0
    mem: float = 0.0
    disk: float = 0.0
    gpus: int = 0

    def reserve(self, app: App) -> None:
        """Count one more instance of an app as placed here."""
        self.cpus += app.cpus
        self.mem += app.mem
        self.disk += app.disk
        self.gpus += app.gpus


@dataclass(frozen=True)
class Reason:
    """Why a place does not fit: Marathon's name of it, and a sentence a person can act on."""

    code: str
    sentence: str
    ever: bool
    """Whether the place could fit once others have left it."""


# Sums of floats: a machine of 2 cpus takes twenty tasks of 0.1.
_CLOSE_ENOUGH = 1e-9

Filter = Callable[[App, Place], Reason | None]


def _lacking(code: str, what: str, unit: str, wanted: float, used: float, whole: float) -> Reason | None:
    if used + wanted <= whole + _CLOSE_ENOUGH:
        return None
    free = max(0.0, whole - used)
    possible = wanted <= whole + _CLOSE_ENOUGH
    if possible:
        sentence = f"waiting for {wanted:g}{unit} {what}; {free:g} of {whole:g} free"
    else:
        sentence = f"{wanted:g}{unit} {what} asked, but the largest place has {whole:g} in all"
    return Reason(code, sentence, possible)


def _cpus(app: App, place: Place) -> Reason | None:
    return _lacking("InsufficientCpus", "cpus", "", app.cpus, place.cpus, place.offer.cpus)


def _mem(app: App, place: Place) -> Reason | None:
    return _lacking("InsufficientMemory", "memory", " MiB", app.mem, place.mem, place.offer.mem)


def _disk(app: App, place: Place) -> Reason | None:
    return _lacking("InsufficientDisk", "disk", " MiB", app.disk, place.disk, place.offer.disk)


def _gpus(app: App, place: Place) -> Reason | None:
    return _lacking("InsufficientGpus", "GPUs", "", app.gpus, place.gpus, place.offer.gpus)


# In the order of Marathon's own funnel (``marathon-v2`` 1.2).
FILTERS: Sequence[Filter] = (_cpus, _mem, _disk, _gpus)


def no_ports(app: App, found: int) -> Reason:
    """Return the reason of a place that has too few free ports."""
    return Reason(
        "InsufficientPorts", f"waiting for {port_count(app)} free ports; the place has {found} left", True
    )


def choose(app: App, places: Iterable[Place]) -> Place | list[Reason]:
    """Return a place for one instance of an app, or why each place does not fit.

    Of several places that fit, the one with the most cpus left is taken.
    """
    fitting, reasons = [], []
    for place in places:
        reason = next((found for fits in FILTERS if (found := fits(app, place))), None)
        if reason is None:
            fitting.append(place)
        else:
            reasons.append(reason)
    if fitting:
        return max(fitting, key=lambda place: place.offer.cpus - place.cpus)
    return reasons

"""Which place takes a task: a pipeline of filters, each of which can say why not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hubfleet.api.app import App
from hubfleet.api.rules import Violation, port_count

from ..drivers import Offer


@dataclass
class Place:
    """One host: what it has in all, and what of it is reserved."""

    offer: Offer
    cpus: float = 0.0
    mem: float = 0.0
    disk: float = 0.0
    gpus: float = 0.0

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


@dataclass(frozen=True)
class Resource:
    """What a place has a certain amount of: an attribute of `App`, `Place` and `Offer` alike."""

    name: str
    code: str
    words: str


# In the order of Marathon's own funnel (``marathon-v2`` 1.2).
RESOURCES: Sequence[Resource] = (
    Resource("cpus", "InsufficientCpus", " cpus"),
    Resource("mem", "InsufficientMemory", " MiB of memory"),
    Resource("disk", "InsufficientDisk", " MiB of disk"),
    Resource("gpus", "InsufficientGpus", " GPUs"),
)

# Sums of floats: a machine of 2 cpus takes twenty tasks of 0.1.
_CLOSE_ENOUGH = 1e-9


def lacking(resource: Resource, app: App, place: Place) -> Reason | None:
    """Return why a place has too little of a resource for one more instance, or None if it has enough."""
    wanted: float = getattr(app, resource.name)
    used: float = getattr(place, resource.name)
    whole: float = getattr(place.offer, resource.name)
    if used + wanted <= whole + _CLOSE_ENOUGH:
        return None
    if wanted <= whole + _CLOSE_ENOUGH:
        free = max(0.0, whole - used)
        sentence = f"waiting for {_amount(wanted)}{resource.words}; {_amount(free)} of {_amount(whole)} free"
        return Reason(resource.code, sentence, True)
    sentence = f"{_amount(wanted)}{resource.words} asked, but there are {_amount(whole)} in all"
    return Reason(resource.code, sentence, False)


def _amount(value: float) -> str:
    """Return a number as people write it: at most three digits of fraction, no exponent below 10^15."""
    return f"{value:.3f}".rstrip("0").rstrip(".") if value < 1e15 else f"{value:g}"


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
        reason = next((found for each in RESOURCES if (found := lacking(each, app, place))), None)
        if reason is None:
            fitting.append(place)
        else:
            reasons.append(reason)
    if fitting:
        return max(fitting, key=lambda place: place.offer.cpus - place.cpus)
    return reasons


def impossible(app: App, offers: Sequence[Offer]) -> list[Violation]:
    """Return why one instance of an app would fit nowhere, even if nothing else ran; empty if it would."""
    empty = [Place(offer) for offer in offers]
    if not empty or isinstance(choose(app, empty), Place):
        return []
    found = []
    for resource in RESOURCES:
        largest = max(empty, key=lambda place: float(getattr(place.offer, resource.name)))
        if reason := lacking(resource, app, largest):
            found.append(Violation(f"/{resource.name}", reason.sentence))
    return found or [Violation("/", "no place has all that is asked, though each of it is somewhere")]

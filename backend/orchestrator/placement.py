"""Which place takes a task: a pipeline of filters, each of which can say why not. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from hubfleet.api.app import App
from hubfleet.api.rules import Violation, port_count

from ..drivers import Offer
from ..reservations import Reservations, Reserved
from . import constraints

FUNNEL: Sequence[str] = (
    "UnfulfilledRole",
    "UnfulfilledConstraint",
    "NoCorrespondingReservationFound",
    "AgentMaintenance",
    "InsufficientCpus",
    "InsufficientMemory",
    "InsufficientDisk",
    "InsufficientGpus",
    "InsufficientPorts",
    "DeclinedScarceResources",
)
"""Marathon's codes of why a place does not fit, in the order in which it asks (``marathon-v2`` 1.2)."""


@dataclass(frozen=True)
class Reason:
    """Why a place does not fit: Marathon's name of it, and a sentence a person can act on."""

    code: str
    sentence: str
    ever: bool
    """Whether the place could fit once others have left it."""


@dataclass
class Place:
    """One host: what it has in all, and what of it is reserved."""

    offer: Offer
    cpus: float = 0.0
    mem: float = 0.0
    disk: float = 0.0
    gpu_indices: set[int] = field(default_factory=set)
    ports: set[int] = field(default_factory=set)

    @property
    def gpus(self) -> int:
        """How many GPUs are reserved."""
        return len(self.gpu_indices)

    def free_gpus(self, count: int) -> list[int]:
        """Return the first `count` GPUs that nobody has, or as many as there are."""
        return [index for index in range(self.offer.gpus) if index not in self.gpu_indices][:count]

    def reserve(self, app: App, ports: Iterable[int] = (), gpus: Iterable[int] | None = None) -> None:
        """Count one more instance of an app as placed here."""
        self.cpus += app.cpus
        self.mem += app.mem
        self.disk += app.disk
        self.gpu_indices.update(self.free_gpus(app.gpus) if gpus is None else gpus)
        self.ports.update(ports)


class Places:
    """All places, and where the instances of each app are.

    Parameters
    ----------
    offers
        What each place has in all.
    reservations
        What is reserved already. It is not changed: what is reserved here is a plan.
    """

    def __init__(self, offers: Iterable[Offer], reservations: Reservations | None = None) -> None:
        reservations = reservations or Reservations()
        self.by_host = {offer.host: _place(offer, reservations.hosts.get(offer.host)) for offer in offers}
        self._offers = {host: place.offer for host, place in self.by_host.items()}
        self._placed_before = reservations.placed
        self._placed: dict[
            str, Counter[str]
        ] = {}  # of the apps of which more is planned; by app id, then host

    def reserve(
        self, app: App, host: str, ports: Iterable[int] = (), gpus: Iterable[int] | None = None
    ) -> None:
        """Count one more instance of an app as placed; one on a host that is gone still counts as placed."""
        if app.id not in self._placed:
            self._placed[app.id] = Counter(self._placed_before.get(app.id))
        self._placed[app.id][host] += 1
        place = self.by_host.get(host)
        if place is not None:
            place.reserve(app, ports, gpus)

    def choose(self, app: App, last: Collection[str] = ()) -> Place | list[Reason]:
        """Return a place for one more instance of an app, or why each place does not fit.

        Of several places that fit, the one with the most cpus left is taken.

        Parameters
        ----------
        last
            Hosts that are taken only if no other one fits.
        """
        fitting, reasons = [], []
        for place in self.by_host.values():
            reason = self.why_not(app, place)
            if reason is None:
                fitting.append(place)
            else:
                reasons.append(reason)
        if not fitting:
            return reasons
        return max(fitting, key=lambda place: (place.offer.host not in last, place.offer.cpus - place.cpus))

    def why_not(self, app: App, place: Place) -> Reason | None:
        """Return the first reason why a place does not take one more instance, or None if it does."""
        return self._constrained(app, place) or next(
            (reason for asked in _FILTERS if (reason := asked(app, place))), None
        )

    def _constrained(self, app: App, place: Place) -> Reason | None:
        if not app.constraints:
            return None
        placed = self._placed.get(app.id) or self._placed_before.get(app.id) or Counter()
        broken = constraints.unfulfilled(app, place.offer, placed, self._offers)
        return Reason("UnfulfilledConstraint", *broken) if broken else None


def _place(offer: Offer, reserved: Reserved | None) -> Place:
    if reserved is None:
        return Place(offer)
    amounts = reserved.cpus, reserved.mem, reserved.disk
    return Place(offer, *amounts, set(reserved.gpus), set(reserved.ports))


@dataclass(frozen=True)
class Resource:
    """What a place has a certain amount of: an attribute of `App`, `Place` and `Offer` alike."""

    name: str
    code: str
    words: str


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
    if used + wanted <= whole + _CLOSE_ENOUGH or wanted == 0:
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


def required_ports(app: App) -> list[int]:
    """Return the very numbers that an app needs as its ports (``requirePorts``)."""
    if not app.require_ports:
        return []
    return [definition.port for definition in app.port_definitions or [] if definition.port]


def chosen_ports(app: App) -> int:
    """Return how many ports of an app are for us to choose."""
    return port_count(app) - len(required_ports(app))


def with_required_ports(app: App, chosen: Iterable[int]) -> list[int]:
    """Return all ports of an instance in their order, the required ones among those chosen for it."""
    free = iter(chosen)
    if not app.require_ports:
        return list(free)
    return [definition.port or next(free) for definition in app.port_definitions or []]


def lacking_ports(app: App, place: Place) -> Reason | None:
    """Return why a place has not the ports for one more instance, as far as our own tasks tell."""
    required = required_ports(app)
    if place.offer.ports is not None:
        first, last = place.offer.ports
        outside = [port for port in required if not first <= port <= last]
        if outside:
            sentence = (
                f"port {outside[0]} asked, but tasks of {place.offer.host} are given ports {first} to {last}"
            )
            return Reason("InsufficientPorts", sentence, False)
        left = last - first + 1 - sum(1 for port in place.ports if first <= port <= last)
        if left < port_count(app):
            return too_few_ports(app, left)
    return taken_ports(place.ports.intersection(required)) if required else None


def taken_ports(taken: Collection[int]) -> Reason | None:
    """Return the reason when required ports are in use, or None if none is."""
    if not taken:
        return None
    numbers = ", ".join(str(port) for port in sorted(taken))
    words = f"port {numbers} is" if len(taken) == 1 else f"ports {numbers} are"
    sentence = f"{words} in use, and the app requires just this; free it, or leave requirePorts out"
    return Reason("InsufficientPorts", sentence, True)


def too_few_ports(app: App, found: int) -> Reason:
    """Return the reason of a place that has too few free ports."""
    return Reason(
        "InsufficientPorts", f"waiting for {port_count(app)} free ports; the place has {found} left", True
    )


def _resource_filter(resource: Resource) -> Callable[[App, Place], Reason | None]:
    return lambda app, place: lacking(resource, app, place)


# In the order of the funnel; constraints come before, as they ask for all places.
_FILTERS: Sequence[Callable[[App, Place], Reason | None]] = (
    *map(_resource_filter, RESOURCES),
    lacking_ports,
)


def impossible(app: App, offers: Sequence[Offer]) -> list[Violation]:
    """Return why one instance of an app would fit nowhere, even if nothing else ran; empty if it would.

    A constraint that no place fulfils is none of it: places, and what they are called, may
    change, and Marathon waits for it.
    """
    empty = Places(offers)
    unconstrained = app.model_copy(update={"constraints": []}) if app.constraints else app
    if not empty.by_host or isinstance(empty.choose(unconstrained), Place):
        return []
    places = list(empty.by_host.values())
    found = []
    for resource in RESOURCES:
        largest = max(places, key=lambda place: float(getattr(place.offer, resource.name)))
        if reason := lacking(resource, app, largest):
            found.append(Violation(f"/{resource.name}", reason.sentence))
    without_ports = [lacking_ports(app, place) for place in places]
    if all(without_ports) and (reason := without_ports[0]):
        found.append(Violation("/portDefinitions", reason.sentence))
    return found or [Violation("/", "no place has all that is asked, though each of it is somewhere")]

"""What is left of a place, as Marathon tells of offers (``embed=lastUnusedOffers`` of the queue). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from hubfleet.api.status import AgentAttribute, NumberRange, Offer, OfferResource

from .placement import RESOURCES, Place


def offer_of(place: Place) -> Offer:
    """Return what of a place is free."""
    offer = place.offer
    resources = [
        OfferResource(
            name=resource.name,
            scalar=max(0.0, getattr(offer, resource.name) - getattr(place, resource.name)),
        )
        for resource in RESOURCES
    ]
    if offer.ports is not None:
        resources.append(OfferResource(name="ports", ranges=free_ranges(*offer.ports, place.ports)))
    named = {"@region": offer.region, "@zone": offer.zone, **offer.attributes}
    return Offer(
        id=offer.host,
        hostname=offer.host,
        agent_id=offer.host,
        resources=resources,
        attributes=[AgentAttribute(name=name, text=text) for name, text in named.items() if text],
    )


def free_ranges(first: int, last: int, taken: Iterable[int]) -> list[NumberRange]:
    """Return the ranges of the numbers from first to last that are not taken."""
    found, begin = [], first
    for port in sorted(port for port in taken if first <= port <= last):
        if begin < port:
            found.append(NumberRange(begin=begin, end=port - 1))
        begin = port + 1
    if begin <= last:
        found.append(NumberRange(begin=begin, end=last))
    return found

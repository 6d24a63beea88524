"""Media types of requests and answers: what a client sends, and what it takes. Pure."""

from __future__ import annotations


def accepts(accept: str | None, media_type: str) -> bool:
    """Whether an ``Accept`` header takes a media type; one that is absent or empty takes all.

    The most exact range decides, as RFC 9110 (12.5.1) has it: ``*/*, text/plain;q=0`` takes
    everything but plain text.
    """
    if accept is None or not accept.strip():
        return True
    return quality(accept, media_type) > 0


def quality(accept: str, media_type: str) -> float:
    """Return how much an ``Accept`` header wants a media type, from 0 to 1."""
    kind = media_type.partition("/")[0]
    by_exactness = (media_type, f"{kind}/*", "*/*", "*")
    found: dict[str, float] = {}
    for part in accept.lower().split(","):
        range_, *parameters = (each.strip() for each in part.split(";"))
        found[range_] = max(found.get(range_, 0.0), _weight(parameters))
    return next((found[range_] for range_ in by_exactness if range_ in found), 0.0)


def preferred(accept: str | None, *offered: str) -> str | None:
    """Return which of some media types an ``Accept`` header wants most, or None if it takes none.

    Of those that it wants as much as each other the one that it names first counts, then the
    one that is offered first.
    """
    if accept is None or not accept.strip():
        return offered[0]
    most = max(quality(accept, media_type) for media_type in offered)
    if not most:
        return None
    named = accept.lower()
    wanted = [media_type for media_type in offered if quality(accept, media_type) == most]
    return min(wanted, key=lambda media_type: named.find(media_type) % (len(named) + 1))


def is_json(content_type: str | None) -> bool:
    """Whether a body of this ``Content-Type`` is read as JSON; one that says nothing is."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    return media_type in ("", "application/json", "*/*") or media_type.endswith("+json")


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0 <= weight <= 1 else 0.0
    return 1.0

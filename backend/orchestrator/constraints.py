"""Where instances of an app may be, seen from where others of it are (``marathon-v2`` 2.2). Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

from hubfleet.api.app import App
from hubfleet.api.rules import is_too_long

from ..drivers import Offer

_MATCH_SECONDS = 0.02  # what a pattern may take; those that people write take microseconds


def unfulfilled(
    app: App, offer: Offer, placed: Mapping[str, int], offers: Mapping[str, Offer]
) -> tuple[str, bool] | None:
    """Return why a place breaks a constraint of an app, or None if it breaks none.

    Parameters
    ----------
    offer
        The place that one more instance is to go to.
    placed
        How many instances of the app, of any version, are where, by host.
    offers
        The places there are, by host.

    Returns
    -------
    tuple or None
        A sentence, and whether the place could do once other instances have left.
    """
    for constraint in app.constraints:
        field, operator = constraint[0], constraint[1].upper()
        value = constraint[2] if len(constraint) > 2 else ""
        here = _value(offer, field)
        if here is None:
            if operator != "UNLIKE":
                return f"{_told(constraint)}: the place {offer.host} has no {field}", False
            continue
        if operator in ("LIKE", "UNLIKE", "IS"):
            broken = _alone(operator, field, here, value)
        else:
            broken = _among(app, operator, here, value, _groups(field, placed, offers))
        if broken is not None:
            sentence, until_others_leave = broken
            return f"{_told(constraint)}: {field} {here} {sentence}", until_others_leave
    return None


def _alone(operator: str, field: str, here: str, value: str) -> tuple[str, bool] | None:
    """Judge by the place alone: nothing that the app's other instances do changes it."""
    if operator == "IS":
        return None if _same(here, value) else (f"is not {value}", False)
    matches = _full_match(value, here)
    if matches is None:
        return f"cannot be compared with {value} in time; write a simpler pattern", False
    if operator == "LIKE":
        return None if matches else (f"does not match {value}", False)
    return (f"matches {value}", False) if matches else None


def _among(
    app: App, operator: str, here: str, value: str, groups: Counter[str | None]
) -> tuple[str, bool] | None:
    """Judge by where the app's other instances are."""
    others = groups[here]
    match operator:
        case "UNIQUE":
            return ("has an instance of the app already", True) if others else None
        case "MAX_PER":
            most = int(value)
            if others < most:
                return None
            return f"has {others} instances of the app, of at most {most}", most > 0
        case "CLUSTER":
            if value and here != value:
                return f"is not {value}", False
            elsewhere = next((group for group in groups if group != here), here)
            return None if elsewhere == here else (f"is not {elsewhere}, where the others are", True)
        case "GROUP_BY":
            return _spread(app, here, groups, int(value or 0))
    return f"cannot be judged by {operator}, which this backend does not know", False


def _spread(app: App, here: str, groups: Counter[str | None], wanted: int) -> tuple[str, bool] | None:
    """Judge whether one more here keeps the groups even."""
    others = groups[here]
    if wanted == 0:
        if others and others > min(groups.values()):
            return f"has {others} instances of the app, and others have fewer", True
        return None
    if not others and len(groups) >= wanted:
        return f"would be one more than the {wanted} groups asked for", True
    # While an app is replaced there are more than its count, and they spread as evenly.
    share, left_over = divmod(max(app.instances, groups.total() + 1), wanted)
    larger = sum(1 for count in groups.values() if count > share)
    if others < share or (others == share and larger < left_over):
        return None
    return f"has its even share of {wanted} groups, {others} instances of the app", True


def _groups(field: str, placed: Mapping[str, int], offers: Mapping[str, Offer]) -> Counter[str | None]:
    """Return how many instances there are by the value of a field; None are those without one."""
    found: Counter[str | None] = Counter()
    for host, count in placed.items():
        found[group_of(host, field, offers)] += count
    return found


def group_of(host: str, field: str, offers: Mapping[str, Offer]) -> str | None:
    """Return the value that a place has in a field; of a host that is gone only its name is known."""
    return _value(offers.get(host) or Offer(host, 0, 0, 0), field)


def _value(offer: Offer, field: str) -> str | None:
    match field:
        case "hostname" | "@hostname":
            return offer.host
        case "@region":
            return offer.region
        case "@zone":
            return offer.zone
    return offer.attributes.get(field)


def _same(here: str, value: str) -> bool:
    """Compare as Mesos does: numbers to three decimals, everything else by the letter."""
    try:
        return round(float(here), 3) == round(float(value), 3)
    except ValueError:
        return here == value


@lru_cache(maxsize=4096)
def _full_match(pattern: str, text: str) -> bool | None:
    """Whether a pattern matches a whole text; None if it cannot be told in time.

    The pattern is a user's, and there are patterns that `re` would try for years. Those that take too much
    to be compiled are refused with the app, but may be in a database from before that.
    """
    import regex  # only who asks for LIKE waits for it

    if is_too_long(pattern):
        return None
    try:
        return regex.fullmatch(pattern, text, timeout=_MATCH_SECONDS) is not None
    except (TimeoutError, RecursionError, regex.error):
        return None


def _told(constraint: list[str]) -> str:
    return f"constraint {' '.join(constraint)}"

"""What got worse from one run to another, by the ratios of ours. Values, without I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from figures import LEAST_SAMPLES

MOST = 1.25
MOST_WITHOUT_SPREAD = 2.0
"""Where there are too few samples to tell a spread, which is the larger for that."""

Key = tuple[str, str, str]
Where = tuple[str, str, str, str]
"""A script, and the key of a ratio in it."""


@dataclass
class Judgement:
    """What can be said of one run beside another.

    Parameters
    ----------
    compared
        Which ratios of ours.
    worse, better
        Those of them that are so, and what they are and were.
    failing
        What of ours failed, and did not.
    untold
        What cannot be compared, and why.
    """

    compared: set[Where] = field(default_factory=set)
    worse: dict[Where, str] = field(default_factory=dict)
    better: dict[Where, str] = field(default_factory=dict)
    failing: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)


def judged(now: Mapping[str, Any], then: Mapping[str, Any]) -> Judgement:
    """Judge the records of one run beside those of another, each `with_ratios`, by the names of scripts.

    A ratio of ours is worse if it is more than 25 % above the former one *and* beyond the spread of both: the
    intervals that hold nine of ten resampled ratios do not meet. Where one of them has too few samples for an
    interval, it has to be twice the former one. What a peer fails at only hides how we stand beside it.
    """
    found = Judgement()
    for name in dict.fromkeys([*then, *now]):
        if name not in now or name not in then:
            why = "it was not run" if name in then else "it is not in the committed run"
            found.untold.append(f"{name}: {why}")
            continue
        known, seen = (_ours(run[name]) for run in (then, now))
        for key in dict.fromkeys([*known, *seen]):
            _judge(found, (name, *key), seen.get(key), known.get(key))
        failed = dict(_failures(then[name]))
        for place, said in _failures(now[name]):
            if place not in failed:
                found.failing.append(f"{name}, {place[0]}: {place[1]} failed, and did not before: {said}")
    return found


def _judge(
    found: Judgement, where: Where, now: Mapping[str, Any] | None, then: Mapping[str, Any] | None
) -> None:
    for ratio, when in ((now, "now"), (then, "in the committed run")):
        if ratio is None:
            found.untold.append(f"{named(where)}: there is no such ratio {when}")
            return
        if "value" not in ratio:
            found.untold.append(f"{named(where)}: it has no value {when}: {ratio['why']}")
            return
    assert now is not None
    assert then is not None
    found.compared.add(where)
    told = f"{_told(now)}, and was {_told(then)}"
    more, less = (then, now) if now["higher_is_better"] else (now, then)
    if _is_above(more, less):
        found.worse[where] = told
    elif _is_above(less, more):
        found.better[where] = told


def named(where: Where) -> str:
    """Return what people call a ratio."""
    return "{}, {}: {} beside {}".format(*where)


def _is_above(more: Mapping[str, Any], less: Mapping[str, Any]) -> bool:
    """Return whether a ratio is above another for sure."""
    if min(more["samples"], less["samples"]) < LEAST_SAMPLES:
        return bool(more["value"] > MOST_WITHOUT_SPREAD * less["value"])
    return bool(more["value"] > MOST * less["value"] and more["low"] > less["high"])


def _told(ratio: Mapping[str, Any]) -> str:
    if ratio["samples"] < LEAST_SAMPLES:
        return f"{ratio['value']:.3g} (n = {ratio['samples']})"
    return f"{ratio['value']:.3g} ({ratio['low']:.3g} to {ratio['high']:.3g})"


def _ours(record: Mapping[str, Any]) -> dict[Key, Mapping[str, Any]]:
    """Return the ratios of ours by what they relate."""
    return {(one["group"], one["name"], one["of"]): one for one in record.get("ratios", ()) if one["ours"]}


def _failures(record: Mapping[str, Any]) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield each figure that failed, and its last error, but for those that are of peers and limits alone."""
    ratios = record.get("ratios", ())
    mine = {(one["group"], one["name"]) for one in ratios if one["ours"]}
    others = {tuple(one["of_place"]) for one in ratios} | {
        (one["group"], one["name"]) for one in ratios if not one["ours"]
    }
    for figure in record.get("figures", ()):
        place = (figure["group"], figure["name"])
        if figure["failures"] and (place in mine or place not in others):
            yield place, figure["failures"][-1]

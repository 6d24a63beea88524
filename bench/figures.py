"""What is measured and how it compares: figures with their spread, and ratios of them. Values, without I/O.

A record is what one script found, as plain data: `Part` in measuring.py makes it, a results file keeps it,
and the page, the plots and the check read it. The ratios are worked out here, from the samples in a record,
so that a script that was killed amid its work has ratios of what it had measured until then.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

Place = tuple[str, str]
"""The group and the name of a figure."""

LEAST_SAMPLES = 3
"""Fewer tell no spread."""
_RESAMPLES = 2000


@dataclass
class Figure:
    """The samples of one thing that is measured.

    Parameters
    ----------
    unit
        ``s`` (shown as is fit: seconds, milliseconds, microseconds), ``MiB``, ``1/s`` or empty.
    batches
        How many samples were taken together each time, in the order of the samples.
    failures
        What was said when it could not be measured.
    """

    group: str
    name: str
    unit: str
    samples: list[float] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def add(self, samples: Sequence[float]) -> None:
        """Keep samples that were taken together."""
        self.samples.extend(samples)
        self.batches.extend([len(samples)] if samples else [])

    def summary(self) -> dict[str, float]:
        """Return the median, the quartiles (the spread), the 99th percentile and the worst."""
        if not self.samples:
            return {}
        return {
            "median": statistics.median(self.samples),
            "low": quantile(self.samples, 0.25),
            "high": quantile(self.samples, 0.75),
            "p99": quantile(self.samples, 0.99),
            "worst": max(self.samples),
        }


@dataclass(frozen=True)
class Comparison:
    """Which figure is to be related to which: declared before there are samples of either.

    Parameters
    ----------
    goal
        What the ratio should not exceed (or, if higher is better, fall below), or None.
    limit
        A figure beside which nothing can be better: what is between it and ours is left to gain.
    ours
        Whether the first figure is of ours. A peer's ratio to a limit is shown, but never checked.
    to_a_limit
        Whether the second figure is a limit itself, which nobody reaches, and no peer that one can lose to.
    higher_is_better
        As of a rate; else less is better, as of seconds.
    """

    figure: Place
    of: Place
    goal: float | None = None
    limit: Place | None = None
    ours: bool = True
    to_a_limit: bool = False
    higher_is_better: bool = False

    def told(self) -> dict[str, Any]:
        """Return it as it stands in a record, without the values."""
        return {
            "group": self.figure[0],
            "name": self.figure[1],
            "of": within(self.figure[0], self.of),
            "of_place": list(self.of),
            "goal": self.goal,
            "limit": within(self.figure[0], self.limit) if self.limit else None,
            "limit_place": list(self.limit) if self.limit else None,
            "ours": self.ours,
            "to_a_limit": self.to_a_limit,
            "higher_is_better": self.higher_is_better,
        }


def within(group: str, place: Place) -> str:
    """Return what a figure is called among those of a group."""
    return place[1] if place[0] == group else f"{place[1]} ({place[0]})"


def quantile(samples: Sequence[float], part: float) -> float:
    """Return the sample below which such a part of all lies; the nearest one, none is made up."""
    return sorted(samples)[min(len(samples) - 1, max(0, math.ceil(part * len(samples)) - 1))]


def drawn_as_one(samples: Sequence[float], batches: Sequence[int]) -> Sequence[float]:
    """Return what can be drawn anew of a figure: of each batch its median, or the samples themselves.

    What was taken together, such as the requests of one turn, is alike, so that a hundred of it tell no more
    of the spread from turn to turn than one does. Where there are too few turns, the samples have to do.
    """
    if len(batches) < LEAST_SAMPLES or max(batches) == 1:
        return samples
    ends = accumulate(batches)
    return [statistics.median(samples[end - size : end]) for size, end in zip(batches, ends, strict=True)]


def ratio_of(ours: Sequence[float], others: Sequence[float], chance: random.Random) -> tuple[float, ...]:
    """Return the ratio of the medians, and the bounds between which resampling finds it nine times of ten.

    Raises
    ------
    ZeroDivisionError
        Where the others' median is zero.
    """
    value = statistics.median(ours) / statistics.median(others)
    mine, its = sorted(ours), sorted(others)
    drawn = [(resampled_median(mine, chance), resampled_median(its, chance)) for _ in range(_RESAMPLES)]
    found = [one / other for one, other in drawn if other] or [value]
    return value, quantile(found, 0.05), quantile(found, 0.95)


def resampled_median(ordered: Sequence[float], chance: random.Random) -> float:
    """Return the median of as many samples drawn anew from the same, in order of size.

    The samples themselves need not be drawn: the k-th in size of n draws from 0 to 1 is of the distribution
    Beta(k, n + 1 - k), and the next one lies above it as the least of the n - k that are left.
    """
    count = len(ordered)
    middle = (count + 1) // 2
    place = chance.betavariate(middle, count + 1 - middle)
    lower = ordered[min(count - 1, int(place * count))]
    if count % 2:
        return lower
    place += (1 - place) * chance.betavariate(1, count - middle)
    return (lower + ordered[min(count - 1, int(place * count))]) / 2


def with_ratios(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record whose declared ratios have their values, or the reason why one has none."""
    figures = {(one["group"], one["name"]): one for one in record.get("figures", ())}
    return {**record, "ratios": [_valued(one, figures) for one in record.get("ratios", ())]}


def _valued(declared: Mapping[str, Any], figures: Mapping[Place, Mapping[str, Any]]) -> dict[str, Any]:
    place, of = (declared["group"], declared["name"]), tuple(declared["of_place"])
    lack = [reason for one in (place, of) if (reason := _lack_of(one, figures.get(one)))]
    told = dict(declared)
    if lack:
        return {**told, "why": "; ".join(lack)}
    ours, others = figures[place], figures[of]
    if not others["median"]:
        return {**told, "why": f"{of[1]} is zero"}
    mine, its = (drawn_as_one(one["samples"], one.get("batches", ())) for one in (ours, others))
    value, (_, low, high) = ours["median"] / others["median"], ratio_of(mine, its, random.Random(0))
    low, high = min(low, value), max(high, value)
    told |= {"value": rounded(value), "low": rounded(low), "high": rounded(high)}
    told |= {"samples": min(len(mine), len(its))}
    if declared["limit_place"]:
        limit = figures.get(tuple(declared["limit_place"]))
        told["beside_limit"] = (
            rounded(ours["median"] / limit["median"]) if limit and limit.get("median") else None
        )
    return told


def _lack_of(place: Place, figure: Mapping[str, Any] | None) -> str:
    """Return why a figure has no samples, or nothing."""
    if figure is None:
        return f"{place[1]} was not measured"
    if figure["count"]:
        return ""
    failures = figure["failures"]
    return f"{place[1]} failed {len(failures)} times: {failures[-1]}" if failures else f"{place[1]} has none"


def missed(value: float, goal: float | None, higher_is_better: bool = False) -> bool:
    """Return whether there is a goal that is not met."""
    return goal is not None and (value < goal if higher_is_better else value > goal)


def rounded(value: Any) -> Any:
    """Return a number with four digits that count; anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def shown(value: float | None, unit: str) -> str:
    """Return a figure with its unit, seconds as is fit."""
    if value is None:
        return "–"
    if unit != "s":
        return f"{_digits(value, 4)} {unit}".strip()
    for factor, name in ((1, "s"), (1e3, "ms")):
        if abs(value * factor) >= 1:
            return f"{_digits(value * factor)} {name}"
    return f"{_digits(value * 1e6)} µs"


def _digits(value: float, count: int = 3) -> str:
    text = f"{value:.{count}g}"
    return f"{value:.0f}" if "e+" in text else text

"""What every bench shares: turns in random order, figures with their spread, ratios, goals, and the record.

A figure alone says more of the machine than of us, so that a bench measures a limit or a peer beside it, in
the same run and in turns with it, and says the ratio. Nothing is dropped: what fails is counted and shown
with its error, and outliers stay in the samples, which the record keeps as they are.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import json
import math
import os
import platform
import random
import re
import secrets
import signal
import sqlite3
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("hubfleet", "jupyterhub", "jupyter-server", "jupyterlab", "tornado", "pydantic", "distributed")
_RESAMPLES = 2000


@dataclass
class Figure:
    """The samples of one thing that is measured.

    Parameters
    ----------
    unit
        ``s`` (shown as is fit: seconds, milliseconds, microseconds), ``MiB``, ``1/s`` or empty.
    failures
        What was said when it could not be measured.
    """

    group: str
    name: str
    unit: str
    samples: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the median, the quartiles (the spread), the 99th percentile and the worst."""
        if not self.samples:
            return {}
        low, high = quantile(self.samples, 0.25), quantile(self.samples, 0.75)
        return {
            "median": statistics.median(self.samples),
            "low": low,
            "high": high,
            "p99": quantile(self.samples, 0.99),
            "worst": max(self.samples),
        }


def quantile(samples: Sequence[float], part: float) -> float:
    """Return the sample below which such a part of all lies; the nearest one, none is made up."""
    return sorted(samples)[min(len(samples) - 1, max(0, math.ceil(part * len(samples)) - 1))]


@dataclass(frozen=True)
class Ratio:
    """One median in relation to another, with the interval that holds nine of ten resampled ratios.

    Parameters
    ----------
    samples
        Of that of both which has fewer.
    goal
        What it should not exceed, or None.
    """

    group: str
    name: str
    of: str
    value: float
    low: float
    high: float
    samples: int
    goal: float | None = None


def ratio_of(ours: Sequence[float], others: Sequence[float], chance: random.Random) -> tuple[float, ...]:
    """Return the ratio of the medians, and the bounds between which resampling finds it nine times of ten."""
    of = statistics.median(others)
    found = sorted(
        statistics.median(chance.choices(ours, k=len(ours)))
        / statistics.median(chance.choices(others, k=len(others)))
        for _ in range(_RESAMPLES)
    )
    return statistics.median(ours) / of, quantile(found, 0.05), quantile(found, 0.95)


class Part:
    """What one bench measures in one run.

    Parameters
    ----------
    name
        Of the bench.
    method
        How it measures, in words.
    quick
        Whether this is the short run, whose figures are compared with those of short runs only.
    seed
        Of the order of the turns; shown, so that an order can be had again.
    """

    def __init__(self, name: str, method: str, quick: bool = False, seed: int | None = None) -> None:
        self.name, self.method, self.quick = name, " ".join(method.split()), quick
        self.seed = secrets.randbits(32) if seed is None else seed
        self.chance = random.Random(self.seed)
        self.figures: dict[tuple[str, str], Figure] = {}
        self.ratios: list[Ratio] = []
        self.limits: dict[tuple[str, str], float] = {}
        self._begun, self._load = time.monotonic(), os.getloadavg()[0]
        print(f"# {name}, seed {self.seed}, load {self._load:.1f}\n{self.method}\n", flush=True)

    # -- figures ----------------------------------------------------------------------

    def add(self, group: str, name: str, samples: float | Iterable[float], unit: str = "s") -> None:
        """Keep one or more samples."""
        figure = self._figure(group, name, unit)
        figure.samples.extend([samples] if isinstance(samples, int | float) else samples)

    def failed(self, group: str, name: str, error: BaseException | str, unit: str = "s") -> None:
        """Keep a failure: it counts, and is shown."""
        said = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._figure(group, name, unit).failures.append(said)
        print(f"{group}, {name}: FAILED: {said}", flush=True)

    def _figure(self, group: str, name: str, unit: str) -> Figure:
        return self.figures.setdefault((group, name), Figure(group, name, unit))

    async def in_turns(
        self,
        group: str,
        ways: Mapping[str, Callable[[], Awaitable[Mapping[str, float]]]],
        rounds: int,
        warm_up: int = 1,
    ) -> None:
        """Measure several ways of the same, a round of each in an order of chance, `rounds` times.

        Parameters
        ----------
        ways
            By their names; each returns the seconds by what they are of, such as ``wall`` and ``cpu``.
        warm_up
            So many rounds before, which are not kept.
        """
        for number in range(-warm_up, rounds):
            for name, way in self.shuffled(ways).items():
                try:
                    found = await way()
                except Exception as error:
                    self.failed(group, f"{name}, wall", error)
                    continue
                for what, value in found.items() if number >= 0 else ():
                    self.add(group, f"{name}, {what}", value)

    def shuffled(self, ways: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same in an order of chance."""
        return {name: ways[name] for name in self.chance.sample(list(ways), k=len(ways))}

    def goal(self, group: str, name: str, at_most: float) -> None:
        """Say what the median of a figure should not exceed."""
        self.limits[group, name] = at_most

    def ratio(self, group: str, name: str, of: str, goal: float | None = None) -> None:
        """Relate one figure to another of its group; where one could not be measured, there is none."""
        self.ratio_between((group, name), (group, of), goal)

    def ratio_between(
        self, ours: tuple[str, str], others: tuple[str, str], goal: float | None = None
    ) -> None:
        """Relate one figure to one of any group."""
        pair = self.figures.get(ours), self.figures.get(others)
        if any(figure is None or not figure.samples for figure in pair):
            print(f"{ours[0]}, {ours[1]}: no ratio to {others[1]}, of which one has no samples", flush=True)
            return
        assert pair[0] is not None
        assert pair[1] is not None
        value, low, high = ratio_of(pair[0].samples, pair[1].samples, random.Random(0))
        of = others[1] if others[0] == ours[0] else f"{others[1]} ({others[0]})"
        samples = min(len(figure.samples) for figure in pair if figure is not None)
        self.ratios.append(Ratio(ours[0], ours[1], of, value, low, high, samples, goal))

    # -- the record -------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """Return all of it, as it is written down."""
        return {
            "method": self.method,
            "quick": self.quick,
            "seed": self.seed,
            "seconds": round(time.monotonic() - self._begun, 1),
            "load": [round(self._load, 1), round(os.getloadavg()[0], 1)],
            "figures": [
                {
                    "group": figure.group,
                    "name": figure.name,
                    "unit": figure.unit,
                    **{name: rounded(value) for name, value in figure.summary().items()},
                    "goal": self.limits.get(place),
                    "count": len(figure.samples),
                    "samples": [rounded(value) for value in _thinned(figure.samples)],
                    "failures": figure.failures,
                }
                for place, figure in self.figures.items()
            ],
            "ratios": [
                {name: rounded(value) for name, value in vars(ratio).items()} for ratio in self.ratios
            ],
        }

    def end(self, into: Path | None) -> None:
        """Print the tables, and write the record into a results file, beside what others wrote."""
        record = self.record()
        print(tables(record), flush=True)
        if into is not None:
            found = json.loads(into.read_text()) if into.exists() else {"parts": {}}
            found["parts"][self.name] = record
            into.parent.mkdir(parents=True, exist_ok=True)
            into.write_text(text_of({**found, **about_the_run()}))


def text_of(results: Mapping[str, Any]) -> str:
    """Return a results file; a list of numbers is one line, so that two files can be compared by eye."""
    text = json.dumps(results, indent=1, ensure_ascii=False)
    return re.sub(r"\[[\s\d.,e+-]*\]", lambda found: " ".join(found[0].split()), text) + "\n"


def _thinned(samples: Sequence[float], most: int = 500) -> Sequence[float]:
    """Return the samples, or of very many every so manyth in order of size, with both ends."""
    if len(samples) <= most:
        return samples
    ordered = sorted(samples)
    return [ordered[round(place * (len(ordered) - 1) / (most - 1))] for place in range(most)]


def rounded(value: Any) -> Any:
    """Return a number with four digits that count; anything else as it is."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def about_the_run() -> dict[str, Any]:
    """Return when, on what and with which versions it was measured."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": {
            "processor": processor,
            "processors": len(os.sched_getaffinity(0)),
            "memory": f"{memory / (1 << 30):.0f} GiB",
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version, **versions},
    }


# -- as people read it -----------------------------------------------------------------


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


def tables(record: Mapping[str, Any]) -> str:
    """Return the figures and the ratios of a record as Markdown."""
    lines = ["| | median | middle half | p99 | worst | n | failed |", "|---|---|---|---|---|---|---|"]
    group = None
    for figure in record["figures"]:
        if figure["group"] != group:
            group = figure["group"]
            lines.append(f"| **{group}** | | | | | | |")
        unit = figure["unit"]
        cells = [shown(figure.get(name), unit) for name in ("median", "low", "high", "p99", "worst")]
        goal = figure["goal"]
        if goal is not None and "median" in figure:
            met = "met" if figure["median"] <= goal else "**missed**"
            cells[0] += f" (goal {shown(goal, unit)}: {met})"
        spread = f"{cells[1]} to {cells[2]}" if figure["count"] > 1 else ""
        failed = len(figure["failures"])
        said = "".join(figure["failures"][-1:])[:200].replace("|", "/").replace("\n", " ")
        lines.append(
            f"| {figure['name']} | {cells[0]} | {spread} | {cells[3]} | {cells[4]} | {figure['count']} | "
            f"{f'{failed}: {said}' if failed else 0} |"
        )
    if record["ratios"]:
        lines += ["", "| ratio | to | times | nine of ten between | goal |", "|---|---|---|---|---|"]
    for ratio in record["ratios"]:
        goal = ratio["goal"]
        verdict = "" if goal is None else f"≤ {goal:g}: {'met' if ratio['value'] <= goal else '**missed**'}"
        lines.append(
            f"| {ratio['group']}: {ratio['name']} | {ratio['of']} | {ratio['value']:.3g} | "
            f"{ratio['low']:.3g} to {ratio['high']:.3g} | {verdict} |"
        )
    return "\n".join(lines) + "\n"


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a bench; told to end, it still ends what it has started."""

    async def cancellable() -> None:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await main()

    asyncio.run(cancellable())


def arguments(document: str | None) -> argparse.ArgumentParser:
    """Return the parser of what every bench can be told."""
    parser = argparse.ArgumentParser(description=(document or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the short run, of the same kinds")
    parser.add_argument("--seed", type=int, help="of the order of the turns")
    parser.add_argument("--into", type=Path, help="the results file, which is added to")
    return parser


def method_of(document: str | None) -> str:
    """Return how a bench measures: what its docstring says from ``Method:`` on."""
    return (document or "").partition("Method: ")[2]

"""What the benches of growth share: a climb from size to size, its curves, and what ended it.

A climb does the same at growing sizes, every series (ours, a limit, a peer) in turns of an order of chance. A
size has a budget of time, and leaves the machine some memory; one that is beyond either, or breaks, is *not
reached*: the reason is kept, larger ones are not tried in that series, and nothing is dropped. Each curve is
fitted by a power (`fitting`), and says which exponent is fair: 0 for the cost of one, 1 for that of all.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import psutil
from figures import Figure, rounded, shown
from fitting import fitted
from measuring import Part, arguments

MIB = 1 << 20
SPARE_MIB = 1500.0  # of the machine's memory, which a climb does not touch
STEEP = 0.15  # an exponent that is by this worse than the fair one is marked; clocks alone make some of it
Step = Callable[[int], Awaitable[None]]


@dataclass
class Curve:
    """One thing that is measured at several sizes.

    Parameters
    ----------
    group
        The climb; its unit of size is the word that it begins with, as in ``servers on one hub``.
    series
        Whose: ours, or a limit's or a peer's.
    fair
        The exponent that nobody could blame.
    """

    group: str
    name: str
    series: str
    unit: str
    fair: float
    figures: dict[int, Figure] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """Return the points, in order of size, and the fit."""
        points = [
            {
                "size": size,
                **{name: rounded(value) for name, value in figure.summary().items()},
                "samples": [rounded(value) for value in figure.samples],
            }
            for size, figure in sorted(self.figures.items())
        ]
        fit = fitted({point["size"]: point["median"] for point in points})
        return {
            "group": self.group,
            "name": self.name,
            "series": self.series,
            "unit": self.unit,
            "fair": self.fair,
            "points": points,
            "fit": fit and {name: rounded(value) for name, value in vars(fit).items()},
        }


@dataclass
class Reached:
    """How far a series came.

    Parameters
    ----------
    largest
        The largest size that worked; 0 if none did.
    asked
        All sizes that were to be tried.
    gave
        What gave first; empty if every size was reached.
    """

    group: str
    series: str
    largest: int
    asked: list[int]
    gave: str = ""


class Growth(Part):
    """What one bench of growth measures in one run: besides figures, curves."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self.curves: dict[tuple[str, str, str], Curve] = {}
        self.reached: dict[tuple[str, str], Reached] = {}
        self.lines: list[dict[str, Any]] = []
        self.compared: list[tuple[str, str, str, str, dict[str, Any]]] = []
        self.progress = ""
        super().__init__(*given, **named)  # which keeps a first record

    def grew(
        self,
        place: tuple[str, str, str],
        size: int,
        samples: float | Iterable[float],
        unit: str = "s",
        fair: float = 0.0,
    ) -> None:
        """Keep one or more samples of a curve; `place` is its group, name and series."""
        curve = self.curves.setdefault(place, Curve(*place, unit, fair))
        figure = curve.figures.setdefault(size, Figure(place[0], place[1], unit))
        figure.add([samples] if isinstance(samples, int | float) else list(samples))

    def line(self, group: str, name: str, limit: str, samples: Iterable[float], unit: str = "s") -> None:
        """Keep a limit that does not depend on the size, to be drawn beside the curves of that name."""
        found = list(samples)
        self.add(f"{group}: limits", limit, found, unit)
        self.lines.append(
            {"group": group, "name": name, "limit": limit, "median": rounded(statistics.median(found))}
        )

    async def climb(
        self, group: str, ways: Mapping[str, Step], sizes: Sequence[int], seconds: float = math.inf
    ) -> None:
        """Do the same at growing sizes, each series until a size is not reached.

        Parameters
        ----------
        ways
            What is done at a size, by series; it keeps its own samples, and may tell its `progress`.
        seconds
            The budget of one size in one series. It is never more than what is left to the script.
        """
        for series in ways:
            self.reached[group, series] = Reached(group, series, 0, list(sizes))
        for size in sizes:
            for series, way in self.shuffled(ways).items():
                reached = self.reached[group, series]
                if reached.gave:
                    continue
                print(f"{group}: {series}, {size:,}", flush=True)
                turn = self._turn(group, f"{series}, {size:,}", 0)
                reached.gave = await self._tried(way, size, min(seconds, self.seconds_to_spare))
                turn()
                if reached.gave:
                    self.cut(f"{group}: {series}, {reached.gave}; larger sizes were not tried")
                else:
                    reached.largest = size
                self.keep()

    async def _tried(self, way: Step, size: int, seconds: float) -> str:
        """Return why a size was not reached, or nothing."""
        if seconds <= 0:
            return f"{size:,}: no time was left for it"
        self.progress = ""
        try:
            async with asyncio.timeout(seconds if seconds < math.inf else None) as limit, _memory_watched():
                await way(size)
        except Exception as error:  # whatever gives first is what a climb is to find
            said = f"{type(error).__name__}: {error}".strip(": ")
            if limit.expired():
                said = f"not done within {seconds:.3g} s"
            return f"{size:,}: {said}{f' ({self.progress})' if self.progress else ''}"
        return ""

    def compare(self, group: str, name: str, ours: str, others: str, **marks: Any) -> None:
        """Relate two series of a curve at the largest size that both reached, as `Part.ratio` does.

        It is declared before anything is measured, and worked out whenever the record is kept.
        """
        self.compared.append((group, name, ours, others, marks))

    def _relate(self) -> None:
        for group, name, ours, others, marks in self.compared:
            found = [self.curves.get((group, name, series)) for series in (ours, others)]
            curves = [curve for curve in found if curve is not None]
            sizes = set.intersection(*(set(curve.figures) for curve in curves)) if len(curves) == 2 else set()
            where = f"{group}, {max(sizes):,}" if sizes else group
            for curve in curves if sizes else ():
                place = (where, f"{name}: {curve.series}")
                self.figures[place] = replace(curve.figures[max(sizes)], group=place[0], name=place[1])
            self.ratio(where, f"{name}: {ours}", f"{name}: {others}", **marks)

    def record(self, done: bool = False) -> dict[str, Any]:
        """Return all of it, as it is written down."""
        figures, comparisons = self.figures.copy(), self.comparisons.copy()
        self._relate()
        record = super().record(done)
        self.figures, self.comparisons = figures, comparisons
        return {
            **record,
            "curves": [curve.record() for curve in self.curves.values()],
            "reached": [vars(one) for one in self.reached.values()],
            "lines": self.lines,
        }

    def shown(self) -> str:
        """Return what people read of it."""
        return f"{super().shown()}\n{curve_tables(self.record())}"


def growth_of(
    name: str, document: str | None, quick: Sequence[int], full: Sequence[int]
) -> tuple[Growth, list[int]]:
    """Return the part of a script, and the sizes that its command line names, or those of its run."""
    parser = arguments(document)
    parser.add_argument("sizes", type=int, nargs="*", help=f"instead of {', '.join(map(str, full))}")
    given = parser.parse_args()
    return Growth.of(name, document, given), sorted(given.sizes or (quick if given.quick else full))


@contextlib.asynccontextmanager
async def _memory_watched() -> AsyncIterator[None]:
    """Break off what is done within, when the machine is about to run out of memory.

    Raises
    ------
    MemoryError
        Less is left than should be.
    """
    doing = asyncio.current_task()
    assert doing is not None
    short: list[float] = []

    async def watch() -> None:
        while not short:
            if (left := psutil.virtual_memory().available / MIB) < SPARE_MIB:
                short.append(left)
                doing.cancel()
            await asyncio.sleep(0.2)

    watching = asyncio.create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if not short:
            raise
        doing.uncancel()
        raise MemoryError(
            f"{short[0]:.0f} MiB of the machine's memory were left, and {SPARE_MIB:.0f} should be"
        ) from None
    finally:
        watching.cancel()


# -- as people read it -----------------------------------------------------------------


def curve_tables(record: Mapping[str, Any]) -> str:
    """Return the curves of a record as Markdown: a table for each climb, and how far each series came."""
    lines: list[str] = []
    for group in dict.fromkeys(one["group"] for one in record.get("reached", ())):
        curves = [curve for curve in record["curves"] if curve["group"] == group]
        sizes = sorted({point["size"] for curve in curves for point in curve["points"]})
        head = ["", *(f"{size:,}" for size in sizes), "grows as", "at the end", "fair"]
        lines += [f"**{group}**", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        names = list(dict.fromkeys(curve["name"] for curve in curves))
        for curve in sorted(curves, key=lambda one: (names.index(one["name"]), one["series"])):
            medians = {point["size"]: point["median"] for point in curve["points"]}
            cells = [shown(medians.get(size), curve["unit"]) for size in sizes]
            name = f"{curve['name']}: {curve['series']}"
            lines.append(f"| {' | '.join([name, *cells, *_growth(curve)])} |")
        lines += ["", *map(reached_line, (one for one in record["reached"] if one["group"] == group)), ""]
    return "\n".join(lines)


def _growth(curve: Mapping[str, Any]) -> list[str]:
    """Return the cells that say how a curve grows."""
    fit, fair = curve["fit"], curve["fair"]
    if fit is None:
        return ["–", "–", f"n^{fair:g}"]
    last = f"n^{fit['last']:.2f}"
    worse = fair - fit["last"] if curve["unit"] == "1/s" else fit["last"] - fair
    return [f"n^{fit['exponent']:.2f}", f"**{last}**" if worse > STEEP else last, f"n^{fair:g}"]


def reached_line(reached: Mapping[str, Any]) -> str:
    """Return in one line how far a series came, and what gave first."""
    largest, most = reached["largest"], max(reached["asked"])
    if not reached["gave"]:
        return f"- {reached['series']}: {most:,} were reached, the most that was asked for; nothing gave."
    said = reached["gave"].replace("|", "/").replace("\n", " ")[:300]
    return f"- {reached['series']}: {largest:,} were reached of {most:,}; what gave first, at {said}."

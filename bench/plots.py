"""Draws the curves of a results file on log axes, as PNG and SVG: ``python bench/plots.py RESULTS [FOLDER]``.

Needs matplotlib, which is in the benches' environment. Series differ by marker, line and shade of grey, so
that a picture can be read in print and by people who see few colours. The same figures give the same files,
byte by byte, so that a picture in the repository changes only with what it shows.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from figures import shown

mpl.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

LOOKS = (("o", "-", "0.0"), ("s", "--", "0.4"), ("^", "-.", "0.2"), ("D", ":", "0.55"), ("v", "-", "0.6"))
COLUMNS = 3
STYLE = {
    "svg.hashsalt": "hubfleet",  # else each SVG has identifiers of chance
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that all machines draw alike
    "font.size": 8,
    "axes.grid": True,
    "grid.color": "0.88",
    "axes.axisbelow": True,
    "errorbar.capsize": 2,
    "figure.dpi": 100,
    "savefig.dpi": 110,
}
NO_DATES: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
}


def draw_all(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw each climb of each part of some results into a folder; return the files."""
    drawn: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in results["parts"].items():
        for reached in part.get("reached", ()):
            path = folder / f"{name}-{slug(reached['group'])}"
            if path.with_suffix(".svg") not in drawn:
                drawn += draw(part, reached["group"], path)
    return drawn


def slug(text: str) -> str:
    """Return a text as a part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def draw(part: Mapping[str, Any], group: str, path: Path) -> list[Path]:
    """Draw one climb, a panel for each thing that was measured; return the two files."""
    curves = [curve for curve in part["curves"] if curve["group"] == group and curve["points"]]
    names = list(dict.fromkeys(curve["name"] for curve in curves))
    # Ours first, whatever had the first turn, so that it looks alike in all pictures.
    series = sorted({curve["series"] for curve in curves}, key=lambda one: (not one.startswith("ours"), one))
    looks = dict(zip(series, LOOKS, strict=False))
    rows = math.ceil(len(names) / COLUMNS)
    with mpl.rc_context(STYLE):
        figure, panels = pyplot.subplots(
            rows, COLUMNS, figsize=(10, 2.7 * rows + 0.4), squeeze=False, layout="constrained"
        )
        places: list[Axes] = list(panels.flat)
        for panel in places[len(names) :]:
            panel.remove()
        for panel, name in zip(places, names, strict=False):
            lines = [line for line in part["lines"] if (line["group"], line["name"]) == (group, name)]
            _panel(panel, name, [curve for curve in curves if curve["name"] == name], lines, looks)
        figure.suptitle(group, fontsize=10)
        return saved(figure, path)


def saved(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG, and close it; return the two files."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # it is laid out now, and need not be again for each file
    files = [path.with_suffix(f".{kind}") for kind in NO_DATES]
    for file in files:
        figure.savefig(file, metadata=NO_DATES[file.suffix[1:]])
    pyplot.close(figure)
    return files


def _panel(
    panel: Axes,
    name: str,
    curves: Sequence[Mapping[str, Any]],
    lines: Sequence[Mapping[str, Any]],
    looks: Mapping[str, tuple[str, str, str]],
) -> None:
    """Draw the curves of one name, what fits them, and the limits beside them."""
    unit = curves[0]["unit"]
    for curve in sorted(curves, key=lambda curve: list(looks).index(curve["series"])):
        marker, dashes, grey = looks[curve["series"]]
        points = [point for point in curve["points"] if point["median"] > 0]
        medians = [point["median"] for point in points]
        spread = [
            [middle - max(point["low"], middle / 1e3) for point, middle in zip(points, medians, strict=True)],
            [point["high"] - middle for point, middle in zip(points, medians, strict=True)],
        ]
        fit = curve["fit"]
        label = curve["series"]
        if fit:
            label += f"  n^{fit['exponent']:.2f}, at the end n^{fit['last']:.2f}"
        sizes = [point["size"] for point in points]
        look = {"marker": marker, "linestyle": dashes, "color": grey}
        panel.errorbar(sizes, medians, yerr=spread, **look, markersize=4, label=label)
        if fit:
            ends = [sizes[0], sizes[-1]]
            fits = [fit["factor"] * size ** fit["exponent"] for size in ends]
            panel.plot(ends, fits, color=grey, linewidth=0.5)
    for line in lines:
        label = f"limit: {line['limit']}, {shown(line['median'], unit)}"
        panel.axhline(line["median"], color="0.3", linestyle=(0, (1, 3)), linewidth=1.2, label=label)
    panel.set(xscale="log", yscale="log", title=name)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda size, _: f"{size:,.0f}"))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value, unit)))
    low, high = panel.get_ylim()
    if high < 30 * low:  # not many powers of ten are in sight
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if high < 4 * low:
        middle = math.sqrt(low * high)
        panel.set_ylim(middle / 3, middle * 3)  # else noise looks like growth
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.legend(fontsize=6, framealpha=0.8)


if __name__ == "__main__":
    given = Path(sys.argv[1])
    into = Path(sys.argv[2]) if len(sys.argv) > 2 else given.with_suffix("")
    for file in draw_all(json.loads(given.read_text()), into):
        print(file)

"""Draws how we stand beside peers and beside limits: each ratio as a dot with its interval, on a log axis.

Needs matplotlib, as plots.py does, whose style it shares: greys and shapes tell what there is to tell, and
the same figures give the same files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter
from pictures import rows_of
from plots import STYLE, mpl, saved

KINDS = {"beside-peers": False, "beside-limits": True}
INCHES_A_ROW = 0.27


def draw_ratios(results: Mapping[str, Any], folder: Path) -> list[Path]:
    """Draw the ratios of ours, those to peers and those to limits, into a folder; return the files."""
    drawn: list[Path] = []
    folder.mkdir(parents=True, exist_ok=True)
    for name, to_a_limit in KINDS.items():
        if rows := rows_of(results, to_a_limit):
            drawn += _draw(rows, name, folder / name)
    return drawn


def _draw(rows: Sequence[tuple[str, Mapping[str, Any]]], name: str, path: Path) -> list[Path]:
    with mpl.rc_context(STYLE):
        height = INCHES_A_ROW * len(rows) + 1.2
        figure, panel = pyplot.subplots(figsize=(10, height), layout="constrained")
        for place, (_, ratio) in enumerate(rows):
            _dot(panel, place, ratio)
        panel.axvline(1, color="0", linewidth=1)
        panel.set(xscale="log", xlabel=f"times that of the other ({name.replace('-', ' ')})")
        panel.set_yticks(range(len(rows)), [_short(label) for label, _ in rows], fontsize=7)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        figure.legend(handles=_legend(), loc="outside upper center", ncols=4, fontsize=7)
        return saved(figure, path)


def _dot(panel: Axes, place: int, ratio: Mapping[str, Any]) -> None:
    """Draw one: filled where we are better, hollow where the other is."""
    value = ratio["value"]
    better = value > 1 if ratio["higher_is_better"] else value < 1
    panel.plot([max(ratio["low"], value / 1e4), ratio["high"]], [place, place], color="0.5", linewidth=2)
    panel.plot(
        [value],
        [place],
        linestyle="none",
        marker="^" if ratio["higher_is_better"] else "o",
        color="0",
        markerfacecolor="0" if better else "1",
        markersize=6,
    )
    if ratio["goal"] is not None:
        panel.plot([ratio["goal"]], [place], linestyle="none", marker="|", color="0", markersize=12)


def _legend() -> list[Line2D]:
    """Return what the shapes mean."""
    looks = {
        "better than the other": {"marker": "o", "markerfacecolor": "0", "linestyle": "none"},
        "worse": {"marker": "o", "markerfacecolor": "1", "linestyle": "none"},
        "more is better": {"marker": "^", "markerfacecolor": "1", "linestyle": "none"},
        "the goal": {"marker": "|", "markersize": 10, "linestyle": "none"},
    }
    lines = [Line2D([], [], color="0", label=label, **look) for label, look in looks.items()]
    lines.append(Line2D([], [], color="0.5", linewidth=2, label="nine of ten between"))
    return lines


def _short(label: str, most: int = 110) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"

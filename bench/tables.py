"""A record as people read it: Markdown of its figures, and of its ratios with what they should be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from figures import LEAST_SAMPLES, missed, shown

MISSED = "**missed**"


def tables(record: Mapping[str, Any]) -> str:
    """Return the figures, the ratios, and what was not measured, of a record `with_ratios`."""
    blocks = [figure_table(record), ratio_table(record), cut_list(record)]
    return "\n".join(block for block in blocks if block)


def figure_table(record: Mapping[str, Any]) -> str:
    """Return the medians with their spread; the middle half lies between the quartiles."""
    lines = ["| | median | middle half | p99 | worst | n | failed |", "|---|---|---|---|---|---|---|"]
    group = None
    for figure in record["figures"]:
        if figure["group"] != group:
            group = figure["group"]
            lines.append(f"| **{cell(group)}** | | | | | | |")
        unit = figure["unit"]
        cells = [shown(figure.get(name), unit) for name in ("median", "low", "high", "p99", "worst")]
        if figure["goal"] and "median" in figure:
            cells[0] += f" ({goal_told(figure)})"
        spread = f"{cells[1]} to {cells[2]}" if figure["count"] > 1 else ""
        failed = len(figure["failures"])
        told = f"{failed}: {cell(figure['failures'][-1])}" if failed else "0"
        row = [cell(figure["name"]), cells[0], spread, *cells[3:], str(figure["count"]), told]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n" if record["figures"] else ""


def goal_told(figure: Mapping[str, Any]) -> str:
    """Return the goal of a figure, and whether it is met."""
    how, bound = next(iter(figure["goal"].items()))
    verdict = MISSED if goal_missed(figure) else "met"
    return f"goal {'≤' if how == 'at_most' else '≥'} {shown(bound, figure['unit'])}: {verdict}"


def goal_missed(figure: Mapping[str, Any]) -> bool:
    """Return whether a figure has a goal and misses it."""
    return "median" in figure and any(
        missed(figure["median"], bound, how == "at_least") for how, bound in (figure["goal"] or {}).items()
    )


def ratio_missed(ratio: Mapping[str, Any]) -> bool:
    """Return whether a ratio has a goal and misses it."""
    return "value" in ratio and missed(ratio["value"], ratio["goal"], ratio["higher_is_better"])


def ratio_table(record: Mapping[str, Any]) -> str:
    """Return each ratio with its interval, its goal, and its limit beside it."""
    if not record["ratios"]:
        return ""
    medians = {
        (one["group"], one["name"]): shown(one.get("median"), one["unit"]) for one in record["figures"]
    }
    head = ["", "median", "beside", "median", "ratio", "nine of ten between", "goal", "beside its limit"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    group = None
    for ratio in record["ratios"]:
        if ratio["group"] != group:
            group = ratio["group"]
            lines.append(f"| **{cell(group)}** |" + " |" * (len(head) - 1))
        mine = medians.get((ratio["group"], ratio["name"]), "–")
        its = medians.get(tuple(ratio["of_place"]), "–")
        row = [cell(ratio["name"]), mine, cell(ratio["of"]), its, *_ratio_cells(ratio)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def _ratio_cells(ratio: Mapping[str, Any]) -> Iterator[str]:
    if "value" not in ratio:
        yield from ("–", cell(ratio["why"]), goal_of_ratio(ratio), "")
        return
    yield f"{ratio['value']:.3g}"
    yield spread_told(ratio)
    goal = goal_of_ratio(ratio)
    yield f"{goal}: {MISSED if ratio_missed(ratio) else 'met'}" if goal else ""
    above = ratio.get("beside_limit")
    yield f"{above:.3g} × {cell(ratio['limit'])}" if above is not None else ""


def spread_told(ratio: Mapping[str, Any]) -> str:
    """Return between which bounds a ratio lies nine times of ten, if there are samples enough to tell."""
    if ratio["samples"] < LEAST_SAMPLES:
        return f"{ratio['samples']} tell none"
    return f"{ratio['low']:.3g} to {ratio['high']:.3g}"


def goal_of_ratio(ratio: Mapping[str, Any]) -> str:
    """Return what a ratio should be, or nothing."""
    if ratio["goal"] is None:
        return ""
    return f"{'≥' if ratio['higher_is_better'] else '≤'} {ratio['goal']:g}"


def cut_list(record: Mapping[str, Any]) -> str:
    """Return what was not measured, and why."""
    return "".join(f"- Not measured: {cell(sentence, 500)}.\n" for sentence in record["cuts"])


def cell(text: str, most: int = 200) -> str:
    """Return a text as it can stand in a table or list, as long as people read there."""
    flat = " ".join(text.split()).replace("|", "/").replace("<", "&lt;")
    return flat if len(flat) <= most else flat[: most - 1] + "…"

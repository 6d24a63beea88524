"""Writes the figures of the newest results into docs/performance.md, below what people have written there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from measuring import RESULTS, shown, tables

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
MARK = "<!-- What follows is written by bench/page.py from the newest results. -->"


def newest(quick: bool) -> Path | None:
    """Return the newest results file of long or of short runs."""
    found = sorted(path for path in RESULTS.glob("*.json") if path.stem.endswith("-quick") == quick)
    return found[-1] if found else None


def write_page() -> Path:
    """Write the newest figures into the page: those of a long run, and of a short one what it lacks."""
    parts: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {}
    for path in (newest(quick=True), newest(quick=False)):
        if path is not None:
            run = json.loads(path.read_text())
            parts |= {name: (path.name, run, part) for name, part in run["parts"].items()}
    written, _, _ = PAGE.read_text().partition(MARK)
    PAGE.write_text("\n".join([written + MARK, "", *_losses(parts), *_parts(parts)]))
    return PAGE


Parts = Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]]


def _losses(parts: Parts) -> Iterator[str]:
    yield "## Where we miss our goals"
    yield ""
    missed = []
    for name, (_, _, part) in parts.items():
        if "failed" in part:
            missed.append(f"- {name}: not measured: {part['failed']}")
            continue
        for figure in part["figures"]:
            if figure["goal"] is not None and figure.get("median", 0) > figure["goal"]:
                unit = figure["unit"]
                missed.append(
                    f"- {figure['group']}: {figure['name']} is {shown(figure['median'], unit)}, "
                    f"the goal is {shown(figure['goal'], unit)}"
                )
            if figure["failures"]:
                missed.append(
                    f"- {figure['group']}: {figure['name']} failed {len(figure['failures'])} times "
                    f"of {len(figure['failures']) + figure['count']}"
                )
        for ratio in part["ratios"]:
            if ratio["goal"] is not None and ratio["value"] > ratio["goal"]:
                missed.append(
                    f"- {ratio['group']}: {ratio['name']} is {ratio['value']:.3g} times {ratio['of']}, "
                    f"the goal is {ratio['goal']:g}"
                )
    yield from missed or ["Nowhere, in these runs."]
    yield ""


def _parts(parts: Parts) -> Iterator[str]:
    for name, (file, run, part) in parts.items():
        yield f"## `bench/{name}.py`"
        yield ""
        if "failed" in part:
            yield f"Failed: {part['failed']}."
            yield ""
            continue
        machine, versions = run["machine"], run["versions"]
        yield (
            f"{run['date']}, {'short' if part['quick'] else 'long'} run of {part['seconds']:.0f} s "
            f"(`bench/results/{file}`, seed {part['seed']}), on {machine['processors']} processors "
            f"({machine['processor']}), {machine['memory']}, {machine['system']}, "
            f"with a load of {part['load'][0]} at the start and {part['load'][1]} at the end; "
            + ", ".join(f"{package} {version}" for package, version in versions.items())
            + "."
        )
        yield ""
        yield part["method"]
        yield ""
        yield tables(part)


if __name__ == "__main__":
    print(write_page())

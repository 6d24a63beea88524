"""Shows the newest run in docs/performance.md, below what people have written there."""

from __future__ import annotations

import json
from pathlib import Path

from report import report

RESULTS = Path(__file__).with_name("results")
PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
MARK = "<!-- What follows is written by bench/page.py from the newest results. -->"


def newest(quick: bool) -> Path | None:
    """Return the newest results file of long or of short runs."""
    found = sorted(path for path in RESULTS.glob("*.json") if path.stem.endswith("-quick") == quick)
    return found[-1] if found else None


def write_page() -> Path:
    """Write the newest long run into the page; as long as there is none, the newest short one."""
    path = newest(quick=False) or newest(quick=True)
    written, _, _ = PAGE.read_text().partition(MARK)
    shown = "There are no results yet.\n"
    if path is not None:
        shown = report(json.loads(path.read_text()), path.stem, "../bench/results/")
    PAGE.write_text(f"{written}{MARK}\n\n{shown}")
    return PAGE


if __name__ == "__main__":
    print(write_page())

"""Which pictures a run has. They are drawn by matplotlib, which only the bench's environment has."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import with_ratios

DRAWING = (("plots_of_ratios", "draw_ratios"), ("plots", "draw_all"))


def drawn(results: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Draw what there is to see of a run into a folder; return the names, and why some are lacking.

    Each is a PNG and an SVG of that name. What was in the folder of an earlier run is replaced.
    """
    shutil.rmtree(folder, ignore_errors=True)
    names: list[str] = []
    lacking = ""
    for module, function in DRAWING:
        try:
            files = getattr(importlib.import_module(module), function)(results, folder)
        except Exception as error:  # the figures are there all the same
            lacking = f"{type(error).__name__}: {error}"
            print(f"NOT DRAWN: {lacking}", flush=True)
            continue
        names += dict.fromkeys(path.stem for path in files)
    return {"drawn": names, "lacking": lacking}


def rows_of(results: Mapping[str, Any], to_a_limit: bool) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the ratios of ours that have a value, with their labels, in the page's order."""
    return [
        (f"{ratio['group']}: {ratio['name']} / {ratio['of']}", ratio)
        for part in results["parts"].values()
        for ratio in with_ratios(part)["ratios"]
        if ratio["ours"] and ratio["to_a_limit"] == to_a_limit and ratio.get("value", 0) > 0
    ]

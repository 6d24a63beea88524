"""Compares the ratios of a short run with those of the committed one. Run by ``make bench-check``.

A ratio of ours to a limit or to a peer, both measured in one run, says what a machine's speed does not. It is
worse if it is more than 25 % above the committed one *and* beyond the spread of both: the intervals that hold
nine of ten resampled ratios do not meet. Where too few samples tell no spread, nothing can be said; those are
counted. Failures that the committed run has not are worse, too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from page import newest
from run import BENCHES, run_all

MOST = 1.25
LEAST_SAMPLES = 3


def by_name(part: Mapping[str, Any]) -> dict[tuple[str, str, str], Mapping[str, Any]]:
    """Return the ratios of a part by what they relate."""
    return {(ratio["group"], ratio["name"], ratio["of"]): ratio for ratio in part.get("ratios", ())}


def failures(part: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """Return how often each figure of a part could not be measured."""
    return {(one["group"], one["name"]): len(one["failures"]) for one in part.get("figures", ())}


def worse(now: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[str]:
    """Yield what got worse, by the parts of two runs."""
    for name, part in now.items():
        before = then.get(name)
        if before is None or "failed" in before:
            continue
        if "failed" in part:
            yield f"{name}: {part['failed']}"
            continue
        known = by_name(before)
        for key, ratio in by_name(part).items():
            was = known.get(key)
            if was is None or min(ratio["samples"], was["samples"]) < LEAST_SAMPLES:
                continue
            if ratio["value"] > MOST * was["value"] and ratio["low"] > was["high"]:
                yield (
                    f"{name}, {key[0]}: {key[1]} is {ratio['value']:.3g} times {key[2]} "
                    f"({ratio['low']:.3g} to {ratio['high']:.3g}), and was {was['value']:.3g} "
                    f"({was['low']:.3g} to {was['high']:.3g})"
                )
        failed = failures(before)
        for place, count in failures(part).items():
            if count and not failed.get(place):
                yield f"{name}, {place[0]}: {place[1]} failed {count} times, and did not before"


def main() -> None:
    """Run the short benches, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, help="compare these, instead of running anew")
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"of {', '.join(BENCHES)}; or all")
    given = parser.parse_args()
    committed = newest(quick=True)
    if committed is None:
        sys.exit("there are no committed results of a short run; `make bench-quick` makes them")
    with tempfile.TemporaryDirectory() as folder:
        results = given.results or Path(folder) / "now.json"
        if given.results is None:
            run_all(given.benches or BENCHES, results, quick=True)
        now, then = (json.loads(path.read_text())["parts"] for path in (results, committed))
    found = list(worse(now, then))
    all_of = [ratio for part in now.values() for ratio in part.get("ratios", ())]
    compared = sum(ratio["samples"] >= LEAST_SAMPLES for ratio in all_of)
    print(
        f"{compared} of {len(all_of)} ratios have samples enough to be compared with {committed.name}; "
        f"{len(found)} findings."
    )
    if found:
        sys.exit("Worse than before:\n" + "\n".join(f"- {one}" for one in found))


if __name__ == "__main__":
    main()

"""Whether a ratio of ours got worse than in the committed short run. Run by ``make bench-check``.

A ratio to a limit or to a peer, both measured in one run, says what a machine's speed does not. What is
worse, and when nothing can be said, is in judging.py. Two runs differ by more than the samples of one tell:
a process of the same program may be slower for all its life. So what is worse is measured once more, and
counts if it is worse again. On a machine that others use as well any ratio may be worse by itself, so that
nothing is said there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import with_ratios
from judging import Judgement, judged, named
from page import newest
from run import BENCHES, NOT_RUN, OF_THE_BENCH, Run

BUSY = 0.3
"""Part of the processors which, in the hands of others, makes a comparison worth nothing.

On a quiet machine it is up to 0.17: what a script starts and leaves to itself does not count as the bench's.
"""
SAYS_NOTHING = 2


def main() -> None:
    """Run the short benches, and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--results",
        type=Path,
        action="append",
        default=[],
        help="compare these, instead of running anew; a second time, those of the look at what is worse",
    )
    parser.add_argument("--patience", type=float, default=1.0, help="times the seconds of each script")
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"of {', '.join(BENCHES)}; or all")
    given = parser.parse_args()
    committed = newest(quick=True)
    if committed is None:
        sys.exit("there are no committed results of a short run; `make bench-quick` makes them")
    known = parts(committed)
    first, *later = given.results or [measured(given.benches, given.patience)]
    found, looks = compared(first, known), [first]
    once: list[str] = []
    if found.worse and others_had(first) <= BUSY and (later or not given.results):
        again = later[0] if later else measured(sorted({where[0] for where in found.worse}), given.patience)
        looks.append(again)
        once = looked_again(found, compared(again, known))
    busy = max(map(others_had, looks)) > BUSY
    worse = [f"{named(where)} is {told}" for where, told in found.worse.items()] + found.failing
    for title, sentences in (
        ("Not compared", found.untold),
        ("Better than before", [f"{named(where)} is {told}" for where, told in found.better.items()]),
        ("Worse at first, and not when looked at again", once),
        ("Worse than before, on a busy machine" if busy else "Worse than before", worse),
    ):
        if sentences:
            print("\n".join([f"{title}:", *(f"- {one}" for one in sentences), ""]))
    print(
        f"{' and '.join(map(str, looks))} beside {committed}: {len(found.compared)} ratios of ours compared, "
        f"{len(worse)} worse, {len(found.better)} better, {len(found.untold)} things that cannot be compared."
    )
    for look in looks:
        print(whose_time(look))
    if worse or not found.compared:
        if busy:
            print("The machine was busy, so that this says nothing: run it again when nobody else needs it.")
        sys.exit(SAYS_NOTHING if busy else 1)


def measured(benches: Sequence[str], patience: float) -> Path:
    """Run these scripts, or all; return where their results are."""
    run = Run(benches, quick=True, patience=patience)
    run.all()
    path = run.keep()
    if run.interrupted:
        sys.exit(f"The bench was interrupted, and nothing compared. What it had measured is in {path}.")
    return path


def compared(results: Path, known: Mapping[str, Any]) -> Judgement:
    """Return how a run is beside what is known, and what broke in it."""
    found = judged(parts(results), known)
    found.failing.extend(without_figures(results))
    return found


def looked_again(found: Judgement, again: Judgement) -> list[str]:
    """Keep as worse only what is so twice, or was not seen again; return the others, in words."""
    once = []
    for where, told in list(found.worse.items()):
        if where in again.worse:
            found.worse[where] = f"{told}; looked at again, it is {again.worse[where]}"
        elif where in again.compared:
            once.append(f"{named(where)} is {told}")
            del found.worse[where]
    found.failing.extend(again.failing)
    return once


def parts(path: Path) -> Mapping[str, Any]:
    """Return the records in a results file."""
    found = json.loads(path.read_text())
    if "benches" not in found:
        sys.exit(
            f"{path} is of an older bench, and cannot be compared with; `make bench-quick` makes a new one"
        )
    return {name: with_ratios(part) for name, part in found["parts"].items()}


def whose_time(path: Path) -> str:
    """Return who had the processors, as ratios of seconds by the wall are no good where others had many."""
    used = json.loads(path.read_text()).get("processor seconds", {})
    told = ", ".join(f"{seconds:.0f} s {whose}" for whose, seconds in used.items())
    return f"Of the processors' time meanwhile: {told}. On a busy machine look at processor times alone."


def others_had(path: Path) -> float:
    """Return the part of all processors that others had during a run, the machine's host among them."""
    told = json.loads(path.read_text())
    if "processor seconds" not in told:
        return 0.0
    others = sum(seconds for whose, seconds in told["processor seconds"].items() if whose != OF_THE_BENCH)
    return float(others / (told["machine"]["processors"] * max(told["seconds"], 1e-9)))


def without_figures(path: Path) -> Iterator[str]:
    """Yield which scripts of a results file were run and broke before they had anything to keep."""
    told = json.loads(path.read_text())
    for name, one in told["benches"].items():
        if name not in told["parts"] and one["ended"] != NOT_RUN:
            yield f"{name}: {one['ended']}"


if __name__ == "__main__":
    main()

"""Runs all scripts of the bench, one after the other, into one results file. Run by ``make bench``.

Each script is a process of its own with seconds to be done in; how they end, and what they leave, is in
guarding.py. One that fails, or has no time left, is shown as such with the figures that it has, and the
others go on. A run that is interrupted keeps what there is, too. ``--quick`` takes the short sizes.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from guarding import Outcome, adopt_orphans, guarded, remove_abandoned
from machine import about_the_machine, busy_seconds, load, versions
from measuring import PATIENCE, write
from page import RESULTS, write_page
from pictures import drawn
from report import report

HERE = Path(__file__).parent
UNFINISHED = HERE.parent / "build" / "bench"


class Seconds(NamedTuple):
    """How long a script may take on two quiet processors."""

    quick: float
    full: float


BENCHES = {
    "backend": Seconds(15, 68),
    "prefork": Seconds(22, 85),
    "spawner": Seconds(60, 340),
    "hub_restart": Seconds(17, 65),
    "workers": Seconds(40, 400),
    "journeys": Seconds(60, 140),
    "health_checks": Seconds(12, 70),
    "limits": Seconds(7, 45),
    "growth_servers": Seconds(18, 280),
    "growth_apps": Seconds(11, 50),
    "growth_workers": Seconds(14, 180),
}
"""The scripts, in the order in which the page shows them."""

MOST = Seconds(5 * 60, 30 * 60)
"""How long all of it may take. What the scripts' own seconds leave of it is for those that take longer."""

REST = Seconds(15, 60)
"""Of that, what is kept for the pictures and the report, and for a script that does not end when told."""


NOT_RUN = "it was not run"
OF_THE_BENCH = "of the bench"


class Run:
    """One run of some scripts.

    Parameters
    ----------
    benches
        Their names; all, if none.
    seed
        Of the order of the scripts, and of the turns in each.
    patience
        Times their seconds, for a machine that has much else to do.
    """

    def __init__(
        self, benches: Sequence[str], quick: bool, seed: int | None = None, patience: float = 1.0
    ) -> None:
        if unknown := set(benches) - set(BENCHES):
            sys.exit(f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
        self.quick, self.patience = quick, patience
        self.seed = secrets.randbits(32) if seed is None else seed
        self.chance = random.Random(self.seed)
        self.begun = datetime.now(UTC)
        self.folder = UNFINISHED / f"{self.begun:%Y-%m-%d-%H%M%S}{'-quick' if quick else ''}"
        chosen = [name for name in BENCHES if name in (benches or BENCHES)]
        self.order = self.chance.sample(chosen, k=len(chosen))
        self.outcomes: dict[str, Outcome] = {}
        self.load, self.busy, self.clock = load(), busy_seconds(), time.monotonic()

    @property
    def whole(self) -> bool:
        """Whether all scripts there are have had their turn."""
        return set(self.outcomes) == set(BENCHES) and not self.interrupted

    @property
    def unfinished(self) -> list[str]:
        """Which scripts broke, or were ended."""
        return [name for name, outcome in self.outcomes.items() if outcome.failure]

    @property
    def interrupted(self) -> bool:
        """Whether it was ended before all scripts had their turn."""
        return any(outcome.interrupted for outcome in self.outcomes.values())

    def all(self) -> None:
        """Run the scripts in an order of chance."""
        adopt_orphans()
        remove_abandoned(Path(tempfile.gettempdir()))
        for place, name in enumerate(self.order):
            seed, seconds = self.chance.randrange(1 << 32), self.seconds_of(name)
            most = self.most_of(name, self.order[place + 1 :])
            command = [sys.executable, str(HERE / f"{name}.py"), f"--seed={seed}", f"--seconds={seconds}"]
            command += [f"--at-most={most:.1f}", f"--into={self.folder / name}.json"]
            self.outcomes[name] = outcome = guarded(command + ["--quick"] * self.quick, most)
            print(
                f"{name}: {outcome.wall:.0f} s of {seconds:.0f} s, {outcome.cpu:.0f} s of processor time"
                + (f"; UNFINISHED: {outcome.failure}" if outcome.failure else "")
                + (f"; it left {len(outcome.left)} processes, which were killed" if outcome.left else "")
                + "\n",
                flush=True,
            )
            if outcome.interrupted:
                return

    def seconds_of(self, name: str) -> float:
        """Return the seconds that a script has."""
        return self._of(BENCHES[name])

    def most_of(self, name: str, later: Sequence[str]) -> float:
        """Return the seconds after which a script is told to end: those that come later keep theirs."""
        left = self._of(MOST) - self._of(REST) - (time.monotonic() - self.clock)
        left -= sum(self.seconds_of(one) for one in later)
        return max(1.0, min(PATIENCE * self.seconds_of(name), left))

    def _of(self, seconds: Seconds) -> float:
        return self.patience * (seconds.quick if self.quick else seconds.full)

    def results(self) -> dict[str, Any]:
        """Return all of it, as a results file keeps it."""
        busy, stolen = (now - then for now, then in zip(busy_seconds(), self.busy, strict=True))
        used = sum(outcome.cpu for outcome in self.outcomes.values())
        parts = {}
        for name in BENCHES:
            record = self.folder / f"{name}.json"
            if record.exists():
                parts[name] = json.loads(record.read_text())
        return {
            "date": f"{self.begun:%Y-%m-%d %H:%M} UTC",
            "quick": self.quick,
            "seed": self.seed,
            "order": self.order,
            "seconds": round(time.monotonic() - self.clock, 1),
            "processor seconds": {
                OF_THE_BENCH: round(used, 1),
                "of all else on the machine": round(max(0.0, busy - used), 1),
                "stolen by the machine's host": round(stolen, 1),
            },
            "load": [self.load, load()],
            "machine": about_the_machine(),
            "versions": versions(),
            "benches": {name: self._told(name, name in parts) for name in BENCHES},
            "parts": parts,
        }

    def _told(self, name: str, has_figures: bool) -> dict[str, Any]:
        outcome, seconds = self.outcomes.get(name), self.seconds_of(name)
        if outcome is None:
            return {"ended": NOT_RUN, "seconds": seconds}
        return {
            "ended": outcome.failure if has_figures else outcome.failure or "it kept no figures",
            "seconds": seconds,
            "wall": round(outcome.wall, 1),
            "cpu": round(outcome.cpu, 1),
            "left": outcome.left,
        }

    def keep(self, into: Path | None = None) -> Path:
        """Write the results, then the pictures and the report of them; return where the results are."""
        into = into or self.folder.with_suffix(".json")
        results = self.results()
        write(into, results)  # first, as they are what cannot be had again
        results["pictures"] = drawn(results, into.with_suffix(""))
        write(into, results)
        into.with_suffix(".md").write_text(report(results, into.stem))
        return into


def main() -> None:
    """Run them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the short sizes")
    parser.add_argument("--seed", type=int, help="of the order of all")
    parser.add_argument("--patience", type=float, default=1.0, help="times the seconds of each script")
    parser.add_argument("--into", type=Path, help="the results file, instead of one named by the date")
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"of {', '.join(BENCHES)}; or all")
    given = parser.parse_args()
    run = Run(given.benches, given.quick, given.seed, given.patience)
    run.all()
    into = given.into
    if run.whole and into is None:
        into = RESULTS / f"{run.begun:%Y-%m-%d}{'-quick' if run.quick else ''}.json"
    path = run.keep(into)
    print(f"The figures are in {path}, and to be read in {path.with_suffix('.md')}.")
    if path.parent == RESULTS:
        print(f"The newest are shown in {write_page()}.")
    if run.interrupted:
        sys.exit("The bench was interrupted: what it had not measured is not there.")
    if run.unfinished:
        sys.exit(f"These broke or were ended, and are shown as such: {', '.join(run.unfinished)}.")


if __name__ == "__main__":
    main()

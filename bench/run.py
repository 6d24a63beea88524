"""Runs all benches into one results file, and writes the page that shows it. Run by ``make bench``.

Each bench is a process of its own, one after the other, with an end to its time: one that fails or takes too
long is shown as failed, and the others go on. ``--quick`` takes the short runs (5 minutes in all on two quiet
processors, 30 without), whose figures are compared with those of short runs only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from measuring import RESULTS, about_the_run, text_of
from page import write_page

HERE = Path(__file__).parent
BENCHES = ("backend", "prefork", "spawner", "hub_restart", "health_checks")
SECONDS_OF_ALL = {True: 5 * 60, False: 30 * 60}
PATIENCE = 3  # times that, on a machine that has much else to do


def main() -> None:
    """Run them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the short runs")
    parser.add_argument("--into", type=Path, help="the results file, instead of one named by the date")
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"of {', '.join(BENCHES)}; or all")
    given = parser.parse_args()
    if unknown := set(given.benches) - set(BENCHES):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    into = given.into or RESULTS / f"{today}{'-quick' if given.quick else ''}.json"
    run_all(given.benches or BENCHES, into, given.quick)
    print(f"\nThe figures are in {into}.")
    if given.into is None:
        print(f"They are shown in {write_page()}.")


def run_all(benches: tuple[str, ...] | list[str], into: Path, quick: bool) -> None:
    """Run some benches into a results file; what was in it of these is replaced."""
    ends_at = time.monotonic() + PATIENCE * SECONDS_OF_ALL[quick]
    for name in benches:
        command = [sys.executable, str(HERE / f"{name}.py"), f"--into={into.resolve()}"]
        process = subprocess.Popen([*command, *(["--quick"] if quick else [])])
        try:
            code = process.wait(max(1.0, ends_at - time.monotonic()))
            failure = f"it ended with status {code}" if code else ""
        except subprocess.TimeoutExpired:
            process.terminate()  # it ends what it has started
            process.wait()
            failure = f"it was not done {PATIENCE} times {SECONDS_OF_ALL[quick]} s after the first began"
        if failure:
            print(f"{name}: FAILED: {failure}", flush=True)
            found = json.loads(into.read_text()) if into.exists() else {"parts": {}}
            found["parts"][name] = {"failed": failure, "quick": quick}
            into.write_text(text_of({**found, **about_the_run()}))


if __name__ == "__main__":
    main()

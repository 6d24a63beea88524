"""How a script of the bench is written: what it emits, and when it has to be done.

A figure alone says more of the machine than of us, so that a script measures a limit or a peer beside it, in
the same run and in turns with it, and declares the ratio. Nothing is dropped: what fails is counted and shown
with its error, outliers stay, and what there was no time for is told.

A script has a docstring whose first line says what it measures and which tells from ``Method:`` on how, and::

    async def main() -> None:
        given = arguments(__doc__).parse_args()  # --quick, --seed, --seconds, --into
        part = Part.of("starts", __doc__, given)
        part.ratio(STARTS, "ours, wall", "theirs, wall", goal=0.5, limit="fork, wall")
        part.goal(STARTS, "ours, wall", at_most=0.5)
        async with part.phase("starts", share=0.7):
            ways = {"ours": ours, "theirs": theirs, "fork": fork}
            await part.in_turns(STARTS, ways, rounds=3 if part.quick else 15)
        async with part.phase("memory", share=0.3):
            part.add("memory of one", "ours", await memory(), "MiB")
        part.end()

    if __name__ == "__main__":
        run(main)

and one line in `run.BENCHES`, with the seconds that its quick and its full size may take on two quiet
processors. Ratios and goals are declared first, so that they are there when the script is ended early.

sample
    one number, kept as it is: `Part.add`, or what a way of `Part.in_turns` returns. Seconds by the wall and
    of processor time (``wall``, ``cpu``) are figures of their own. Several that are added at once are a
    *batch*: alike, so that the spread of a ratio is that between batches.
figure
    all samples of one thing, known by a group and a name. At least three samples in the quick size, too, or
    its ratios cannot be checked.
ratio
    of two medians, with an interval: `Part.ratio` within a group, `Part.ratio_between` across groups. It is
    to a peer, and ``limit`` names the limit that stands beside it; or to a limit itself
    (``to_a_limit=True``). ``ours=False`` where it is one of peers, ``higher_is_better=True`` for rates.
goal
    what a median (`Part.goal`) or a ratio (``goal=``) should be.
failure
    an exception in a way or a phase is kept by itself, `Part.failed` keeps any other. A peer that cannot be
    made to run is a failure of its figure, with the error.
not measured
    `Part.cut` tells what was left out, and why. `Part.in_turns` begins no round for which there is no time.

`Part.keep` writes what there is so far; `in_turns` and `phase` do that by themselves. A script ends whatever
it started in its ``finally``: it is cancelled when its time is over, and when people interrupt the bench.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import random
import re
import secrets
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from figures import Comparison, Figure, Place, rounded, with_ratios
from machine import load, versions
from tables import tables

PATIENCE = 1.5
"""Times its seconds a script may take before it is ended, if nothing else is said: a machine may be busy."""
FAILURES_IN_TURN = 3
_SECONDS_BETWEEN_KEEPS = 2
_SHARE_OF_THE_END = 0.07
_of_this_script: list[Part] = []


class Part:
    """What one script measures in one run.

    Parameters
    ----------
    name
        Of the script.
    method
        How it measures, in words.
    quick
        Whether this is the short run, whose figures are compared with those of short runs only.
    seed
        Of the order of the turns; shown, so that an order can be had again.
    seconds
        In which it should be done, or None.
    at_most
        Seconds after which it is ended.
    into
        The file that keeps its record, or None.
    """

    def __init__(
        self,
        name: str,
        method: str,
        quick: bool = False,
        seed: int | None = None,
        seconds: float | None = None,
        at_most: float | None = None,
        into: Path | None = None,
    ) -> None:
        self.name, self.method, self.quick = name, " ".join(method.split()), quick
        self.seed = secrets.randbits(32) if seed is None else seed
        self.seconds, self.into = seconds, into
        self.at_most = at_most or (PATIENCE * seconds if seconds else None)
        self.chance = random.Random(self.seed)
        self.figures: dict[Place, Figure] = {}
        self.comparisons: list[Comparison] = []
        self.goals: dict[Place, dict[str, float]] = {}
        self.cuts: list[str] = []
        self.turns: list[dict[str, Any]] = []
        self.versions = versions()
        self._begun, self._load, self._kept = time.monotonic(), load(), 0.0
        # What is begun by then is done before it is ended, which may be sooner than half as much again.
        shared = min(seconds, (1 - _SHARE_OF_THE_END) * (self.at_most or math.inf)) if seconds else math.inf
        self._ends_at = self._begun + shared
        self._unshared = 1.0  # of the time, by the phases so far
        print(f"# {name}, seed {self.seed}, load {self._load}\n{self.method}\n", flush=True)
        self.keep()  # so that a script that never comes to a figure is known, too

    @classmethod
    def of(cls, name: str, document: str | None, given: argparse.Namespace) -> Self:
        """Return the part of a script with such a docstring that was given such `arguments`."""
        times = given.seconds, given.at_most
        part = cls(name, method_of(document), given.quick, given.seed, *times, given.into)
        _of_this_script.append(part)
        return part

    # -- figures ----------------------------------------------------------------------

    def add(self, group: str, name: str, samples: float | Iterable[float], unit: str = "s") -> None:
        """Keep a sample, or several that were taken together."""
        figure = self._figure(group, name, unit)
        figure.add([samples] if isinstance(samples, int | float) else list(samples))

    def failed(self, group: str, name: str, error: BaseException | str, unit: str = "s") -> None:
        """Keep a failure: it counts, and is shown."""
        said = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        self._figure(group, name, unit).failures.append(said)
        print(f"{group}, {name}: FAILED: {said}", flush=True)

    def cut(self, sentence: str) -> None:
        """Tell what was not measured, and why."""
        self.cuts.append(sentence)
        print(f"NOT MEASURED: {sentence}", flush=True)

    def measured_with(self, versions: Mapping[str, str]) -> None:
        """Add the versions of what only this script measures, such as peers."""
        self.versions |= versions

    def _figure(self, group: str, name: str, unit: str) -> Figure:
        return self.figures.setdefault((group, name), Figure(group, name, unit))

    # -- turns and time ---------------------------------------------------------------

    @property
    def seconds_left(self) -> float:
        """How long the present phase may still take; infinite where there is no end to it."""
        return self._ends_at - time.monotonic()

    @property
    def seconds_to_spare(self) -> float:
        """How long the script may still take until it is ended, less a while to end what it has started."""
        if self.at_most is None:
            return math.inf
        return self._begun + (1 - _SHARE_OF_THE_END) * self.at_most - time.monotonic()

    @asynccontextmanager
    async def phase(self, name: str, share: float = 1.0) -> AsyncIterator[None]:
        """Measure one thing of several; what fails in it fails alone.

        It has its share of the time that is left, beside the shares of those to come: what one took too much,
        or left, falls on all that follow. It may take more, as long as the others have what is theirs before
        the script is ended, and is cancelled then.
        """
        before, left = self._ends_at, self.seconds_left
        part = min(1.0, share / max(self._unshared, 1e-9))
        self._unshared -= share
        self._ends_at = time.monotonic() + part * left
        others = (1 - part) * max(0.0, left) if part < 1 else 0.0
        most = max(0.0, self.seconds_to_spare - others) if self.seconds else None
        try:
            async with asyncio.timeout(most) as patience:
                yield
        except Exception as error:
            late = patience.expired()
            self.failed(name, "this phase", f"it was not done in {most:.0f} s" if late else error)
        finally:
            self._ends_at = before
            self.keep()

    async def in_turns(
        self,
        group: str,
        ways: Mapping[str, Callable[[], Awaitable[Mapping[str, float]]]],
        rounds: int,
        warm_up: int = 1,
        units: Mapping[str, str] | None = None,
    ) -> None:
        """Measure several ways of the same, a round of each in an order of chance, `rounds` times.

        A way that fails thrice in a row is tried no more. A round is begun only if there is time for it, by
        the longest turn of each way so far; but every way has one that is kept.

        Parameters
        ----------
        ways
            By their names; each returns numbers by what they are of, such as ``wall`` and ``cpu``.
        warm_up
            So many rounds before, which are not kept.
        units
            Of what a way returns, where it is not seconds.
        """
        ways, failing = dict(ways), dict.fromkeys(ways, 0)
        for number in range(-warm_up, rounds):
            if self._cost(group, ways) > self.seconds_left:
                self.cut(f"{group}: {rounds - number} of {rounds} rounds, as the time for them was over")
                return
            for name, way in self.shuffled(ways).items():
                turn = self._turn(group, name, number)
                try:
                    found = await way()
                except Exception as error:
                    self.failed(group, f"{name}, wall", error)
                    failing[name] += 1
                    if failing[name] == FAILURES_IN_TURN:
                        del ways[name]
                        self.cut(f"{group}: {name}, any more, as it failed {FAILURES_IN_TURN} times in a row")
                    continue
                finally:
                    turn()
                failing[name] = 0
                for what, value in found.items() if number >= 0 else ():
                    self.add(group, f"{name}, {what}", value, (units or {}).get(what, "s"))

    def _cost(self, group: str, ways: Iterable[str]) -> float:
        """Return the seconds of the longest turns so far; less than any if a way has had none that counts."""
        longest: dict[str, float] = {}
        for turn in self.turns:
            if turn["group"] == group and turn["round"] >= 0:
                longest[turn["way"]] = max(turn["wall"], longest.get(turn["way"], 0.0))
        return sum(longest.get(name, -math.inf) for name in ways)

    def _turn(self, group: str, way: str, number: int) -> Callable[[], None]:
        """Begin a turn; return what notes its end, and what it cost this process, which makes the load."""
        begun, own = time.monotonic(), time.process_time()

        def end() -> None:
            self.turns.append(
                {
                    "group": group,
                    "way": way,
                    "round": number,
                    "begun": rounded(begun - self._begun),
                    "wall": rounded(time.monotonic() - begun),
                    "cpu of this script": rounded(time.process_time() - own),
                }
            )
            if time.monotonic() > self._kept + _SECONDS_BETWEEN_KEEPS:
                self.keep()

        return end

    def shuffled(self, ways: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same in an order of chance."""
        return {name: ways[name] for name in self.chance.sample(list(ways), k=len(ways))}

    # -- what it should be ------------------------------------------------------------

    def goal(
        self, group: str, name: str, at_most: float | None = None, at_least: float | None = None
    ) -> None:
        """Say what the median of a figure should not exceed, or not fall below."""
        bounds = {"at_most": at_most, "at_least": at_least}
        self.goals[group, name] = {how: bound for how, bound in bounds.items() if bound is not None}

    def ratio(
        self,
        group: str,
        name: str,
        of: str,
        goal: float | None = None,
        *,
        limit: str | None = None,
        **marks: bool,
    ) -> None:
        """Relate one figure to another of its group; the marks are those of a `Comparison`."""
        self.ratio_between((group, name), (group, of), goal, limit=(group, limit) if limit else None, **marks)

    def ratio_between(
        self,
        figure: Place,
        of: Place,
        goal: float | None = None,
        *,
        limit: Place | None = None,
        **marks: bool,
    ) -> None:
        """Relate one figure to one of any group; the marks are those of a `Comparison`."""
        self.comparisons.append(Comparison(figure, of, goal, limit, **marks))

    # -- the record -------------------------------------------------------------------

    def record(self, done: bool = False) -> dict[str, Any]:
        """Return all of it, as it is written down; the values of ratios are worked out by `with_ratios`."""
        return {
            "method": self.method,
            "quick": self.quick,
            "seed": self.seed,
            "done": done,
            "seconds": round(time.monotonic() - self._begun, 1),
            "cpu_of_this_script": round(time.process_time(), 1),
            "load": [self._load, load()],
            "versions": self.versions,
            "cuts": self.cuts,
            "figures": [
                {
                    "group": figure.group,
                    "name": figure.name,
                    "unit": figure.unit,
                    **{name: rounded(value) for name, value in figure.summary().items()},
                    "goal": self.goals.get(place),
                    "count": len(figure.samples),
                    "samples": [rounded(value) for value in figure.samples],
                    **({"batches": figure.batches} if max(figure.batches, default=1) > 1 else {}),
                    "failures": figure.failures,
                }
                for place, figure in self.figures.items()
            ],
            "ratios": [comparison.told() for comparison in self.comparisons],
            "turns": self.turns,
        }

    def keep(self, done: bool = False) -> None:
        """Write the record, if there is a file for it: at once, or not at all."""
        self._kept = time.monotonic()
        if self.into is not None:
            write(self.into, self.record(done))

    def end(self) -> None:
        """Keep the record and print the tables: all is measured."""
        self.keep(done=True)
        print(self.shown(), flush=True)

    def shown(self) -> str:
        """Return what people read of it."""
        return tables(with_ratios(self.record(done=True)))


def write(path: Path, found: Mapping[str, Any]) -> None:
    """Write JSON into a file that nobody ever finds half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text_of(found))
    beside.replace(path)


def text_of(found: Mapping[str, Any]) -> str:
    """Return JSON in which a list of numbers is one line, so that two files can be compared by eye."""
    text = json.dumps(found, indent=1, ensure_ascii=False)
    return re.sub(r"\[[\s\d.,e+-]*\]", lambda found: " ".join(found[0].split()), text) + "\n"


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a script; told to end, it still ends what it has started."""

    async def cancellable() -> None:
        task = asyncio.current_task()
        assert task is not None

        def end() -> None:
            if not task.cancelling():  # what ends its processes now is not to be ended itself
                task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
        await main()

    try:
        asyncio.run(cancellable())
    except asyncio.CancelledError:
        raise SystemExit("it was told to end") from None
    except Exception as error:
        for part in _of_this_script:
            part.failed(part.name, "this script", error)
            part.keep()
        raise


def arguments(document: str | None) -> argparse.ArgumentParser:
    """Return the parser of what every script can be told."""
    parser = argparse.ArgumentParser(description=(document or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="the short run, of the same kinds")
    parser.add_argument("--seed", type=int, help="of the order of the turns")
    parser.add_argument("--seconds", type=float, help="in which it should be done")
    parser.add_argument("--at-most", type=float, help="seconds after which it is ended")
    parser.add_argument("--into", type=Path, help="the file for what it finds")
    return parser


def method_of(document: str | None) -> str:
    """Return how a script measures: what its docstring says from ``Method:`` on."""
    return (document or "").partition("Method: ")[2]

"""When a run of the bench is worse than another: by the ratios of ours, and beyond the spread."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from figures import with_ratios
from judging import judged, named
from measuring import Part, write

BENCH = Path(__file__).parents[1] / "bench"
STEADY = [1.0, 1.01, 1.02, 1.03, 1.04]
TWICE = [2 * one for one in STEADY]


def part_of(samples: list[float], others: list[float], **marks: bool) -> Part:
    part = Part("x", "by values", seed=1)
    part.ratio("starts", "ours", "theirs", **marks)
    part.add("starts", "ours", samples)
    part.add("starts", "theirs", others)
    return part


def run_of(*some: Part) -> dict[str, Mapping[str, Any]]:
    return {part.name: with_ratios(part.record()) for part in some}


COMMITTED = run_of(part_of(STEADY, STEADY))
RATIO = ("x", "starts", "ours", "theirs")


def test_a_ratio_that_is_beyond_a_quarter_and_the_spread_is_worse() -> None:
    found = judged(run_of(part_of(TWICE, STEADY)), COMMITTED)
    [(where, told)] = found.worse.items()
    assert named(where) == "x, starts: ours beside theirs"
    assert told.startswith("2 (")
    assert ", and was 1 (" in told
    assert (found.compared, found.better, found.untold) == ({RATIO}, {}, [])


def test_a_ratio_that_is_as_much_below_is_better() -> None:
    found = judged(COMMITTED, run_of(part_of(TWICE, STEADY)))
    assert (list(found.better), found.worse) == ([RATIO], {})


@pytest.mark.parametrize(
    "now",
    [
        pytest.param([1.2 * one for one in STEADY], id="less than a quarter"),
        pytest.param([0.4, 0.8, 1.4, 3.0, 4.0], id="within the spread"),
    ],
)
def test_a_ratio_that_is_not_worse_for_sure_is_none(now: list[float]) -> None:
    found = judged(run_of(part_of(now, STEADY)), COMMITTED)
    assert (found.compared, found.worse, found.better, found.untold) == ({RATIO}, {}, {}, [])


def test_of_rates_less_is_worse() -> None:
    rates = {"higher_is_better": True}
    many, few = run_of(part_of(TWICE, STEADY, **rates)), run_of(part_of(STEADY, STEADY, **rates))
    assert len(judged(few, many).worse) == 1
    assert len(judged(many, few).better) == 1


def test_ratios_of_peers_are_not_ours_to_answer_for() -> None:
    found = judged(run_of(part_of(TWICE, STEADY, ours=False)), run_of(part_of(STEADY, STEADY, ours=False)))
    assert (found.compared, found.worse, found.untold) == (set(), {}, [])


@pytest.mark.parametrize(
    ("now", "then", "told"),
    [
        ([1.9], STEADY, None),
        ([2.2], STEADY, "2.16 (n = 1), and was 1 (0.98 to 1.02)"),
        ([4.2, 4.2], [2.0], "4.12 (n = 2), and was 1.96 (n = 1)"),
    ],
)
def test_where_there_is_no_spread_only_what_is_twice_as_much_is_worse(
    now: list[float], then: list[float], told: str | None
) -> None:
    found = judged(run_of(part_of(now, STEADY)), run_of(part_of(then, STEADY)))
    assert (found.compared, found.untold) == ({RATIO}, [])
    assert found.worse.get(RATIO) == told


def test_the_requests_of_one_turn_tell_no_spread_from_turn_to_turn() -> None:
    def turns(*medians: float) -> dict[str, Mapping[str, Any]]:
        part = part_of([], [])
        for median in medians:
            part.add("starts", "ours", [median * one for one in STEADY])
            part.add("starts", "theirs", STEADY)
        return run_of(part)

    steady, unsteady = turns(1.0, 1.0, 1.0), turns(1.0, 1.5, 1.6)
    [ratio] = unsteady["x"]["ratios"]
    assert (ratio["value"], ratio["samples"]) == (1.5, 3)
    assert ratio["low"] == 1.0, "one turn of three was so"
    assert judged(unsteady, steady).worse == {}
    assert list(judged(turns(1.5, 1.6, 1.7), steady).worse) == [RATIO]
    [few] = turns(1.0, 1.5)["x"]["ratios"]
    assert few["samples"] == 10, "too few turns, so that the samples have to do"


def test_what_cannot_be_compared_is_told() -> None:
    found = judged(run_of(part_of([], STEADY)), COMMITTED)
    assert found.untold == ["x, starts: ours beside theirs: it has no value now: ours has none"]
    assert (found.compared, found.worse) == (set(), {})


def test_a_script_that_is_missing_on_either_side_is_told() -> None:
    assert judged({}, COMMITTED).untold == ["x: it was not run"]
    assert judged(COMMITTED, {}).untold == ["x: it is not in the committed run"]


def test_a_ratio_that_is_missing_on_either_side_is_told() -> None:
    neither = run_of(Part("x", "by values", seed=1))
    told = "x, starts: ours beside theirs: there is no such ratio"
    assert judged(neither, COMMITTED).untold == [f"{told} now"]
    assert judged(COMMITTED, neither).untold == [f"{told} in the committed run"]


def test_what_of_ours_fails_and_did_not_before_is_worse() -> None:
    now = part_of(STEADY, STEADY)
    now.failed("starts", "ours", RuntimeError("it broke"))
    now.failed("memory", "this phase", "it was not done in 9 s")
    assert judged(run_of(now), COMMITTED).failing == [
        "x, starts: ours failed, and did not before: RuntimeError: it broke",
        "x, memory: this phase failed, and did not before: it was not done in 9 s",
    ]
    assert judged(run_of(now), run_of(now)).failing == []


def test_a_peer_that_fails_hides_how_we_stand_and_makes_nothing_worse() -> None:
    now = part_of(STEADY, [])
    now.failed("starts", "theirs", RuntimeError("it broke"))
    found = judged(run_of(now), COMMITTED)
    assert (found.worse, found.failing) == ({}, [])
    assert found.untold == [
        "x, starts: ours beside theirs: it has no value now: theirs failed 1 times: RuntimeError: it broke"
    ]


CHECK = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import check, page
page.RESULTS = pathlib.Path(sys.argv[2])
sys.argv[1:] = sys.argv[3:]
check.main()
"""


def commit(folder: Path) -> None:
    """Keep a short run as the one to be compared with."""
    parts = {"x": part_of(STEADY, STEADY).record(done=True)}
    write(folder / "results" / "2026-01-02-quick.json", {"benches": {}, "parts": parts})


def checked(
    folder: Path, now: Part, others: float = 0.0, again: Part | None = None, **ended: str
) -> subprocess.CompletedProcess[str]:
    """Check such a part of a run of 100 s on two processors, of which others had so many seconds."""
    command = [sys.executable, "-c", CHECK, str(BENCH), str(folder / "results")]
    for number, part in enumerate([now, again]):
        if part is None:
            continue
        told = {
            "seconds": 100.0,
            "machine": {"processors": 2},
            "processor seconds": {"of the bench": 50.0, "of all else on the machine": others},
            "benches": {name: {"ended": how} for name, how in ended.items()},
        }
        results = folder / f"now{number}.json"
        write(results, {**told, "parts": {part.name: part.record(done=True)}})
        command += ["--results", str(results)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("now", "status", "told"),
    [
        pytest.param(STEADY, 0, "1 ratios of ours compared, 0 worse, 0 better, 0 things", id="the same"),
        pytest.param(TWICE, 1, "Worse than before:\n- x, starts: ours beside theirs is 2 (", id="worse"),
        pytest.param([], 1, "Not compared:\n- x, starts: ours beside theirs: it has no value", id="nothing"),
    ],
)
def test_the_check_fails_if_a_ratio_is_worse_or_none_can_be_compared(
    tmp_path: Path, now: list[float], status: int, told: str
) -> None:
    write(tmp_path / "results" / "2026-01-01-quick.json", {"parts": {"x": {}}})
    commit(tmp_path)
    write(tmp_path / "results" / "2026-01-03.json", {"parts": {"x": {}}})  # a long run
    found = checked(tmp_path, part_of(now, STEADY))
    assert found.returncode == status, found.stderr
    assert told in found.stdout
    assert "2026-01-02-quick.json" in found.stdout


@pytest.mark.parametrize(
    ("again", "status", "told"),
    [
        pytest.param(
            STEADY, 0, "Worse at first, and not when looked at again:\n- x, starts: ours", id="once"
        ),
        pytest.param(TWICE, 1, ", and was 1 (0.98 to 1.02); looked at again, it is 2 (", id="twice"),
        pytest.param([], 1, "Worse than before:\n- x, starts: ours", id="not seen again"),
    ],
)
def test_what_is_worse_is_looked_at_once_more(
    tmp_path: Path, again: list[float], status: int, told: str
) -> None:
    commit(tmp_path)
    found = checked(tmp_path, part_of(TWICE, STEADY), again=part_of(again, STEADY))
    assert found.returncode == status, found.stderr
    assert told in found.stdout


@pytest.mark.parametrize(
    ("now", "others", "status"),
    [
        pytest.param(TWICE, 30.0, 1, id="quiet"),
        pytest.param(TWICE, 100.0, 2, id="busy"),
        pytest.param(STEADY, 100.0, 0, id="busy, and the same"),
    ],
)
def test_on_a_busy_machine_the_check_blames_nobody(
    tmp_path: Path, now: list[float], others: float, status: int
) -> None:
    commit(tmp_path)
    found = checked(tmp_path, part_of(now, STEADY), others)
    assert found.returncode == status, found.stderr
    assert ("The machine was busy, so that this says nothing" in found.stdout) == (status == 2)
    assert ("Worse than before, on a busy machine:\n- x, starts" in found.stdout) == (status == 2)


def test_the_check_fails_if_a_script_breaks_before_it_has_a_figure(tmp_path: Path) -> None:
    commit(tmp_path)
    found = checked(tmp_path, part_of(STEADY, STEADY), x="", y="it ended with status 1", z="it was not run")
    assert found.returncode == 1
    assert "Worse than before:\n- y: it ended with status 1\n\n" in found.stdout


def test_without_committed_results_the_check_says_what_makes_them(tmp_path: Path) -> None:
    found = checked(tmp_path, part_of(STEADY, STEADY))
    assert found.returncode == 1
    assert "`make bench-quick` makes them" in found.stderr
    write(tmp_path / "results" / "2026-01-01-quick.json", {"parts": {}})
    found = checked(tmp_path, part_of(STEADY, STEADY))
    assert found.returncode == 1
    assert "2026-01-01-quick.json is of an older bench" in found.stderr

"""The frame of the benches: what is compared, what is shown, and when a ratio is worse than it was."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from check import worse
from measuring import Part, quantile, ratio_of, shown, tables


def part_of(ours: list[float], others: list[float], name: str = "x") -> Part:
    part = Part(name, "by values", seed=1)
    part.add("starts", "ours", ours)
    part.add("starts", "theirs", others)
    part.ratio("starts", "ours", "theirs", goal=1.05)
    return part


def parts(*some: Part) -> dict[str, Mapping[str, Any]]:
    return {part.name: part.record() for part in some}


STEADY = [1.0, 1.01, 1.02, 1.03, 1.04]


def test_a_ratio_that_is_beyond_a_quarter_and_the_spread_is_worse() -> None:
    then = parts(part_of(STEADY, STEADY))
    [finding] = worse(parts(part_of([2 * one for one in STEADY], STEADY)), then)
    assert "ours is 2 times theirs" in finding
    assert "was 1 " in finding


@pytest.mark.parametrize(
    "now",
    [
        pytest.param([1.2 * one for one in STEADY], id="less than a quarter"),
        pytest.param([0.5 * one for one in STEADY], id="better"),
        pytest.param([0.4, 0.8, 1.4, 3.0, 4.0], id="within the spread"),
        pytest.param([9.0], id="one sample tells no spread"),
    ],
)
def test_a_ratio_that_is_not_worse_for_sure_is_no_finding(now: list[float]) -> None:
    assert list(worse(parts(part_of(now, STEADY)), parts(part_of(STEADY, STEADY)))) == []


def test_what_fails_now_and_did_not_before_is_a_finding() -> None:
    then = parts(part_of(STEADY, STEADY))
    now = part_of(STEADY, STEADY)
    now.failed("starts", "ours", RuntimeError("it broke"))
    assert list(worse(parts(now), then)) == ["x, starts: ours failed 1 times, and did not before"]
    assert list(worse({"x": {"failed": "it ended with status 1"}}, then)) == ["x: it ended with status 1"]


async def test_ways_take_turns_and_a_way_that_fails_is_shown() -> None:
    part, order = Part("x", "", seed=3), []

    async def good() -> Mapping[str, float]:
        order.append("good")
        return {"wall": 1.0}

    async def bad() -> Mapping[str, float]:
        order.append("bad")
        raise RuntimeError("it broke | here")

    await part.in_turns("starts", {"good": good, "bad": bad}, rounds=4, warm_up=1)
    part.ratio("starts", "good, wall", "bad, wall")
    assert [sorted(order[turn : turn + 2]) for turn in range(0, 10, 2)] == [["bad", "good"]] * 5
    assert part.figures["starts", "good, wall"].samples == [1.0] * 4, "the first round warms up"
    assert part.ratios == []
    assert "| 5: RuntimeError: it broke / here |" in tables(part.record())


def test_a_goal_that_is_missed_is_said() -> None:
    part = part_of([2.0, 2.0], [1.0, 1.0])
    part.goal("starts", "ours", 1.0)
    text = tables(part.record())
    assert "2 s (goal 1 s: **missed**)" in text
    assert "≤ 1.05: **missed**" in text


def test_a_results_file_keeps_what_other_benches_wrote(tmp_path: Path) -> None:
    into = tmp_path / "results" / "now.json"
    part_of(STEADY, STEADY, "one").end(into)
    part_of(STEADY, STEADY, "other").end(into)
    found = json.loads(into.read_text())
    assert set(found["parts"]) == {"one", "other"}
    assert found["machine"]["processors"] >= 1
    assert found["parts"]["one"]["figures"][0]["samples"] == STEADY


def test_quantiles_are_samples_and_a_ratio_lies_in_its_interval() -> None:
    assert [quantile([3, 1, 2, 4], part) for part in (0.0, 0.25, 0.5, 0.99, 1.0)] == [1, 1, 2, 4, 4]
    value, low, high = ratio_of([2, 3, 4], [1, 2, 3], random.Random(0))
    assert value == 1.5
    assert low <= value <= high


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.234, "s", "1.23 s"),
        (0.9999, "s", "1000 ms"),
        (0.0123, "s", "12.3 ms"),
        (4e-6, "s", "4 µs"),
        (1234.0, "s", "1234 s"),
        (3.0, "MiB", "3 MiB"),
        (0.5, "", "0.5"),
        (None, "s", "–"),
    ],
)
def test_figures_have_units_as_is_fit(value: float | None, unit: str, text: str) -> None:
    assert shown(value, unit) == text

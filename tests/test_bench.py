"""The frame of the benches: what a script keeps, what is compared, and how it is shown."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from figures import quantile, ratio_of, resampled_median, shown, with_ratios
from machine import busy_seconds, cgroup_version, cpu_of
from measuring import Part
from tables import cell, tables

STEADY = [1.0, 1.01, 1.02, 1.03, 1.04]


def part_of(ours: list[float], others: list[float]) -> Part:
    part = Part("x", "by values", seed=1)
    part.ratio("starts", "ours", "theirs", goal=1.05)
    part.add("starts", "ours", ours)
    part.add("starts", "theirs", others)
    return part


def recorded(part: Part) -> dict[str, Any]:
    return with_ratios(part.record())


async def test_ways_take_turns_and_a_way_that_fails_is_shown_and_not_tried_for_ever() -> None:
    part, order = Part("x", "", seed=3), []

    async def good() -> Mapping[str, float]:
        order.append("good")
        return {"wall": 1.0, "memory": 2.0}

    async def bad() -> Mapping[str, float]:
        order.append("bad")
        raise RuntimeError("it broke | here")

    part.ratio("starts", "good, wall", "bad, wall")
    await part.in_turns("starts", {"good": good, "bad": bad}, 4, warm_up=1, units={"memory": "MiB"})
    assert [sorted(order[turn : turn + 2]) for turn in range(0, 6, 2)] == [["bad", "good"]] * 3
    assert order[6:] == ["good", "good"]
    assert part.figures["starts", "good, wall"].samples == [1.0] * 4, "the first round warms up"
    record = recorded(part)
    assert record["ratios"][0]["why"] == "bad, wall failed 3 times: RuntimeError: it broke | here"
    text = tables(record)
    assert "| 3: RuntimeError: it broke / here |" in text
    assert "- Not measured: starts: bad, any more, as it failed 3 times in a row." in text
    assert "| good, memory | 2 MiB |" in text
    turns = [(turn["way"], turn["round"]) for turn in record["turns"]]
    assert turns == [(way, place // 2 - 1) for place, way in enumerate(order[:6])] + [
        ("good", 2),
        ("good", 3),
    ]


async def test_no_round_is_begun_for_which_there_is_no_time() -> None:
    part, rounds = Part("x", "", seed=3, seconds=0.2), []

    async def way() -> Mapping[str, float]:
        rounds.append(1)
        await asyncio.sleep(0.15)
        return {"wall": 0.15}

    await part.in_turns("starts", {"it": way}, 10, warm_up=1)
    assert len(rounds) == 2, "the round that warms up, and one that is kept whatever the time"
    assert part.cuts == ["starts: 9 of 10 rounds, as the time for them was over"]


async def test_a_way_that_had_no_turn_that_counts_has_one_whatever_the_time() -> None:
    part, order = Part("x", "", seed=3, seconds=0.1), []

    def way(name: str, seconds: float) -> Callable[[], Awaitable[Mapping[str, float]]]:
        async def turn() -> Mapping[str, float]:
            order.append(name)
            await asyncio.sleep(seconds)
            return {"wall": seconds}

        return turn

    often, seldom = way("often", 0.15), way("seldom", 0.0)
    await part.in_turns("starts", {"often": often}, 3, warm_up=0)
    await part.in_turns("starts", {"often": often, "seldom": seldom}, 1, warm_up=0)
    assert order[0] == "often"
    assert sorted(order[1:]) == ["often", "seldom"]
    await part.in_turns("starts", {"often": often}, 3, warm_up=0)
    assert len(order) == 3


async def test_what_a_phase_takes_too_much_or_leaves_falls_on_those_to_come() -> None:
    part, left = Part("x", "", seed=3, seconds=100_000), []
    part._begun -= 20_000  # as if what comes before the phases had taken so long
    part._ends_at -= 20_000
    for share in (0.5, 0.25, 0.25):
        async with part.phase("one", share):
            left.append(part.seconds_left)
    assert left == pytest.approx([40_000, 40_000, 80_000], abs=500), "nothing was done in any of them"


async def test_a_phase_that_takes_too_long_fails_alone_and_has_let_go_of_what_it_held(tmp_path: Path) -> None:
    into = tmp_path / "x.json"
    part, ended = Part("x", "", seconds=0.2, into=into), []
    async with part.phase("slow", share=0.5):
        part.add("slow", "before", 1.0)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)
    assert ended
    [figure] = [one for one in json.loads(into.read_text())["figures"] if one["name"] == "this phase"]
    assert figure["failures"] == ["it was not done in 0 s"]
    async with part.phase("broken", share=0.5):
        raise RuntimeError("it broke")
    async with part.phase("fast", share=0.5):
        part.add("fast", "it", 1.0)
    assert part.figures["broken", "this phase"].failures == ["RuntimeError: it broke"]
    kept = json.loads(into.read_text())
    assert {one["group"] for one in kept["figures"]} == {"slow", "broken", "fast"}
    assert not kept["done"]
    part.end()
    assert json.loads(into.read_text())["done"]


def test_a_goal_that_is_missed_is_said() -> None:
    part = part_of([2.0, 2.0], [1.0, 1.0])
    part.goal("starts", "ours", at_most=1.0)
    part.add("rates", "ours", 5.0, "1/s")
    part.goal("rates", "ours", at_least=4.0)
    part.goal("rates", "never measured", at_least=4.0)
    text = tables(recorded(part))
    assert "2 s (goal ≤ 1 s: **missed**)" in text
    assert "5 1/s (goal ≥ 4 1/s: met)" in text
    assert "| ours | 2 s | theirs | 1 s | 2 | 2 tell none | ≤ 1.05: **missed** |" in text


def test_a_ratio_of_rates_misses_its_goal_below_it() -> None:
    part = Part("x", "", seed=1)
    for goal in (0.5, 0.9):
        part.ratio("rates", "ours", "theirs", goal=goal, higher_is_better=True)
    part.add("rates", "ours", [7.0] * 3, "1/s")
    part.add("rates", "theirs", [10.0] * 3, "1/s")
    text = tables(recorded(part))
    assert "≥ 0.5: met" in text
    assert "≥ 0.9: **missed**" in text


def test_a_limit_stands_beside_the_ratio_to_a_peer() -> None:
    part = part_of([2.0, 2.0], [4.0, 4.0])
    part.ratio("starts", "ours", "theirs", limit="fork")
    part.ratio("starts", "ours", "theirs", limit="never measured")
    part.add("starts", "fork", [0.5] * 3)
    record = recorded(part)
    assert [ratio.get("beside_limit") for ratio in record["ratios"]] == [None, 4.0, None]
    assert "4 × fork" in tables(record)


def test_a_ratio_without_samples_says_what_is_lacking() -> None:
    part = Part("x", "", seed=1)
    part.ratio("starts", "ours", "theirs")
    assert recorded(part)["ratios"][0]["why"] == "ours was not measured; theirs was not measured"
    part.add("starts", "ours", 1.0)
    part.add("starts", "theirs", 0.0)
    assert recorded(part)["ratios"][0]["why"] == "theirs is zero"


def test_a_record_keeps_every_sample_and_the_versions(tmp_path: Path) -> None:
    into = tmp_path / "results" / "now.json"
    part = Part("x", "", seed=1, into=into)
    part.measured_with({"a peer": "1.2"})
    part.add("starts", "ours", [float(number) for number in range(3000)])
    part.end()
    found = json.loads(into.read_text())
    assert found["figures"][0]["samples"] == [float(number) for number in range(3000)]
    assert found["versions"]["a peer"] == "1.2"
    assert found["versions"]["jupyterhub"]
    assert [path.name for path in into.parent.iterdir()] == ["now.json"]


def test_quantiles_are_samples_and_a_ratio_lies_in_its_interval() -> None:
    assert [quantile([3, 1, 2, 4], part) for part in (0.0, 0.25, 0.5, 0.99, 1.0)] == [1, 1, 2, 4, 4]
    value, low, high = ratio_of([2, 3, 4], [1, 2, 3], random.Random(0))
    assert value == 1.5
    assert low <= value <= high


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_medians_are_resampled_as_if_the_samples_were_drawn(count: int) -> None:
    chance, samples = random.Random(0), sorted(random.Random(1).random() for _ in range(count))
    short = [resampled_median(samples, chance) for _ in range(5000)]
    drawn = [statistics.median(chance.choices(samples, k=count)) for _ in range(5000)]
    for part in (0.05, 0.3, 0.5, 0.7, 0.95):
        at = quantile(drawn, part)
        assert sum(one < at for one in short) / 5000 <= part + 0.03
        assert sum(one <= at for one in short) / 5000 >= part - 0.03


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


def test_a_text_of_others_does_not_break_a_table() -> None:
    assert cell("one\ntwo | <b>three") == "one two / &lt;b>three"
    assert len(cell("x" * 1000)) == 200


def test_the_processor_time_of_another_process_is_read_finely() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            begun = cpu_of(process.pid)
            deadline = time.monotonic() + 60
            while cpu_of(process.pid) < begun + 0.05:
                assert time.monotonic() < deadline
            process.send_signal(signal.SIGSTOP)  # or it would go on between the two looks
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                assert time.monotonic() < deadline
            ticks = psutil.Process(process.pid).cpu_times()
            assert cpu_of(process.pid) == pytest.approx(ticks.user + ticks.system, abs=0.05)
        finally:
            process.kill()


def test_the_machine_is_told(tmp_path: Path) -> None:
    assert busy_seconds("cpu  100 200 300 9999 9999 10 20 50 0 0\ncpu0 1") == (6.3, 0.5)
    assert cgroup_version(tmp_path) == "none"
    (tmp_path / "memory").mkdir()
    assert cgroup_version(tmp_path) == "v1"
    (tmp_path / "unified").mkdir()
    (tmp_path / "unified" / "cgroup.controllers").touch()
    assert cgroup_version(tmp_path) == "v1 and v2"
    (tmp_path / "cgroup.controllers").touch()
    assert cgroup_version(tmp_path) == "v2"


def test_the_environment_of_the_bench_has_versions_that_do_not_change_by_themselves() -> None:
    lines = (Path(__file__).parents[1] / "bench" / "requirements.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    peers = {"dask-gateway", "dask-gateway-server", "dask-jobqueue", "jmarathonspawner", "distributed"}
    assert peers <= {line.partition("==")[0] for line in wanted}
    assert [line for line in wanted if "==" not in line] == []

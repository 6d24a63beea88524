"""Growth: the power that fits a cost, how far a climb comes, and how people are told."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import growing
import pytest
from figures import with_ratios
from fitting import fitted
from growing import Growth, curve_tables

GROUP = "apps on a backend"
SIZES = [10, 100, 1000]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, -1.0])
def test_the_exponent_of_a_power_is_found(exponent: float) -> None:
    fit = fitted({size: 0.003 * size**exponent for size in (1, 10, 100, 5000)})
    assert fit is not None
    assert fit.exponent == pytest.approx(exponent)
    assert fit.last == pytest.approx(exponent)
    assert fit.factor == pytest.approx(0.003)
    assert fit.at(20) == pytest.approx(0.003 * 20**exponent)


def test_a_cost_that_each_size_has_flattens_the_line_and_the_end_tells_more() -> None:
    fit = fitted({size: 100 + size**2 for size in (1, 10, 100, 1000)})
    assert fit is not None
    assert fit.exponent < 1.5
    assert fit.last == pytest.approx(2.0, abs=0.01)


def test_noise_moves_the_exponent_little() -> None:
    fit = fitted({1: 1.2, 10: 8.5, 100: 115, 1000: 930, 10_000: 10_400})
    assert fit is not None
    assert fit.exponent == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize(
    "costs",
    [
        pytest.param({}, id="nothing"),
        pytest.param({1: 1.0, 10: 10.0}, id="two sizes"),
        pytest.param({0: 1.0, 1: 1.0, 10: 10.0}, id="two sizes and none"),
        pytest.param({1: 0.0, 10: 1.0, 100: 2.0}, id="a cost below the clock's"),
    ],
)
def test_what_tells_no_growth_has_no_fit(costs: dict[float, float]) -> None:
    assert fitted(costs) is None


async def climbed(part: Growth, breaks: type[BaseException] | None, at: int, seconds: float = 60) -> None:
    async def steady(size: int) -> None:
        part.grew((GROUP, "a list", "limit"), size, size / 1e6, fair=1.0)

    async def ours(size: int) -> None:
        part.progress = f"{size // 2} were made"
        if size >= at and breaks is not None:
            raise breaks("it broke | here")
        if size >= at:
            await asyncio.sleep(3600)
        part.grew((GROUP, "a list", "ours"), size, [size / 1e5, size / 1e5, size / 1e4], fair=1.0)

    await part.climb(GROUP, {"ours": ours, "limit": steady}, SIZES, seconds)


async def test_a_size_that_breaks_ends_its_series_and_no_other() -> None:
    part = Growth("x", "", seed=1)
    await climbed(part, RuntimeError, 100)
    ours, limit = part.record()["reached"]
    assert (ours["largest"], limit["largest"]) == (10, 1000)
    assert ours["gave"] == "100: RuntimeError: it broke | here (50 were made)"
    text = curve_tables(part.record())
    assert "ours: 10 were reached of 1,000; what gave first, at 100: RuntimeError: it broke / here" in text
    assert "limit: 1,000 were reached, the most that was asked for; nothing gave." in text
    assert "| a list: ours | 100 µs | – | – | – | – | n^1 |" in text


async def test_what_a_climb_has_found_is_kept_on_the_way(tmp_path: Path) -> None:
    into = tmp_path / "now.json"
    part = Growth("x", "", seed=1, into=into)
    assert json.loads(into.read_text())["curves"] == []
    await climbed(part, RuntimeError, 1000)
    kept = json.loads(into.read_text())
    assert [point["size"] for point in kept["curves"][0]["points"]], "before the script says that it is done"
    assert {one["series"]: one["largest"] for one in kept["reached"]} == {"ours": 100, "limit": 1000}


async def test_a_size_that_takes_too_long_is_not_reached() -> None:
    part = Growth("x", "", seed=1)
    await climbed(part, None, 1000, seconds=0.05)
    assert part.record()["reached"][0]["gave"] == "1,000: not done within 0.05 s (500 were made)"
    assert part.record()["reached"][0]["largest"] == 100
    assert part.record()["cuts"] == [
        f"{GROUP}: ours, 1,000: not done within 0.05 s (500 were made); larger sizes were not tried"
    ]


async def test_a_size_has_no_more_time_than_is_left_to_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Growth, "seconds_to_spare", 0.1)
    part = Growth("x", "", seed=1)
    await climbed(part, None, 10)
    assert part.record()["reached"][0]["gave"] == "10: not done within 0.1 s (5 were made)"


async def test_a_size_that_takes_the_machines_memory_is_broken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growing, "SPARE_MIB", float("inf"))
    part = Growth("x", "", seed=1)
    await climbed(part, None, 10)
    assert "MiB of the machine's memory were left" in part.record()["reached"][0]["gave"]
    assert asyncio.current_task() is not None
    assert not asyncio.current_task().cancelling()  # type: ignore[union-attr]


async def test_who_ends_a_climb_ends_it() -> None:
    part = Growth("x", "", seed=1)
    task = asyncio.create_task(climbed(part, None, 10))
    while not part.progress:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_series_are_compared_at_the_largest_size_that_both_reached() -> None:
    part = Growth("x", "", seed=1)
    await climbed(part, RuntimeError, 1000)
    part.compare(GROUP, "a list", "ours", "limit")
    [ratio] = with_ratios(part.record())["ratios"]
    assert ratio["group"] == f"{GROUP}, 100"
    assert (ratio["name"], ratio["of"]) == ("a list: ours", "a list: limit")
    assert ratio["value"] == pytest.approx(10)


async def test_a_comparison_follows_the_climb_and_has_a_reason_where_it_has_no_value() -> None:
    part = Growth("x", "", seed=1)
    part.compare(GROUP, "a list", "ours", "limit", to_a_limit=True)
    part.compare(GROUP, "a list", "ours", "nobody")
    before = with_ratios(part.record())["ratios"]
    assert [one["why"] for one in before] == [
        "a list: ours was not measured; a list: limit was not measured",
        "a list: ours was not measured; a list: nobody was not measured",
    ]
    await climbed(part, RuntimeError, 10**9)
    first, second = with_ratios(part.record())["ratios"]
    assert (first["group"], first["value"], first["to_a_limit"]) == (f"{GROUP}, 1,000", 10.0, True)
    assert second["why"] == "a list: ours was not measured; a list: nobody was not measured"
    assert len(part.record()["figures"]) == 2, "what was kept before is not told twice"


async def test_growth_that_is_not_fair_is_marked_at_its_end() -> None:
    part = Growth("x", "", seed=1)
    await climbed(part, RuntimeError, 10**9)
    for size in SIZES:
        part.grew((GROUP, "squares", "ours"), size, float(size**2), fair=1.0)
        part.grew((GROUP, "starts", "ours"), size, 1000 / size, "1/s")
    text = curve_tables(json.loads(json.dumps(part.record())))
    assert "| squares: ours | 100 s | 10000 s | 1000000 s | n^2.00 | **n^2.00** | n^1 |" in text
    assert "| starts: ours | 100 1/s | 10 1/s | 1 1/s | n^-1.00 | **n^-1.00** | n^0 |" in text
    assert "| a list: limit | 10 µs | 100 µs | 1 ms | n^1.00 | n^1.00 | n^1 |" in text

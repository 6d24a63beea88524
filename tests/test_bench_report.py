"""A whole run of the bench: what is kept of it, however it ends, and how people are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from measuring import PATIENCE, Part
from pictures import rows_of
from report import report
from run import BENCHES, MOST, REST, Run

BENCH = Path(__file__).parents[1] / "bench"


def part_of(name: str) -> Part:
    part = Part(name, "by values", seed=1)
    part.ratio("starts", "ours", "theirs", goal=1.05)
    part.ratio("starts", "ours", "fork", to_a_limit=True)
    part.ratio("starts", "ours", "never measured")
    part.ratio("starts", "ours", "broken")
    part.ratio("starts", "theirs", "fork", ours=False)
    part.goal("starts", "ours", at_most=1.0)
    part.add("starts", "ours", [2.0] * 3)
    part.add("starts", "theirs", [1.0] * 3)
    part.add("starts", "fork", [0.5] * 3)
    part.failed("starts", "theirs", RuntimeError("it broke"))
    part.failed("starts", "broken", RuntimeError("it broke"))
    part.cut("memory: no time")
    part.measured_with({"a-peer": "1.2"})
    return part


@pytest.fixture
def results() -> dict[str, Any]:
    ended = {"seconds": 20.0, "wall": 12.3, "cpu": 4.0, "left": ["sleep 1000"]}
    return {
        "date": "2026-01-02 03:04 UTC",
        "quick": True,
        "seed": 7,
        "seconds": 60.0,
        "processor seconds": {"of the bench": 4.0, "of all else on the machine": 1.0},
        "load": [0.1, 0.2],
        "machine": {
            "processor": "P",
            "processors": 2,
            "memory": "8 GiB",
            "system": "Linux",
            "cgroups": "v2",
        },
        "versions": {"Python": "3.11.0"},
        "benches": {
            "x": {**ended, "ended": ""},
            "y": {"seconds": 20.0, "ended": "it was not run"},
        },
        "pictures": {"drawn": ["beside-peers"], "lacking": ""},
        "parts": {"x": json.loads(json.dumps(part_of("x").record(done=True)))},
    }


def section(text: str, title: str) -> str:
    return text.partition(f"### {title}\n")[2].partition("\n###")[0]


def test_what_is_lost_missed_failed_or_lacking_is_told_first(results: dict[str, Any]) -> None:
    text = report(results, "2026-01-02-quick", "../bench/results/")
    assert (
        section(text, "Slower or larger than a peer").strip()
        == "- `x`, starts: ours is 2 times theirs (2 to 2)"
    )
    assert section(text, "Goals that are missed").strip().splitlines() == [
        "- `x`, starts: ours is 2 s, the goal is 1 s",
        "- `x`, starts: ours is 2 times theirs, the goal is ≤ 1.05",
    ]
    assert "- `x`, starts: theirs failed 1 times of 4: RuntimeError: it broke" in section(text, "What failed")
    lacking = section(text, "What was not measured")
    assert "- `y`: it was not run" in lacking
    assert "- `x`: memory: no time" in lacking
    assert "- `x`: 1 of 5 ratios, of which a figure is lacking" in lacking
    assert "- `x`, starts: ours beside broken: broken failed 1 times: RuntimeError: it broke" in lacking


def test_a_report_says_on_what_and_how_it_was_measured(results: dict[str, Any]) -> None:
    text = report(results, "2026-01-02-quick", "../bench/results/")
    for told in ("2 processors", "8 GiB", "control groups v2", "0.1 before and 0.2 after", "Python 3.11.0"):
        assert told in text
    assert "](../bench/results/2026-01-02-quick.json)" in text
    pictures = "(../bench/results/2026-01-02-quick/beside-peers"
    assert f"[![Beside peers]{pictures}.png)]{pictures}.svg)" in text
    assert "| `bench/x.py` | 12 s | 20 s | 4 s |" in text
    assert "as it should; it left 1 processes |" in text
    assert "a-peer 1.2." in text
    assert "By values" in text


def test_the_pictures_show_the_ratios_of_ours_that_have_a_value(results: dict[str, Any]) -> None:
    assert [label for label, _ in rows_of(results, to_a_limit=False)] == ["starts: ours / theirs"]
    assert [label for label, _ in rows_of(results, to_a_limit=True)] == ["starts: ours / fork"]


def test_all_scripts_together_have_no_more_time_than_promised() -> None:
    assert MOST == (300, 1800)
    assert sum(seconds.quick for seconds in BENCHES.values()) < MOST.quick - REST.quick
    assert sum(seconds.full for seconds in BENCHES.values()) < MOST.full - REST.full
    scripts = {path.stem for path in BENCH.glob("*.py") if "\n    run(main)\n" in path.read_text()}
    assert scripts == set(BENCHES), "each script has its seconds, and none is left out"


@pytest.mark.parametrize("quick", [True, False])
def test_scripts_that_take_too_long_leave_the_others_their_time_and_end_in_time(quick: bool) -> None:
    run, longer = Run([], quick), 0
    begun = run.clock
    for place, name in enumerate(run.order):
        most = run.most_of(name, run.order[place + 1 :])
        assert run.seconds_of(name) - 1 <= most <= PATIENCE * run.seconds_of(name)
        longer += most > run.seconds_of(name) + 1
        run.clock -= most  # as if it had taken all that it may
    assert longer
    whole, kept = (MOST.quick, REST.quick) if quick else (MOST.full, REST.full)
    assert begun - run.clock <= whole - kept


RUNNER = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
folder = pathlib.Path(sys.argv[2])
import run
run.HERE, run.UNFINISHED, run.RESULTS = folder, folder / "unfinished", folder / "results"
run.write_page = lambda: "the page"
run.BENCHES = {name: run.Seconds(60, 60) for name in ("good", "broken", "slow")}
sys.argv[1:] = sys.argv[3:]
run.main()
"""
SCRIPT = """
import asyncio, pathlib, sys
sys.path.insert(0, {bench!r})
from measuring import Part, arguments, run

async def main():
    part = Part.of({name!r}, __doc__, arguments(__doc__).parse_args())
    part.add("it", "before", 1.0)
    part.keep()
    pathlib.Path(__file__).with_suffix(".begun").touch()
    {then}
    part.end()

run(main)
"""


class Bench:
    """A bench of three scripts of a test."""

    def __init__(self, folder: Path, slow: str = "pass") -> None:
        self.folder = folder
        for name, then in (("good", "pass"), ("broken", "raise RuntimeError('no luck')"), ("slow", slow)):
            script = SCRIPT.format(bench=str(BENCH), name=name, then=then)
            (folder / f"{name}.py").write_text(script)

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", RUNNER, str(BENCH), str(self.folder), "--quick", *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def results(self, pattern: str) -> dict[str, Any]:
        [path] = self.folder.glob(pattern)
        assert path.with_suffix(".md").read_text().startswith("## The short run of ")
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def test_a_run_is_one_file_in_which_a_broken_script_has_its_place(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    process = bench.begin("--seed=5")
    told, _ = process.communicate(timeout=200)
    assert process.returncode == 1, told
    assert told.endswith("These broke or were ended, and are shown as such: broken.\n")
    found = bench.results("results/*-quick.json")
    assert set(found["parts"]) == {"good", "broken", "slow"}
    ended = {name: one["ended"] for name, one in found["benches"].items()}
    assert ended == {"good": "", "broken": "it ended with status 1", "slow": ""}
    assert not found["parts"]["broken"]["done"]
    why = [one["failures"] for one in found["parts"]["broken"]["figures"]]
    assert why == [[], ["RuntimeError: no luck"]]
    assert found["seed"] == 5
    assert sorted(found["order"]) == ["broken", "good", "slow"]
    assert "The newest are shown in the page." in told


def test_a_run_of_some_scripts_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    told, _ = bench.begin("good").communicate(timeout=200)
    found = bench.results("unfinished/*.json")
    assert found["benches"]["slow"]["ended"] == "it was not run"
    assert not (tmp_path / "results").exists()
    assert "the page" not in told


def test_a_script_that_there_is_not_is_refused(tmp_path: Path) -> None:
    process = Bench(tmp_path).begin("fast")
    told, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert told == "there is no bench fast; there are good, broken, slow\n"


def test_a_run_that_is_interrupted_keeps_what_it_has(tmp_path: Path) -> None:
    bench = Bench(tmp_path, slow="await asyncio.Event().wait()")
    process = bench.begin()
    deadline = time.monotonic() + 200
    while not (tmp_path / "slow.begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    told, _ = process.communicate(timeout=200)
    assert process.returncode == 1, told
    found = bench.results("unfinished/*.json")
    assert found["benches"]["slow"]["ended"] == "the bench was interrupted (SIGINT)"
    assert found["parts"]["slow"]["figures"]
    not_run = {name for name, one in found["benches"].items() if one["ended"] == "it was not run"}
    assert not_run == set(found["order"][found["order"].index("slow") + 1 :])
    assert not (tmp_path / "results").exists()

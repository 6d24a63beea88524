"""What becomes of a script of the bench, and of all that it started, when it ends or is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from guarding import remove_abandoned

BENCH = Path(__file__).parents[1] / "bench"

# The seconds of a script that waits are counted from there, however long it took to come so far.
RUNNER = """
import json, os, pathlib, sys, time
sys.path.insert(0, sys.argv[1])
import guarding
guarding.GRACE_SECONDS = float(sys.argv[4])
waits, wait = pathlib.Path(sys.argv[5]), guarding._wait
HOW = os.WEXITED | os.WNOHANG | os.WNOWAIT
def wait_from_there(process, ends_at, seconds):
    while not waits.exists() and os.waitid(os.P_PID, process.pid, HOW) is None:
        time.sleep(0.02)
    return wait(process, time.monotonic() + seconds, seconds)
guarding._wait = wait_from_there
guarding.adopt_orphans()
outcome = guarding.guarded([sys.executable, sys.argv[2]], float(sys.argv[3]))
print(json.dumps(vars(outcome)), flush=True)
"""
SCRIPT = """
import asyncio, os, pathlib, subprocess, sys, tempfile
sys.path.insert(0, {bench!r})
from measuring import Part, run

waits = pathlib.Path({into!r} + ".waits")

async def main():
    part = Part("x", "", into=pathlib.Path({into!r}))
    pathlib.Path(tempfile.mkdtemp(), "big").touch()
    # One that leaves its session and its parent, and does not hear SIGTERM.
    subprocess.run(["sh", "-c", "setsid sh -c 'trap \\"\\" TERM; sleep 1000 & wait' >/dev/null 2>&1 &"])
    try:
        part.add("it", "before", 1.0)
        part.keep()
        pathlib.Path({into!r} + ".pids").write_text(str(os.getpid()) + " " + tempfile.gettempdir())
        while not pathlib.Path({into!r} + ".seen").exists():
            await asyncio.sleep(0.02)
        {then}
        part.end()
    finally:
        pathlib.Path({into!r} + ".ended").touch()

run(main)
"""


class Running:
    """A runner, and the script that it runs."""

    def __init__(self, folder: Path, then: str, seconds: float = 60, grace: float = 60) -> None:
        self.into = folder / "x.json"
        script = folder / "script.py"
        script.write_text(SCRIPT.format(bench=str(BENCH), into=str(self.into), then=then))
        waits = f"{self.into}.waits"
        command = [sys.executable, "-c", RUNNER, str(BENCH), str(script), str(seconds), str(grace), waits]
        environment = {**os.environ, "TMPDIR": str(folder)}
        self.runner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        self.processes: list[psutil.Process] = []

    def begun(self) -> int:
        """Return the script's process as soon as it has written what it has."""
        deadline, told = time.monotonic() + 60, self.into.with_name("x.json.pids")
        while not (told.exists() and " " in told.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        pid, folder = told.read_text().split()
        self.folder = Path(folder)
        while len(self.processes) < 3:  # the script, and the two that it started
            assert time.monotonic() < deadline
            self.processes = [
                one for one in psutil.process_iter() if one.pid == int(pid) or self._belongs(one, folder)
            ]
        self.into.with_name("x.json.seen").touch()
        return int(pid)

    def _belongs(self, process: psutil.Process, folder: str) -> bool:
        try:
            return process.environ().get("TMPDIR") == folder
        except psutil.Error:
            return False

    def outcome(self) -> dict[str, object]:
        """Return how it ended; nothing of it is left."""
        told, _ = self.runner.communicate(timeout=60)
        assert [one for one in self.processes if one.is_running()] == []
        assert not self.folder.exists()
        found: dict[str, object] = json.loads(told.splitlines()[-1])
        return found

    def kept(self) -> dict[str, object]:
        """Return the record."""
        found: dict[str, object] = json.loads(self.into.read_text())
        return found

    @property
    def ended_by_itself(self) -> bool:
        """Whether the script came to its ``finally``."""
        return self.into.with_name("x.json.ended").exists()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    for process in psutil.process_iter():
        try:
            if str(tmp_path) in " ".join(process.cmdline()):
                process.kill()
        except psutil.Error:
            continue


def test_folders_of_runs_that_were_killed_are_removed_by_the_next(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    kept = [f"hb-{os.getpid()}-x", f"other-{ended.pid}-x", "hb-x-y"]
    for name in (*kept, f"hb-{ended.pid}-x"):
        (tmp_path / name / "within").mkdir(parents=True)
    remove_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


FOR_EVER = "waits.touch(); await asyncio.Event().wait()"


def test_what_a_script_leaves_is_ended_and_told(folder: Path) -> None:
    running = Running(folder, "pass")
    running.begun()
    outcome = running.outcome()
    assert outcome["failure"] == ""
    assert any("sleep 1000" in one for one in outcome["left"])  # type: ignore[attr-defined]
    assert outcome["cpu"] > 0  # type: ignore[operator]
    assert running.kept()["done"]


def test_a_script_that_breaks_is_told(folder: Path) -> None:
    running = Running(folder, "raise SystemExit(3)")
    running.begun()
    assert running.outcome()["failure"] == "it ended with status 3"


def test_a_script_that_takes_too_long_is_told_to_end_and_keeps_its_figures(folder: Path) -> None:
    running = Running(folder, FOR_EVER, seconds=1)
    running.begun()
    outcome = running.outcome()
    assert outcome["failure"] == "it was not done in 1 s, and was told to end"
    assert not outcome["interrupted"]
    assert running.ended_by_itself
    assert running.kept()["figures"]
    assert not running.kept()["done"]


def test_a_script_that_does_not_end_when_told_is_killed(folder: Path) -> None:
    deaf = "import signal, time; asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM); "
    deaf += "signal.signal(signal.SIGTERM, signal.SIG_IGN); waits.touch(); time.sleep(1000)"
    running = Running(folder, deaf, seconds=1, grace=0.2)
    running.begun()
    assert running.outcome()["failure"] == "it was not done in 1 s, and was told to end"
    assert not running.ended_by_itself
    assert running.kept()["figures"]


def test_a_script_that_is_killed_leaves_nothing_but_its_figures(folder: Path) -> None:
    running = Running(folder, FOR_EVER)
    os.kill(running.begun(), signal.SIGKILL)
    assert running.outcome()["failure"] == "it was killed (SIGKILL)"
    assert running.kept()["figures"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_bench_that_is_interrupted_ends_its_script_first(folder: Path, signum: signal.Signals) -> None:
    running = Running(folder, FOR_EVER)
    running.begun()
    running.runner.send_signal(signum)
    outcome = running.outcome()
    assert outcome["failure"] == f"the bench was interrupted ({signum.name})"
    assert outcome["interrupted"]
    assert running.ended_by_itself


def test_a_script_whose_bench_is_killed_ends_what_it_has_started(folder: Path) -> None:
    running = Running(folder, FOR_EVER)
    script = psutil.Process(running.begun())
    running.runner.kill()
    running.runner.wait()
    script.wait(60)
    assert running.ended_by_itself
    for process in running.processes:  # whom nobody knew any more
        if process.is_running():
            process.kill()

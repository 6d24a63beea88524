"""The whole-journey program, as a person runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

JOURNEY = Path(__file__).parents[2] / "examples" / "journey.py"


def test_the_whole_journey() -> None:
    done = subprocess.run(
        [sys.executable, str(JOURNEY), "--fresh"], capture_output=True, text=True, timeout=500
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "The journey is done." in done.stdout


def test_a_journey_to_nowhere_says_so_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "backend_token").write_text("none")
    done = subprocess.run(
        [sys.executable, str(JOURNEY), "--url=http://127.0.0.1:9", f"--state={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 1
    assert "FAILED at “log in”" in done.stderr
    assert "Traceback" not in done.stderr

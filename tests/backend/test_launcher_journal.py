"""What a launcher that dies leaves to the next: its journal, and running tasks."""

from __future__ import annotations

import json
import os
import pwd
import resource
import signal
import stat
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from launching import (
    DAEMON,
    DEADLINE,
    PATH,
    Home,
    as_root,
    is_gone,
    lives,
    wait_until,
)

from hubfleet.backend.drivers.proctree import boot_id, read_process

# A launcher that dies


def test_a_task_outlives_the_launcher_and_is_found_again(home: Home) -> None:
    first = home.launch()
    order = home.order("task", f"{DAEMON}; exec sleep 60")
    pid = first.ask("start", **order)["ok"]["pid"]
    orphan = home.pid_from("task")
    home.kill_launcher(first)
    assert lives(pid)

    second = home.launch()
    assert second.tasks()[home.id_of("task")]["pid"] == pid
    assert second.ask("start", **order)["ok"]["pid"] == pid
    second.ask("signal", task_id=home.id_of("task"), signal=9)
    # It was not this launcher's child, so how it ended cannot be known; what it left is swept all the same.
    assert second.exit_of(home.id_of("task")) == (None, None)
    assert not lives(pid)
    assert not lives(orphan)


def test_a_task_that_ends_while_no_launcher_runs_has_ended_unknown(home: Home) -> None:
    first = home.launch()
    pid = first.ask("start", **home.order("task", f"{DAEMON}; exec sleep 60"))["ok"]["pid"]
    orphan = home.pid_from("task")
    home.kill_launcher(first)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not lives(pid), "the task ends")

    second = home.launch()
    task = wait_until(lambda: (t := second.tasks()[home.id_of("task")])["ended"] and t, "the task is swept")
    assert (task["exit_code"], task["signal"]) == (None, None)
    assert not lives(orphan)


def test_an_exit_that_was_told_once_is_known_to_the_next_launcher(home: Home) -> None:
    first = home.launch()
    first.ask("start", **home.order("task", "exit 7"))
    first.exit_of(home.id_of("task"))
    home.kill_launcher(first)
    task = home.launch().tasks()[home.id_of("task")]
    assert (task["ended"], task["exit_code"]) == (True, 7)


def test_nothing_runs_that_a_killed_launcher_did_not_journal(home: Home) -> None:
    """Killed at some point of a burst of starts; where it is killed differs from round to round."""
    for round_number in range(5):
        launcher = home.launch()
        pid = launcher.ask("hello")["ok"]["pid"]
        for number in range(20):
            launcher.send("start", **home.order(f"{round_number}.{number}", ["sleep", "60"]))
        time.sleep(0.004 * round_number)
        os.kill(pid, signal.SIGKILL)
        wait_until(partial(is_gone, pid), "the launcher dies")
        known = {task["pid"] for task in home.launch().tasks().values() if not task["ended"]}
        marker = f".{home.name}".encode()
        running = set()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and b"HUBFLEET_TASK=" in (text := (entry / "environ").read_bytes()):
                    running |= {int(entry.name)} if marker in text else set()
            except OSError:
                continue
        assert running <= known


def test_a_process_that_was_not_journaled_ends_without_a_trace(tmp_path: Path) -> None:
    """The gap between fork and journal: whoever forked dies before the release."""
    script = textwrap.dedent(
        f"""
        import os, signal
        from hubfleet.backend.drivers.fork import fork_task
        from hubfleet.backend.drivers.order import Order
        order = Order("gap", ["touch", "{tmp_path}/ran"], {{"PATH": "{PATH}"}}, "{tmp_path}/sandbox", None)
        print(fork_task(order).pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    result = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=DEADLINE)
    assert result.returncode == -signal.SIGKILL
    wait_until(lambda: not lives(int(result.stdout)), "the forked process ends")
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_cannot_be_journaled_is_not_started(home: Home) -> None:
    launcher = home.launch()
    pid = launcher.ask("hello")["ok"]["pid"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    reply = launcher.ask("start", **home.order("task", ["true"]))
    assert "journal cannot be written" in reply["error"]
    assert not reply["refused"]
    assert launcher.tasks() == {}
    assert not home.sandbox("task").exists()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "ok" in launcher.ask("start", **home.order("task", ["true"]))


def test_an_exit_is_told_even_if_the_disk_is_full_and_journaled_once_it_is_not(home: Home) -> None:
    launcher = home.launch()
    pid = launcher.ask("hello")["ok"]["pid"]
    launcher.ask("start", **home.order("task", ["sleep", "60"]))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    launcher.ask("signal", task_id=home.id_of("task"), signal=9)
    assert launcher.exit_of(home.id_of("task")) == (None, 9)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal = home.state_dir / "launcher.journal"
    wait_until(lambda: '"exit"' in journal.read_text(), "the exit is journaled")


# The journal


def write_journal(home: Home, *lines: dict[str, Any], torn: str = "") -> None:
    home.state_dir.mkdir(parents=True, mode=0o700)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (home.state_dir / "launcher.journal").write_text(text + torn)


def start_line(task_id: str, pid: int, started: int, boot: str) -> dict[str, Any]:
    return {
        "event": "start",
        "task_id": task_id,
        "pid": pid,
        "started": started,
        "boot": boot,
        "sandbox": "/s",
    }


@pytest.mark.parametrize("stale", ["start time", "boot"])
def test_a_stranger_with_a_reused_process_id_is_not_taken_for_the_task(home: Home, stale: str) -> None:
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        process = read_process(stranger.pid)
        assert process is not None
        started = process.started - 1 if stale == "start time" else process.started
        boot = boot_id() if stale == "start time" else "another-boot"
        write_journal(home, start_line("task", stranger.pid, started, boot))
        launcher = home.launch()
        task = wait_until(lambda: (t := launcher.tasks()["task"])["ended"] and t, "the task is swept")
        assert (task["exit_code"], task["signal"]) == (None, None)
        launcher.ask("signal", task_id="task", signal=9)
        launcher.ask("hello")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_lost_journal_loses_no_running_task(home: Home) -> None:
    launcher = home.launch()
    launcher.ask("start", **home.order("kept", "sleep 60 & wait"))
    launcher.ask("start", **home.order("left", "sleep 60 & echo $! > pid; exec sleep 60"))
    kept, left = (launcher.tasks()[home.id_of(name)]["pid"] for name in ("kept", "left"))
    remains = home.pid_from("left")
    home.kill_launcher(launcher)
    (home.state_dir / "launcher.journal").unlink()
    os.kill(left, signal.SIGKILL)
    wait_until(lambda: is_gone(left), "the task ends")
    launcher = home.launch()
    ended = wait_until(lambda: (t := launcher.tasks()[home.id_of("left")])["ended"] and t, "it is swept")
    assert (ended["exit_code"], ended["signal"]) == (None, None)
    wait_until(lambda: is_gone(remains), "what it left behind is gone")
    assert launcher.tasks()[home.id_of("kept")] == {
        "task_id": home.id_of("kept"),
        "pid": kept,
        "sandbox": str(home.sandbox("kept")),
        "ended": False,
        "exit_code": None,
        "signal": None,
        "excess": None,
        "mem": 0,
    }
    launcher.ask("signal", task_id=home.id_of("kept"), signal=9)
    assert launcher.exit_of(home.id_of("kept")) == (None, None)
    wait_until(lambda: is_gone(kept), "the task is signalled")


@pytest.mark.parametrize("place", ["nowhere", "elsewhere", pytest.param("anothers", marks=as_root)])
def test_a_process_that_only_says_that_it_is_a_task_is_not_believed(home: Home, place: str) -> None:
    task_id = home.id_of("task")
    if place == "elsewhere":
        task_id = f"../{task_id}"
        (home.state_dir / home.id_of("task")).mkdir(parents=True)
    elif place == "anothers":
        home.sandbox("task").mkdir(parents=True)
        os.chown(home.sandbox("task"), pwd.getpwnam("nobody").pw_uid, -1)
    liar = subprocess.Popen(["sleep", "60"], start_new_session=True, env={"HUBFLEET_TASK": task_id})
    try:
        assert home.launch().tasks() == {}
        assert liar.poll() is None
    finally:
        liar.kill()
        liar.wait()


def test_a_line_torn_by_a_crash_costs_nothing_but_itself(home: Home) -> None:
    lines = [
        start_line("kept", 2, 1, "another-boot"),
        {"event": "exit", "task_id": "kept", "exit_code": 3, "signal": None},
        start_line("forgotten", 2, 1, "another-boot"),
        {"event": "exit", "task_id": "forgotten", "exit_code": 0, "signal": None},
        {"event": "forget", "task_id": "forgotten"},
        {"event": "nonsense", "task_id": "x"},
    ]
    write_journal(home, *lines, torn='{"event": "start", "task_id": "torn", "pi')
    launcher = home.launch()
    assert {name: task["exit_code"] for name, task in launcher.tasks().items()} == {"kept": 3}
    # It has been rewritten, so that what comes next is a line of its own.
    journal = [json.loads(line) for line in (home.state_dir / "launcher.journal").read_text().splitlines()]
    assert [line["event"] for line in journal] == ["start", "exit"]


def test_the_journal_holds_no_secret_and_is_for_its_owner_only(home: Home) -> None:
    launcher = home.launch()
    environment = {"PATH": PATH, "TOKEN": "hunter2"}
    launcher.ask("start", **home.order("task", ["sleep", "60"], environment=environment))
    launcher.ask("start", **home.order("other", "exit 0 # hunter2"))
    launcher.exit_of(home.id_of("other"))
    for name in ("launcher.journal", "launcher.sock", "launcher.lock", "launcher.log"):
        assert stat.S_IMODE((home.state_dir / name).stat().st_mode) == 0o600, name
        if name != "launcher.sock":
            assert "hunter2" not in (home.state_dir / name).read_text()
    assert stat.S_IMODE(home.state_dir.stat().st_mode) == 0o700

"""What belongs to a way that is measured: its processes, what they used, and their end."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from driven import last_line
from family import Family, descended, spent
from journey import Failed
from journeys import CLOSE, CLUSTERS, wait_until_gone

from workers import FULL, GATEWAY, KINDS, LIMITS, QUICK, ways

# A child in a session of its own, which outlives its parent and does not carry the mark.
RUNAWAY = """
import os, subprocess, sys
child = subprocess.Popen(["sleep", "600"], start_new_session=True, env={})
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_what_descends_from_a_process_belongs_to_its_family() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 5}
    assert descended({2}, parents) == {2, 3, 4}
    assert descended({3, 6}, parents) == {3, 4, 6}
    assert descended(set(), parents) == set()


def test_what_was_used_counts_processes_that_came_and_takes_off_what_was_counted_before() -> None:
    old, other, new = (1, 0.0), (2, 0.0), (3, 5.0)
    assert spent({old: 1.0}, {old: 1.5, new: 2.0}) == 2.5
    # The other ended, and its parent now shows the 3 s that it had used in all, of which 2 were before.
    assert spent({old: 1.0, other: 2.0}, {old: 4.5}) == 1.5
    # Nobody waited for it: what it used is not known, and is never less than nothing.
    assert spent({old: 1.0, other: 2.0}, {old: 1.0}) == 0.0
    # An id that is used again is another process.
    assert spent({(7, 1.0): 9.0, old: 1.0}, {(7, 2.0): 0.5, old: 11.0}) == 1.5


def test_a_family_ends_with_all_that_left_their_parents() -> None:
    family = Family.new()
    stranger = subprocess.Popen(["sleep", "600"])
    parent = subprocess.Popen(
        [sys.executable, "-c", RUNAWAY],
        env=family.environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert {process.pid for process in family.processes()} == {parent.pid, child}
        assert family.memory() > family.memory(without=[parent.pid]) > 0
        assert set(family.and_(Family.new()).cpu()) == set(family.cpu())
        family.end()
        parent.wait()
        deadline = time.monotonic() + 60
        while not has_ended(child):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert stranger.poll() is None, "what does not carry the mark goes on"
    finally:
        for process in (parent, stranger):
            process.kill()
            process.wait()


def has_ended(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_journey_is_over_when_nothing_is_left_that_was_not_there_before() -> None:
    family = Family.new()
    # Each waits for its input. A template shows nothing but its title, which psutil then takes apart.
    names = ("cat", "cat", "hubfleet: template of workers")
    there, came, template = (
        subprocess.Popen([name], executable="cat", stdin=subprocess.PIPE, env=family.environment())
        for name in names
    )
    try:
        wait_until_gone(family, {there.pid, came.pid}, 60)
        with pytest.raises(Failed, match=f"still .*pid={came.pid}"):
            wait_until_gone(family, {there.pid}, 0.1)
        came.kill()
        came.wait()
        wait_until_gone(family, {there.pid}, 60)
    finally:
        for process in (there, came, template):
            process.kill()
            process.communicate()


@pytest.mark.parametrize("way", CLUSTERS)
def test_the_cells_of_a_journey_are_python(way: str) -> None:
    settings = {"address": "http://127.0.0.1:1", "proxy_address": "gateway://127.0.0.1:2"}
    compile(CLUSTERS[way].format(settings=settings), way, "exec")
    assert way in CLOSE


def test_the_last_error_of_a_log_is_told(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("FirstError: a\n  OSError: no such command\n\nand so on\n")
    assert last_line(log) == "and so on"
    assert last_line(log, "Error: ") == "OSError: no such command"
    assert last_line(log, "Warning") == "its log says nothing"


def test_every_manager_is_measured_with_encryption_and_without_where_it_can() -> None:
    found = ways(*KINDS, *LIMITS)
    assert found["ours, TLS"] == ("ours", True)
    assert found["ours, plain"] == ("ours", False)
    assert f"{GATEWAY}, TLS" in found
    assert f"{GATEWAY}, plain" not in found, "it has no such clusters"
    assert {kind for kind, _ in found.values()} == {*KINDS, *LIMITS}
    assert {encrypted for kind, encrypted in found.values() if kind in LIMITS} == {False}
    assert set(ways("ours", plain=False)) == {"ours, TLS"}


def test_every_manager_has_a_turn_in_both_runs_and_every_phase_its_time() -> None:
    for sizes in (QUICK, FULL):
        every = [*sizes.up.values(), sizes.first, *sizes.down.values()]
        assert sum(size.share for size in every) == pytest.approx(1)
        assert any(size.seldom for size in sizes.up.values())
    assert (set(FULL.up), set(FULL.down)) == ({8, 16, 64}, {16})

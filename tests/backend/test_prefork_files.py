"""A template's note of the disk: it sees every change, and writes to little memory when it looks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hubfleet.backend.drivers.prefork.files import Files


def append(path: Path) -> None:
    before = path.stat()
    with path.open("a") as file:
        file.write("more")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def touch(path: Path) -> None:
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))


def replace(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_text(path.read_text())
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


@pytest.mark.parametrize("change", [append, touch, replace, Path.unlink])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_change_is_seen(tmp_path: Path, change: Callable[[Path], None], which: int) -> None:
    paths = [tmp_path / name for name in ("first", "the second", "d\u00e4 last")]
    for path in paths:
        path.write_text("something")
    files = Files(map(str, paths))
    assert files.changed() == ""
    change(paths[which])
    assert files.changed() == str(paths[which])


def test_what_was_not_there_is_missed_when_it_comes(tmp_path: Path) -> None:
    missing, last = str(tmp_path / "missing"), str(tmp_path)
    files = Files([missing, last, missing])
    assert list(files) == [missing, last], "each once"
    assert files.changed() == ""
    Path(missing).touch()
    assert files.changed() == missing


def test_nothing_to_note_is_nothing_changed() -> None:
    assert list(Files([])) == []
    assert Files([]).changed() == ""


# Says how many pages a forked process writes to when it looks at some thousand files.
LOOK = """
import gc, os, resource, sys
from hubfleet.backend.drivers.prefork.files import Files

between = []
def paths():
    for number in range(3000):
        between.append(bytearray(300))  # the paths of modules are not in a row in memory
        yield f"{sys.argv[1]}/{number:0200}"

files = Files(paths())
gc.freeze()
if os.fork() == 0:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    files.changed()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, flush=True)
    os._exit(0)
os.wait()
"""


def test_a_look_at_the_files_copies_few_pages(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(tmp_path)], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 120, "with objects for each path, it was 230"

"""What tasks use, read from ``/proc``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from .base import Usage
from .proctree import Process, Snapshot, read_process

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def measure(leaders: Mapping[str, int]) -> dict[str, Usage]:
    """Return what running tasks use.

    Blocks for 10 to 20 microseconds for each process of the machine, and for a millisecond or
    more for each process of a large task.

    Parameters
    ----------
    leaders
        The process id of each task's first process. A task whose first process is gone is left out.
    """
    alive = {
        task_id: process
        for task_id, pid in leaders.items()
        if (process := read_process(pid)) is not None and not process.dead
    }
    if not alive:
        return {}
    snapshot = Snapshot(
        {process.pid for process in alive.values()},
        since=min(process.started for process in alive.values()),
    )
    return {
        task_id: _sum(snapshot.of_task(task_id, leader.identity, (), leader_was_watched=True))
        for task_id, leader in alive.items()
    }


def _sum(processes: Iterable[Process]) -> Usage:
    cpu_seconds, rss, count = 0.0, 0, 0
    pss: int | None = 0
    for process in processes:
        try:
            stat = (_PROC / str(process.pid) / "stat").read_bytes()
            pages = (_PROC / str(process.pid) / "statm").read_bytes().split()[1]
        except (FileNotFoundError, ProcessLookupError):
            continue
        # utime, stime, and those of the children that it has waited for.
        cpu_seconds += sum(map(int, stat[stat.rindex(b")") + 2 :].split()[11:15])) / _TICKS
        rss += int(pages) * _PAGE
        count += 1
        if pss is not None:
            pss = None if (own := proportional(process.pid)) is None else pss + own
    return Usage(cpu_seconds, rss, pss, count)


def proportional(pid: int) -> int | None:
    """Return the PSS of a process in bytes; 0 if it is gone, None if it cannot be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError):
        if (_PROC / str(pid)).exists() and not (_PROC / str(pid) / "smaps_rollup").exists():
            return None  # Linux before 4.14
    except PermissionError:
        return None
    return 0

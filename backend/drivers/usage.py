"""What tasks use, read from their control groups where they have them, and from ``/proc``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from .base import Usage
from .isolation.cgroups import Groups, limit_of
from .isolation.limits import proportional, resident
from .proctree import Snapshot, read_process

_TICKS = os.sysconf("SC_CLK_TCK")


def measure(tasks: Mapping[str, tuple[int, float]], groups: Groups) -> dict[str, Usage]:
    """Return what running tasks use.

    Blocks for some tens of microseconds for each process, and for a millisecond or more for each
    of a large task.

    Parameters
    ----------
    tasks
        The process id of each task's first process, and the MiB that it may use. A task whose
        first process is gone is left out.
    groups
        The control groups of the tasks.
    """
    alive = {
        task_id: process
        for task_id, (pid, _) in tasks.items()
        if (process := read_process(pid)) is not None and not process.dead
    }
    processes = {task_id: groups.processes(task_id) for task_id in alive}
    if bare := {task_id: alive[task_id] for task_id, found in processes.items() if not found}:
        since = min(process.started for process in bare.values())
        snapshot = Snapshot({process.pid for process in bare.values()}, since)
        for task_id, leader in bare.items():
            found = snapshot.of_task(task_id, leader.identity, (), leader_was_watched=True)
            processes[task_id] = [process.pid for process in found]
    return {task_id: _usage(task_id, processes[task_id], tasks[task_id][1], groups) for task_id in alive}


def _usage(task_id: str, processes: Iterable[int], mem: float, groups: Groups) -> Usage:
    cpu_seconds, rss, count = 0.0, 0, 0
    pss: int | None = 0
    for pid in processes:
        seconds = _cpu_seconds(pid)
        if seconds is None:
            continue
        cpu_seconds += seconds
        count += 1
        rss += resident(pid)
        if pss is not None:
            pss = None if (share := proportional(pid)) is None else pss + share
    whole = groups.cpu_seconds(task_id)
    return Usage(
        cpu_seconds if whole is None else whole,
        rss,
        pss,
        count,
        mem_limit=limit_of(mem) or None,
        oom_kills=groups.oom_kills(task_id),
    )


def _cpu_seconds(pid: int) -> float | None:
    """Return the time of a process and of the children it has waited for; None if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    return sum(map(int, stat[stat.rindex(b")") + 2 :].split()[11:15])) / _TICKS

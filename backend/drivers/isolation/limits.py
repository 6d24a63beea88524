"""Holding tasks to the memory that they have reserved.

Where the kernel does it, by control groups, it kills what asked for more, but only one process, and tells
nobody: the rest of the task is ended here, as Mesos ends it. Elsewhere the use is measured, so a task can be
above its limit for as long as a look takes to come round.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

from .cgroups import Groups, limit_of

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PAUSE = 0.25
_SHARE = 0.02  # of one processor, that looking may take

Ids = Callable[[str], Iterable[int]]
"""Gives the process ids of a task."""


class Limits:
    """The limits of one launcher's tasks."""

    def __init__(self, groups: Groups) -> None:
        self._groups = groups
        self._due = 0.0

    def look(self, limited: Iterable[tuple[str, float]], ids: Ids) -> tuple[dict[str, str], float | None]:
        """Return which tasks have used too much, with the reason, and when to look again.

        Parameters
        ----------
        limited
            The running tasks that have a limit, with the MiB that they have reserved.
        ids
            Asked for the processes of those that have to be measured.
        """
        tasks = list(limited)
        if not tasks:
            return {}, None
        begun = time.monotonic()
        if begun < self._due:
            return {}, self._due
        found = {task_id: reason for task_id, mem in tasks if (reason := self._excess(task_id, mem, ids))}
        now = time.monotonic()
        self._due = now + max(_PAUSE, (now - begun) / _SHARE)
        return found, self._due

    def was_exceeded(self, task_id: str, mem: float) -> str | None:
        """Return how much too much a task used that has just ended, if the kernel saw it."""
        if mem > 0 and self._groups.limits_memory(task_id) and self._groups.oom_kills(task_id):
            limit = limit_of(mem)
            return _reason(max(self._groups.peak(task_id), limit), limit)
        return None

    def _excess(self, task_id: str, mem: float, ids: Ids) -> str | None:
        if self._groups.limits_memory(task_id):
            return self.was_exceeded(task_id, mem)
        limit = limit_of(mem)
        processes = list(ids(task_id))
        # Pages that processes share count for each, so if this is not too much nothing is; and it is cheap.
        if sum(map(resident, processes)) <= limit:
            return None
        used = 0
        for pid in processes:
            share = proportional(pid)
            used += _private(pid) if share is None else share
        return _reason(used, limit) if used > limit else None


def _reason(used: int, limit: int) -> str:
    return f"used {used / (1 << 20):.0f} MiB of {limit / (1 << 20):.0f} MiB"


def resident(pid: int) -> int:
    """Return the RSS of a process in bytes; 0 if it is gone."""
    return int(_statm(pid)[1]) * _PAGE


def proportional(pid: int) -> int | None:
    """Return the PSS of a process in bytes; 0 if it is gone, None if it cannot be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except PermissionError:
        return None
    except OSError:
        # Gone, or a kernel before 4.14.
        return None if os.path.exists(f"/proc/{pid}/statm") else 0
    return 0


def _private(pid: int) -> int:
    pages = _statm(pid)
    return (int(pages[1]) - int(pages[2])) * _PAGE


def _statm(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return file.read().split()
    except OSError:
        return [b"0"] * 7

"""The processes of one way that is measured: what they use, what memory they take, and their end.

A peer's processes leave their parents and their sessions, so that no tree holds them all. They are known by a
mark that is in the environment of the first, or by a folder that is named in their environment or command
line; whatever descends from such a process belongs to the family as well.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Collection, Iterable, Mapping

import psutil

from hubfleet.backend.drivers.usage import proportional

VARIABLE = "BENCH_FAMILY"
MIB = 1 << 20
Known = tuple[int, float]
"""A process: its id, and when it began, as ids are used again."""


class Family:
    """What carries a mark.

    Parameters
    ----------
    marks
        Texts that are in the environment or the command line of its processes and of no other's, such as the
        path of a folder that is theirs. Of `new`, they are made up.
    """

    def __init__(self, *marks: str) -> None:
        self.marks = marks

    @classmethod
    def new(cls) -> Family:
        """Return one that nobody belongs to yet."""
        return cls(secrets.token_hex(16))

    def and_(self, *others: Family) -> Family:
        """Return what all of them are together."""
        return Family(*self.marks, *(mark for other in others for mark in other.marks))

    def environment(self, variables: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return an environment that makes a process a member."""
        return {**variables, VARIABLE: self.marks[0]}

    def processes(self) -> list[psutil.Process]:
        """Return all of them, but for this process."""
        parents, carriers = {}, set()
        found = {}
        for process in psutil.process_iter():
            try:
                parents[process.pid] = process.ppid()
                told = " ".join([*process.environ().values(), *process.cmdline()])
            except psutil.Error:
                continue
            found[process.pid] = process
            if any(mark in told for mark in self.marks):
                carriers.add(process.pid)
        return [found[pid] for pid in descended(carriers, parents) if pid in found and pid != os.getpid()]

    def cpu(self) -> dict[Known, float]:
        """Return the processor seconds of each so far, with those of the children that it waited for."""
        used = {}
        for process in self.processes():
            try:
                times = process.cpu_times()
                known = process.pid, process.create_time()
            except psutil.Error:
                continue
            used[known] = float(times.user + times.system + times.children_user + times.children_system)
        return used

    def memory(self, without: Collection[int] = ()) -> float:
        """Return the MiB that all of them have: what several share counts once (PSS)."""
        return memory_of(process.pid for process in self.processes() if process.pid not in without)

    def end(self, seconds: float = 20) -> None:
        """Kill them, until there is none."""
        ends_at = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < ends_at, f"these processes cannot be killed: {left}"
            for process in left:
                try:
                    process.kill()
                except psutil.Error:
                    continue
            psutil.wait_procs(left, timeout=0.5)


def descended(carriers: Collection[int], parents: Mapping[int, int]) -> set[int]:
    """Return those ids and all ids below them, by the parent of each."""
    found = set(carriers)
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found


def spent(before: Mapping[Known, float], after: Mapping[Known, float]) -> float:
    """Return what was used between two looks at a family.

    Time of a process that began and ended between them is its parent's, if the parent waited for it. Of one
    that was there before and has ended, that parent's is taken for more by what it had used before; it is
    taken off again.
    """
    gone = sum(seconds for known, seconds in before.items() if known not in after)
    rise = sum(seconds - before.get(known, 0.0) for known, seconds in after.items())
    return max(0.0, rise - gone)


def memory_of(pids: Iterable[int]) -> float:
    """Return the MiB of some processes: of pages that many share, each has its part (PSS)."""
    return sum(proportional(pid) or 0 for pid in pids) / MIB

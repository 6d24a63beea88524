"""Control groups of tasks: what holds each to its memory, shares the processors, and finds all its processes.

Each task has a group of its own in every hierarchy that can be used, within one group of the state
directory::

    <our own group>/hubfleet-<device>-<inode of the state directory>/t-<task id>

So two backends do not meet, a launcher finds the groups of the one before it, and what nobody owns any more
can be told and removed. Of version 2 and version 1 (or both at once, as ``systemd`` calls hybrid) each
controller is used where it is.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Container, Mapping

LEAST_MEMORY = 32 << 20
"""Bytes below which no task is limited (Mesos' MIN_MEMORY): less does not even start an interpreter."""

CONTROLLERS = ("memory", "cpu", "pids")
TRACKERS = ("freezer", "cpuacct")
"""Of use where there is no version 2: to stop a task that forks, and to count its time."""
UNIFIED = "unified"
"""Our name for version 2's own hierarchy, which tells processes, time and kills without any controller."""

PREFIX, TASK = "hubfleet-", "t-"
_NO_LIMIT = 1 << 62
_MOST_PIDS, _PIDS_PER_CPU = 4096, 256


def limit_of(mem: float) -> int:
    """Return the bytes that a task may use which reserves so many MiB; 0 for no limit."""
    return max(int(mem * (1 << 20)), LEAST_MEMORY) if mem > 0 else 0


class Groups:
    """The groups of one state directory's tasks.

    Parameters
    ----------
    bases
        For each controller that can be used the directory that holds the tasks' groups.
    """

    def __init__(self, bases: Mapping[str, str]) -> None:
        self.bases = dict(bases)
        self._locks: list[int] = []
        self._unremoved: set[str] = set()

    @property
    def pending(self) -> bool:
        """Whether groups of ended tasks could not be removed yet."""
        return bool(self._unremoved)

    def make(self, task_id: str, cpus: float, mem: float) -> list[str]:
        """Make the groups of a task; return the files that a process enters them by.

        Raises
        ------
        OSError
            If one cannot be made or limited. None is left then.
        """
        if "/" in task_id or "\n" in task_id:
            raise OSError(errno.EINVAL, "a group cannot have the task's name")
        try:
            for base in self._directories():
                os.mkdir(_join(base, task_id))
            if "cpu" in self.bases:
                self._share(task_id, cpus)
            if "pids" in self.bases:
                most = max(_MOST_PIDS, _PIDS_PER_CPU * (os.cpu_count() or 1))
                write(self._path("pids", task_id, "pids.max"), str(most))
            if "memory" in self.bases and mem > 0:
                self._limit(task_id, limit_of(mem))
        except OSError:
            self.remove(task_id)
            raise
        return self.entrances(task_id)

    def entrances(self, task_id: str) -> list[str]:
        """Return the files that a process enters the groups of a task by."""
        files = [os.path.join(_join(base, task_id), "cgroup.procs") for base in self._directories()]
        return [file for file in files if os.path.exists(file)]

    def limits_memory(self, task_id: str) -> bool:
        """Whether the kernel holds a task to its memory."""
        return "memory" in self.bases and os.path.exists(_join(self.bases["memory"], task_id))

    def limit(self, task_id: str) -> int:
        """Return the bytes that the kernel lets a task use; 0 where it sets no limit."""
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = read(self._path("memory", task_id, name))
            if text.isdigit() and int(text) < _NO_LIMIT:
                return int(text)
        return 0

    def processes(self, task_id: str) -> list[int]:
        """Return the ids of a task's processes, wherever they have gone in the process tree."""
        for base in self._directories():
            # What a task makes of groups below its own, as root may, is its own too.
            return [pid for parent, _, _ in os.walk(_join(base, task_id)) for pid in _pids(parent)]
        return []

    def kill(self, task_id: str) -> None:
        """Kill all of a task's processes at once, or those that are seen while the task stands still."""
        unified = self._path(UNIFIED, task_id, "cgroup.kill")
        if unified and attempt(unified, "1"):
            return
        frozen = self._path("freezer", task_id, "freezer.state")
        if frozen:
            attempt(frozen, "FROZEN")
        for pid in self.processes(task_id):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        if frozen:
            attempt(frozen, "THAWED")

    def oom_kills(self, task_id: str) -> int:
        """Return how many processes of a task the kernel has killed for want of memory."""
        for name in ("memory.events", "memory.oom_control"):
            for line in read(self._path("memory", task_id, name)).splitlines():
                key, _, value = line.partition(" ")
                if key == "oom_kill" and value.isdigit():
                    return int(value)
        return 0

    def peak(self, task_id: str) -> int:
        """Return the most bytes that a task has used at once, or 0 where that is not known."""
        for name in ("memory.peak", "memory.max_usage_in_bytes"):
            if (text := read(self._path("memory", task_id, name))).isdigit():
                return int(text)
        return 0

    def cpu_seconds(self, task_id: str) -> float | None:
        """Return the processor time that a task has used, ended processes included; None where not known."""
        for line in read(self._path(UNIFIED, task_id, "cpu.stat")).splitlines():
            key, _, value = line.partition(" ")
            if key == "usage_usec":
                return int(value) / 1e6
        text = read(self._path("cpuacct", task_id, "cpuacct.usage"))
        return int(text) / 1e9 if text.isdigit() else None

    def remove(self, task_id: str) -> None:
        """Remove the groups of a task without processes; what cannot be is tried again by `catch_up`."""
        self._unremoved.discard(task_id)
        for base in self._directories():
            if not remove_tree(_join(base, task_id)):
                self._unremoved.add(task_id)

    def catch_up(self) -> None:
        """Remove what could not be removed before."""
        for task_id in list(self._unremoved):
            self.remove(task_id)

    def sweep(self, tasks: Container[str]) -> None:
        """Kill and remove whatever is in the groups of tasks that are none of these."""
        for base in self._directories():
            for name in children(base):
                task_id = name[len(TASK) :]
                if task_id not in tasks:
                    self.kill(task_id)
                    self.remove(task_id)

    def close(self) -> None:
        """Remove the state directory's own groups, if no task's is left in them."""
        self.catch_up()
        for base in self._directories():
            try:
                os.rmdir(base)
            except OSError:
                pass  # tasks are in it: the next launcher's
        self.let_go()

    def let_go(self) -> None:
        """Let others sweep the bases that we hold."""
        for lock in self._locks:
            os.close(lock)
        self._locks.clear()

    def _directories(self) -> list[str]:
        """Return the bases, each once, version 2's first: it counts and kills best."""
        first = self.bases.get(UNIFIED)
        return list(dict.fromkeys(([first] if first else []) + list(self.bases.values())))

    def _path(self, controller: str, task_id: str, name: str) -> str:
        base = self.bases.get(controller)
        return os.path.join(_join(base, task_id), name) if base else ""

    def _share(self, task_id: str, cpus: float) -> None:
        weight = self._path("cpu", task_id, "cpu.weight")
        if os.path.exists(weight):
            write(weight, str(min(10000, max(1, round(cpus * 100)))))
        else:
            write(self._path("cpu", task_id, "cpu.shares"), str(min(262144, max(2, round(cpus * 1024)))))

    def _limit(self, task_id: str, limit: int) -> None:
        most = self._path("memory", task_id, "memory.max")
        if os.path.exists(most):
            write(most, str(limit))
            attempt(self._path("memory", task_id, "memory.swap.max"), "0")
            attempt(self._path("memory", task_id, "memory.oom.group"), "1")
        else:
            write(self._path("memory", task_id, "memory.limit_in_bytes"), str(limit))
            attempt(self._path("memory", task_id, "memory.memsw.limit_in_bytes"), str(limit))

    def hold(self, directory: str) -> bool:
        """Keep a base from being swept by others while we live; False if somebody else holds it."""
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = os.stat(directory).st_ino == os.fstat(lock).st_ino
        except OSError:
            held = False
        if held:
            self._locks.append(lock)
        else:
            os.close(lock)
        return held


def _join(base: str, task_id: str) -> str:
    return os.path.join(base, TASK + task_id)


def children(directory: str) -> list[str]:
    """Return the names of the tasks' groups in a directory."""
    try:
        return [name for name in os.listdir(directory) if name.startswith(TASK)]
    except OSError:
        return []


def remove_tree(directory: str) -> bool:
    """Remove a group and those in it; return whether it is gone."""
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != errno.EBUSY:
            return False
        for parent, names, _ in os.walk(directory, topdown=False):
            for name in names:
                try:
                    os.rmdir(os.path.join(parent, name))
                except OSError:
                    return False
        try:
            os.rmdir(directory)
        except OSError:
            return False
    return True


def _pids(directory: str) -> list[int]:
    return [int(pid) for pid in read(os.path.join(directory, "cgroup.procs")).split() if pid != "0"]


def read(path: str) -> str:
    """Return the text of a file, empty if it cannot be read."""
    if not path:
        return ""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def write(path: str, text: str) -> None:
    """Write a text into a file of the kernel's."""
    file = os.open(path, os.O_WRONLY)
    try:
        os.write(file, text.encode())
    finally:
        os.close(file)


def attempt(path: str, text: str) -> bool:
    """Write a text into a file of the kernel's; return whether it was taken."""
    try:
        write(path, text)
    except OSError:
        return False
    return True

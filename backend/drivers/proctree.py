"""Which processes belong to a task, read from ``/proc``, and signals that cannot hit a stranger.

A process belongs to a task if it is in the session or process group of the task's first process (its
*leader*), descends from a process of the task, or carries the task's marker in the environment it was
started with. Each rule alone has a way out (``setsid``, a double fork, ``env -i``); a process has to
take all three to be lost, and even then the launcher gets it when its last task ends.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Set

MARKER = "HUBFLEET_TASK"
"""Environment variable that names the task a process was started for."""
_MARKED = MARKER.encode() + b"="

Identity = tuple[int, int]
"""Process id and start time: a process id alone is reused."""


class Process:
    """One process as ``/proc/<pid>/stat`` showed it; `started` is in clock ticks since boot."""

    __slots__ = ("dead", "group", "parent", "pid", "session", "started")

    def __init__(self, pid: int, stat: bytes) -> None:
        # The command's name may hold blanks and parentheses: what counts follows the last one.
        fields = stat[stat.rindex(b")") + 2 :].split()
        self.pid = pid
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.session = int(fields[3])
        self.started = int(fields[19])
        # A process whose first thread has ended shows as a zombie too; its other threads still run.
        self.dead = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1

    @property
    def identity(self) -> Identity:
        """What tells this process from a later one with the same process id."""
        return self.pid, self.started


def boot_id() -> str:
    """Return the kernel's name for the time since the last boot; start times mean nothing across boots."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def read_process(pid: int) -> Process | None:
    """Return the process with this id, dead or alive, or None if there is none."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        return Process(pid, os.read(descriptor, 4096))
    except ProcessLookupError:
        return None
    finally:
        os.close(descriptor)


def user_of(pid: int) -> int | None:
    """Return the user id that a process runs as, or None if there is no such process."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            for line in file:
                if line.startswith(b"Uid:"):
                    return int(line.split()[2])  # the effective one
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def send_signal(process: Process, signum: int) -> bool:
    """Send a signal to exactly this process; return False if it exists but must not be signalled by us."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    try:
        # The handle is taken first: if the start time still matches, it cannot be another process.
        now = read_process(process.pid)
        if now is not None and now.started == process.started:
            signal.pidfd_send_signal(handle, signum)
    except ProcessLookupError:
        pass
    except PermissionError:
        return False
    finally:
        os.close(handle)
    return True


class Snapshot:
    """The living processes of the machine at one moment.

    Reading them all costs 10 to 20 microseconds each, so one snapshot serves
    every task that asks in one turn of the launcher's loop.

    Parameters
    ----------
    leaders
        Process ids of the leaders of all tasks that are not over. Nobody can
        join their sessions from outside, so what is in them need not be asked
        for its marker.
    since
        When the oldest of these tasks was started; what is older is nobody's.
    """

    def __init__(self, leaders: Set[int], since: int) -> None:
        self._processes: dict[int, Process] = {}
        self._children: dict[int, list[Process]] = {}
        self._in_session: dict[int, list[Process]] = {}
        self._marked: dict[bytes, list[Process]] = {}
        for name in os.listdir("/proc"):
            if name.isdigit() and (process := read_process(int(name))) is not None and not process.dead:
                self._processes[process.pid] = process
                self._children.setdefault(process.parent, []).append(process)
                for session_or_group in {process.session, process.group}:
                    self._in_session.setdefault(session_or_group, []).append(process)
        for process in self._processes.values():
            if process.started >= since and process.session not in leaders:
                for task_id in _read_markers(process.pid):
                    self._marked.setdefault(task_id, []).append(process)

    def of_task(
        self,
        task_id: str,
        leader: Identity,
        known: Iterable[Identity],
        *,
        leader_was_watched: bool,
        account: int | None = None,
    ) -> list[Process]:
        """Return the living processes of a task.

        Parameters
        ----------
        leader
            The task's first process, alive or not.
        known
            Processes that an earlier snapshot found to be the task's.
        leader_was_watched
            Whether the leader's end, if it has ended, was seen when it came.
            If not, its process id may name a stranger's session by now, and
            only the marker counts.
        account
            Of whose processes the marker counts, beside root's; None for everybody's. Whoever can start
            a process can write any marker.
        """
        pid, since = leader
        present = self._processes.get(pid)
        marked = self._marked.get(task_id.encode(errors="surrogateescape"), ())
        roots = [each for each in marked if account is None or user_of(each.pid) in (account, 0)]
        if leader_was_watched and (present is None or present.started == since):
            roots += self._in_session.get(pid, ())
        for identity in (leader, *known):
            process = self._processes.get(identity[0])
            if process is not None and process.identity == identity:
                roots.append(process)
        return self._closure(process for process in roots if process.started >= since)

    def marked(self) -> dict[str, list[Process]]:
        """Return the living processes that carry a marker, by the task that it names."""
        return {
            task_id.decode(errors="surrogateescape"): processes for task_id, processes in self._marked.items()
        }

    def of_session(self, leader: int) -> list[Process]:
        """Return the living processes of a session, and what descends from them."""
        return self._closure([*self._in_session.get(leader, ())])

    def descendants(self, pid: int, but: Set[int] = frozenset()) -> list[Process]:
        """Return the living processes that descend from this one, without it and the children in `but`."""
        return self._closure(child for child in self._children.get(pid, ()) if child.pid not in but)

    def _closure(self, roots: Iterable[Process]) -> list[Process]:
        """Return the roots and all that descends from them; never this process nor what it forked."""
        found: dict[int, Process] = {}
        own = os.getpid()
        pending = list(roots)
        while pending:
            process = pending.pop()
            if process.pid not in found and process.pid != own:
                found[process.pid] = process
                pending.extend(self._children.get(process.pid, ()))
        return list(found.values())


def _read_markers(pid: int) -> list[bytes]:
    """Return the task ids in the environment that a process was started with: none or one, as a rule."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = file.read()
    except OSError:
        # Gone meanwhile, or another account's: neither can be a process that we started and may signal.
        return []
    if _MARKED not in environment:
        return []
    return [name[len(_MARKED) :] for name in environment.split(b"\0") if name.startswith(_MARKED)]

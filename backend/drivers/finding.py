"""Which processes belong to a task: one look at all of the machine's serves all tasks of one turn.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Set

from .custody import Task
from .isolation.cgroups import Groups
from .proctree import Process, Snapshot, read_process


class Finder:
    """Finds the processes of tasks.

    Parameters
    ----------
    tasks
        All tasks there are, by id; filled by their owner.
    groups
        The control groups that tasks can have.
    """

    def __init__(self, tasks: Mapping[str, Task], groups: Groups) -> None:
        self._tasks = tasks
        self._groups = groups
        self._snapshot: Snapshot | None = None

    def expire(self) -> None:
        """Look anew the next time: what was seen may be wrong by now."""
        self._snapshot = None

    def look(self) -> None:
        """Look at all processes, now."""
        tasks = [task for task in self._tasks.values() if not task.record.ended]
        leaders = {task.record.pid for task in tasks if task.watched}
        self._snapshot = Snapshot(leaders, since=min((task.record.started for task in tasks), default=0))

    @property
    def _seen(self) -> Snapshot:
        if self._snapshot is None:
            self.look()
        assert self._snapshot is not None
        return self._snapshot

    def of_task(self, task: Task) -> list[Process]:
        """Return the processes of a task."""
        processes = self._seen.of_task(
            task.record.task_id,
            task.leader,
            task.known,
            leader_was_watched=task.watched,
            account=_account(task.record.sandbox),
        )
        seen = {process.pid for process in processes}
        for pid in self._groups.processes(task.record.task_id):
            process = None if pid in seen else read_process(pid)
            if process is not None and not process.dead:
                processes.append(process)
        task.known = {process.identity for process in processes}
        return processes

    def ids_of(self, task_id: str) -> list[int]:
        """Return the ids of a task's processes, as cheaply as they can be found."""
        if grouped := self._groups.processes(task_id):
            return grouped
        return [process.pid for process in self.of_task(self._tasks[task_id])]

    def below(self, pid: int, but: Set[int]) -> list[Process]:
        """Return what descends from a process, without some and what descends from them."""
        return self._seen.descendants(pid, but=but)


def _account(sandbox: str) -> int | None:
    """Return the account of a task if it is not ours, by its sandbox, which only we give away; else None."""
    try:
        owner = os.stat(sandbox, follow_symlinks=False).st_uid
    except OSError:
        return None
    return None if owner == os.geteuid() else owner

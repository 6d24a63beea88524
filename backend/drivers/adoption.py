"""Running tasks that the journal does not tell of, because it was lost: found again by their marker.

Every process of a task carries the task's id in the environment that it was started with. That alone proves
nothing, since whoever can start a process can write that; so a process is believed only if the task's sandbox
is in this launcher's state directory and belongs to the account that the process runs as.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Container, Iterator

from .journal import Record
from .proctree import Process, Snapshot, user_of

SANDBOXES = "sandboxes"
"""The directory, within the state directory, that holds a sandbox for each task."""


def find_lost(state_dir: str, known: Container[str], boot: str) -> Iterator[Record]:
    """Yield the tasks of a state directory that run without being known.

    Parameters
    ----------
    state_dir
        Absolute path.
    known
        Ids of the tasks that need not be found.
    boot
        The present boot.

    Notes
    -----
    A task's first process made a session of its own, so where it lives it is the oldest of those that lead
    theirs. Where it has ended, the record names the session of what is left, whose id was its process id.
    """
    for task_id, processes in Snapshot(frozenset(), since=0).marked().items():
        if task_id in known or "/" in task_id or task_id in ("", ".", ".."):
            continue
        sandbox = os.path.join(state_dir, SANDBOXES, task_id)
        own = [process for process in processes if _owns(process, sandbox)]
        if not own:
            continue
        leaders = [process for process in own if process.session == process.pid]
        first = min(leaders or own, key=lambda process: process.started)
        yield Record(task_id, first.session, first.started, boot, sandbox)


def _owns(process: Process, sandbox: str) -> bool:
    try:
        status = os.stat(sandbox, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == user_of(process.pid)

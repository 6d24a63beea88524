"""How long things about tasks may take, and how much of them is kept: what an administrator may decide."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskLimits:
    """The bounds of every task.

    Parameters
    ----------
    launch_seconds
        How long a start may go unconfirmed before it is given up and made anew
        (Marathon's ``--task_launch_timeout``); the time of fetching comes on top.
    fetch_seconds
        How long the fetching of a task's files may take in all.
    fetch_mib
        How much a task's fetched files may be in all, as fetched and as unpacked. MiB.
    kept_tasks
        Of how many ended tasks of an app the output is kept.
    kept_seconds
        How long it is kept at most, and the history of an app that is gone.
    """

    launch_seconds: float = 300.0
    fetch_seconds: float = 300.0
    fetch_mib: int = 2048
    kept_tasks: int = 5
    kept_seconds: float = 86_400.0

"""How long things may take, how many there may be, and how much is kept: what an administrator may decide."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DeploymentLimits:
    """How many deployments there may be at once.

    Parameters
    ----------
    in_all
        The most of all together, as Marathon's ``--max_running_deployments``. Its 100 would let 20 servers
        a second start: a deployment goes on until a server's first health check, 5 s after its start.
    of_share
        The most of one user, so that nobody takes the room of all.
    """

    in_all: int = 500
    of_share: int = 20

    @property
    def of_shares(self) -> int:
        """The most of all users together: a fifth is the administrator's, and the hub's."""
        return self.in_all - self.in_all // 5


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

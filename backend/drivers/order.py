"""What the launcher is told to run, checked, and what it says of an order that it did not carry out.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence

_ENDS_IN_TIME = frozenset(
    {
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ETXTBSY,
    }
)
"""Errors that say something of the moment and nothing of the task: it may well start later."""


class StartError(Exception):
    """A task was not started; the message says why.

    Parameters
    ----------
    message
        A sentence for the person who can act.
    refused
        True if the same order will never work, False if it may work later.
    """

    def __init__(self, message: str, *, refused: bool = True) -> None:
        super().__init__(message)
        self.refused = refused

    @classmethod
    def from_os_error(cls, doing: str, error: OSError) -> StartError:
        """Return what an error of the system means for the task."""
        reason = error.strerror or str(error)
        return cls(f"{doing}: {reason}", refused=error.errno not in _ENDS_IN_TIME)


class Bind:
    """A path of the host and where a task sees it: the fields of `hubfleet.backend.drivers.Mount`."""

    __slots__ = ("read_only", "source", "target")

    def __init__(self, source: str, target: str, read_only: bool) -> None:
        self.source = source
        self.target = target
        self.read_only = read_only


class Order:
    """What to run, checked: the fields of `hubfleet.backend.drivers.TaskSpec`.

    Attributes
    ----------
    beside
        Process id of the running task that this is a command for, or None for a task of its own.
    prefork
        Whether it may be forked from a template.
    groups
        Files that the new process writes its id to, to be in the control groups of its task.
    """

    __slots__ = (
        "beside",
        "command",
        "cpus",
        "environment",
        "groups",
        "mem",
        "mounts",
        "prefork",
        "sandbox",
        "task_id",
        "user",
    )

    def __init__(
        self,
        task_id: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        sandbox: str,
        user: str | None,
        cpus: float = 0,
        mem: float = 0,
        mounts: Sequence[Bind] = (),
    ) -> None:
        self.task_id = task_id
        self.command = command
        self.environment = environment
        self.sandbox = sandbox
        self.user = user
        self.cpus = cpus
        self.mem = mem
        self.mounts = mounts
        self.prefork = False
        self.beside: int | None = None
        self.groups: Sequence[str] = ()

    @classmethod
    def from_request(cls, request: Mapping[str, object]) -> Order:
        """Return the order that a request holds.

        Raises
        ------
        StartError
            If a field is missing, of the wrong type, or cannot be given to a process.
        """
        task_id, command, environment, sandbox, user = (
            request.get(name) for name in ("task_id", "command", "environment", "sandbox", "user")
        )
        if not _is_text(task_id) or not task_id:
            raise StartError("A start needs a task_id: a text that is not empty and holds no zero byte.")
        if not isinstance(command, list) or not command or not all(map(_is_text, command)) or not command[0]:
            raise StartError(
                f"The command of task {task_id} must be a list of texts without zero bytes, program first."
            )
        if not isinstance(environment, dict) or not all(map(_is_text, environment.values())):
            raise StartError(f"The environment of task {task_id} must map names to texts without zero bytes.")
        for name in environment:
            if not _is_text(name) or not name or "=" in name:
                raise StartError(f"The environment of task {task_id} holds {name!r}, which cannot be a name.")
        if not _is_text(sandbox) or not os.path.isabs(sandbox):
            raise StartError(f"The sandbox of task {task_id} must be an absolute path, not {sandbox!r}.")
        if user is not None and not _is_text(user):
            raise StartError(f"The user of task {task_id} must be the name of an account, not {user!r}.")
        # An older backend knows nothing of what follows.
        cpus, mem = (request.get(name, 0) for name in ("cpus", "mem"))
        if not _is_amount(cpus) or not _is_amount(mem):
            raise StartError(
                f"The cpus and mem of task {task_id} must be numbers from 0, not {cpus!r}, {mem!r}."
            )
        mounts = request.get("mounts", [])
        if not isinstance(mounts, list):
            raise StartError(f"The mounts of task {task_id} must be a list.")
        binds = [_bind(task_id, mount) for mount in mounts]
        order = cls(task_id, command, environment, sandbox, user, cpus, mem, binds)
        order.prefork = request.get("prefork") is True
        return order


def _bind(task_id: str, mount: object) -> Bind:
    source, target, read_only = (
        (mount.get(name) for name in ("host_path", "container_path", "read_only"))
        if isinstance(mount, dict)
        else (None, None, None)
    )
    if not _is_text(source) or not os.path.isabs(source):
        raise StartError(f"The host path of a mount of task {task_id} must be absolute, not {source!r}.")
    if not _is_text(target) or not target or not isinstance(read_only, bool):
        raise StartError(f"The mount of {source} of task {task_id} needs a container_path and read_only.")
    return Bind(source, target, read_only)


TYPE_CHECKING = False  # as typing's, whose import would cost the launcher a megabyte
if TYPE_CHECKING:
    from typing import TypeGuard


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and "\0" not in value


def _is_amount(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")

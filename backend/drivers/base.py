"""What the orchestrator asks of an engine: a handful of verbs and the values they carry."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hubfleet.api.app import App
from hubfleet.api.rules import Violation


class DriverError(Exception):
    """The engine did not do what it was asked, or cannot be reached now: the outcome is unknown."""


class StartRefused(DriverError):
    """The engine will not run this task, now or later; the message says why and what would help."""


@dataclass(frozen=True)
class Offer:
    """What one place (a host of the engine) has in all, used or not.

    Memory and disk are MiB, as Marathon counts them.

    Parameters
    ----------
    gpus
        How many; they are called 0, 1, ….
    attributes
        What constraints may ask for by name, besides the host, its region and its zone.
    ports
        The first and the last port that tasks may be given, or None for any.
    """

    host: str
    cpus: float
    mem: float
    disk: float
    gpus: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)
    region: str | None = None
    zone: str | None = None
    ports: tuple[int, int] | None = None


@dataclass(frozen=True)
class Mount:
    """A file or directory of the host that a task sees at another place.

    Parameters
    ----------
    host_path
        Absolute path; it must be there, and the task's account must be able to reach it.
    container_path
        Where the task sees it: absolute, or relative to the sandbox (Mesos' meaning).
    read_only
        Whether nobody can write to it through this mount.
    """

    host_path: str
    container_path: str
    read_only: bool = False


@dataclass(frozen=True)
class TaskSpec:
    """One task as the engine is to run it, with everything decided.

    Parameters
    ----------
    task_id
        Unique for ever; starting the same id twice starts one task.
    command
        Argument list; the first element is looked up on the task's own ``PATH``.
    environment
        The whole environment of the task; nothing is inherited.
    sandbox
        Working directory. It is made with mode 0700 if it is not there;
        ``stdout`` and ``stderr`` are files in it.
    user
        Name of the account to run as, or None for the backend's own.
    cpus
        Its share of the processors when they are contended; no limit. 0 is the smallest share.
    mem
        MiB that it may use; 0 is no limit. The engine may have a floor below which it limits nothing.
    mounts
        What it sees of the host elsewhere.
    prefork
        Whether the engine may start it from a warm template instead of executing it, where it can.
    """

    task_id: str
    command: Sequence[str]
    environment: Mapping[str, str]
    sandbox: Path
    user: str | None = None
    cpus: float = 0
    mem: float = 0
    mounts: Sequence[Mount] = ()
    prefork: bool = True


@dataclass(frozen=True)
class Usage:
    """What one running task has used, and uses now.

    Parameters
    ----------
    cpu_seconds
        Of all its processes since its start, user and system. Where the engine has no account of
        it, what ended processes used is in it only as far as their parents waited for them.
    rss
        Resident bytes of all its processes; pages that they share count once for each.
    pss
        Bytes in which a shared page counts in parts, a part for each process that has it; None
        where that cannot be read.
    processes
        How many it has now.
    mem_limit
        Bytes that it may use, or None.
    oom_kills
        How many of its processes have been killed since they used more.
    """

    cpu_seconds: float
    rss: int
    pss: int | None
    processes: int
    mem_limit: int | None = None
    oom_kills: int = 0


@dataclass(frozen=True)
class Template:
    """What there is of one kind of warm template, from which tasks are forked.

    Parameters
    ----------
    kind
        Of which tasks: ``server`` or ``worker``.
    pid
        Its process id, or None where there is none now.
    ready
        Whether tasks are forked from it.
    forked
        Tasks that were.
    executed
        Tasks that turned out not to suit it, and were executed.
    cold
        Tasks that were executed since it was not ready.
    reason
        Why the last task did not suit, or the last template is gone; may be empty.
    """

    kind: str
    pid: int | None
    ready: bool
    forked: int
    executed: int
    cold: int
    reason: str


@dataclass(frozen=True)
class TaskExit:
    """How a task ended. Both codes None: it ended while nobody could see how.

    Parameters
    ----------
    reason
        Why the engine ended it, if it did: ``used 812 MiB of 512 MiB``.
    out_of_memory
        Whether it ended for using more memory than it may.
    """

    task_id: str
    exit_code: int | None
    signal: int | None
    reason: str | None = None
    out_of_memory: bool = False

    @property
    def message(self) -> str:
        """The end in the words of Mesos (``marathon-v2`` 5.4)."""
        if self.out_of_memory:
            return f"Memory limit exceeded: {self.reason}" if self.reason else "Memory limit exceeded"
        if self.reason is not None:
            return self.reason
        if self.exit_code is not None:
            return f"Command exited with status {self.exit_code}"
        if self.signal is not None:
            return f"Command terminated with signal {signal.strsignal(self.signal) or self.signal}"
        return "Command ended while nobody could see how"


@dataclass(frozen=True)
class Output:
    """A part of what a task has written to stdout or stderr.

    Parameters
    ----------
    content
        The bytes as the task wrote them.
    offset
        Where the content begins in all that the task has written; more than was asked for
        where the head is not kept any more.
    size
        How much the task has written in all.
    """

    content: bytes
    offset: int
    size: int


class Driver(Protocol):
    """Starts, finds again, signals and watches tasks on one engine."""

    async def open(self) -> None:
        """Reach the engine, starting its helper where there is one."""

    async def close(self) -> None:
        """Let go of the engine. Running tasks keep running."""

    def offers(self) -> Sequence[Offer]:
        """Return the places there are, with what each has in all."""

    def cannot(self, app: App) -> list[Violation]:
        """Return what this engine cannot give an app; each sentence says which driver could."""

    async def recover(self) -> Mapping[str, TaskExit | None]:
        """Return every task that the engine knows: its exit, or None while it runs."""

    async def free_ports(self, host: str, count: int, reserved: frozenset[int]) -> list[int]:
        """Return up to `count` TCP ports of `host` that are free now and not in `reserved`."""

    async def taken_ports(self, host: str, ports: Sequence[int]) -> set[int]:
        """Return which of these TCP ports of `host` are in use now, by whomever."""

    async def start(self, spec: TaskSpec) -> int:
        """Start a task and return its process id; a task that is there already is not started again."""

    async def signal(self, task_id: str, signum: int) -> None:
        """Send a signal to every process of a task; a task that is gone is no error."""

    async def forget(self, task_id: str) -> None:
        """Drop the engine's record of an ended task, and its sandbox but for the output."""

    async def read_output(self, task_id: str, name: str, offset: int, length: int) -> Output | None:
        """Return a part of the ``stdout`` or ``stderr`` of a task that runs, or has ended.

        A negative `offset` counts from the end. None: there is no such output.
        """

    async def discard(self, task_id: str) -> None:
        """Remove what is kept of a task that has ended and is forgotten."""

    async def kept(self) -> Set[str]:
        """Return the ids of the tasks of which something is there: a sandbox, or only the output."""

    async def stats(self) -> Mapping[str, Usage]:
        """Return what each running task uses, by task id; a task that just ends may be missing."""

    async def templates(self) -> Sequence[Template]:
        """Return what there is of each kind of template; nothing where tasks are only executed."""

    async def execute(self, spec: TaskSpec, command: Sequence[str], seconds: float) -> int | None:
        """Run a command beside a running task: its account, sandbox, environment, limits and mounts.

        Returns
        -------
        int or None
            The exit code, 128 and the signal's number if a signal ended it (as shells have it), or
            None if it was not done within `seconds`, which ended it.

        Raises
        ------
        StartRefused
            If there is no such program, or the task does not run.
        DriverError
            If it cannot be told how it went.
        """

    def exits(self) -> AsyncIterator[TaskExit]:
        """Yield the end of every task, each at least once until it is forgotten."""

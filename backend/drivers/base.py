"""What the orchestrator asks of an engine: a handful of verbs and the values they carry."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


class DriverError(Exception):
    """The engine did not do what it was asked, or cannot be reached now: the outcome is unknown."""


class StartRefused(DriverError):
    """The engine will not run this task, now or later; the message says why and what would help."""


@dataclass(frozen=True)
class Offer:
    """What one place (a host of the engine) has in all, used or not.

    Memory and disk are MiB, as Marathon counts them.
    """

    host: str
    cpus: float
    mem: float
    disk: float
    gpus: int = 0
    attributes: Mapping[str, str] = field(default_factory=dict)


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
    """

    task_id: str
    command: Sequence[str]
    environment: Mapping[str, str]
    sandbox: Path
    user: str | None = None


@dataclass(frozen=True)
class TaskExit:
    """How a task ended. Both codes None: it ended while nobody could see how."""

    task_id: str
    exit_code: int | None
    signal: int | None

    @property
    def message(self) -> str:
        """The end in the words of Mesos' command executor (``marathon-v2`` 5.4)."""
        if self.exit_code is not None:
            return f"Command exited with status {self.exit_code}"
        if self.signal is not None:
            return f"Command terminated with signal {signal.strsignal(self.signal) or self.signal}"
        return "Command ended while nobody could see how"


class Driver(Protocol):
    """Starts, finds again, signals and watches tasks on one engine."""

    async def open(self) -> None:
        """Reach the engine, starting its helper where there is one."""

    async def close(self) -> None:
        """Let go of the engine. Running tasks keep running."""

    def offers(self) -> Sequence[Offer]:
        """Return the places there are, with what each has in all."""

    async def recover(self) -> Mapping[str, TaskExit | None]:
        """Return every task that the engine knows: its exit, or None while it runs."""

    async def free_ports(self, host: str, count: int, reserved: frozenset[int]) -> list[int]:
        """Return up to `count` TCP ports of `host` that are free now and not in `reserved`."""

    async def start(self, spec: TaskSpec) -> int:
        """Start a task and return its process id; a task that is there already is not started again."""

    async def signal(self, task_id: str, signum: int) -> None:
        """Send a signal to every process of a task; a task that is gone is no error."""

    async def forget(self, task_id: str) -> None:
        """Drop the engine's record of an ended task and the task's sandbox."""

    def exits(self) -> AsyncIterator[TaskExit]:
        """Yield the end of every task, each at least once until it is forgotten."""

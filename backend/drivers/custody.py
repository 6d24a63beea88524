"""One task in the launcher's care, and the search for what it left behind.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

from collections.abc import Callable

from .journal import Record
from .order import StartError
from .proctree import Identity

SWEEP_SECONDS = 10.0
"""How long remains of a task are looked for. What a SIGKILL has not ended by then hangs in the kernel."""

_FIRST_PAUSE, LONGEST_PAUSE = 0.005, 0.2

Settled = Callable[["Task | None", "StartError | None"], None]
"""Told how a start went: the task, or why there is none."""


class Task:
    """One task and what is known of its processes."""

    __slots__ = (
        *("executed_since", "known", "outcome", "outcome_text", "record", "sweep", "template", "waiting"),
        "watched",
    )

    def __init__(self, record: Record, *, watched: bool = True) -> None:
        self.record = record
        # Whether the leader's end is, or was, seen when it comes.
        self.watched = watched
        self.outcome = -1  # descriptor, while starting
        self.outcome_text = b""
        self.waiting: list[Settled] = []
        self.template: str | None = None  # kind of the template that it was forked from
        self.executed_since = ""  # why its command was executed in that process after all
        self.known: set[Identity] = set()
        self.sweep: Sweep | None = None

    @property
    def leader(self) -> Identity:
        """The task's first process."""
        return self.record.pid, self.record.started

    @property
    def runs(self) -> bool:
        """Whether the leader is alive, as far as is known."""
        return not self.record.ended and self.sweep is None


class Sweep:
    """The search for what an ended leader left behind: when to look next, and until when."""

    __slots__ = ("due", "pause", "until")

    def __init__(self, now: float) -> None:
        self.due = now
        self.pause = _FIRST_PAUSE
        self.until = now + SWEEP_SECONDS

    def wait(self, now: float) -> None:
        """Look again after a pause, longer each time."""
        self.due = now + self.pause
        self.pause = min(self.pause * 2, LONGEST_PAUSE)

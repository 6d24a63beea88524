"""How a group of workers stands: what is shown of it, and told to processes that look from afar. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from .counting import WAITING, task_of


@dataclass(frozen=True)
class GroupState:
    """A group of workers at one moment.

    Parameters
    ----------
    workers
        Those that are wanted, by name, with Marathon's word for their state.
    present
        How many of them the scheduler knows.
    bounds
        Least and most that adaptive scaling keeps to; None where the number is set by hand. A
        most of None is no bound.
    waiting_for
        Why instances have no task yet, as far as it is known.
    nworkers
        How many workers are in one task.
    limit
        Why there are fewer workers than were asked for; empty if there are as many.
    """

    workers: Mapping[str, str] = field(default_factory=dict)
    present: int = 0
    bounds: tuple[int, int | None] | None = None
    waiting_for: str = ""
    nworkers: int = 1
    limit: str = ""

    @property
    def waiting(self) -> int:
        """How many have no task yet."""
        return sum(1 for state in self.workers.values() if state == WAITING)

    @property
    def tasks(self) -> dict[str, str]:
        """The workers that are in a task, with the task's id."""
        return {
            name: task_of(name, self.nworkers) for name, state in self.workers.items() if state != WAITING
        }

    @property
    def count(self) -> str:
        """How many there are, of how many."""
        wanted = len(self.workers)
        return f"{wanted}" if self.present == wanted else f"{self.present} / {wanted}"

    @property
    def mode(self) -> str:
        """How the number of workers is found, in words."""
        if self.bounds is None:
            return "Manual"
        least, most = self.bounds
        return f"Adaptive ({least} to {most})" if most is not None else f"Adaptive ({least} or more)"

    @property
    def hint(self) -> str:
        """What is missing, as a sentence; empty where nothing is."""
        why = f": {self.waiting_for}" if self.waiting_for else ""
        waiting = f"{self.waiting} waiting for room{why}" if self.waiting else ""
        return "; ".join(filter(None, (waiting, self.limit)))

    def to_message(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self) | {"workers": dict(self.workers)}

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """Return the state that plain values mean."""
        bounds = message["bounds"]
        return cls(**{**message, "bounds": None if bounds is None else tuple(bounds)})

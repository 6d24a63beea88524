"""What the ends of workers mean: when to give up on those that never come, and who has worked. Pure."""

from __future__ import annotations

from collections.abc import Set

MOST_CRASHES = 4
"""So many in a row, and for `LEAST_SECONDS` at least: a hiccup of the machine ends several at once."""

LEAST_SECONDS = 5.0


class Crashes:
    """Counts workers that ended by themselves before they had reached the scheduler.

    One that has reached it, and ends later, has met a task that was too much for it: of those
    distributed takes care, and the backend starts another worker.
    """

    def __init__(self) -> None:
        self.count = 0
        self._first = 0.0
        self._reached: dict[str, float] = {}

    def see(self, known: Set[str], alive: Set[str], now: float) -> None:
        """Take note of the tasks whose workers the scheduler knows, and of those that live."""
        if known - self._reached.keys():
            self.count = 0  # it can be done
        kept = known | (self._reached.keys() & alive)
        self._reached = {task: self._reached.get(task, now) for task in kept}

    def worked(self, task: str, now: float) -> float | None:
        """Return for how many seconds the scheduler has known a task's worker; None if it never did."""
        since = self._reached.get(task)
        return None if since is None else now - since

    def ended(self, now: float) -> None:
        """Take note of one that had not reached the scheduler."""
        self.count += 1
        if self.count == 1:
            self._first = now

    def hopeless(self, now: float) -> bool:
        """Whether another one would most likely end the same way."""
        return self.count >= MOST_CRASHES and now - self._first >= LEAST_SECONDS

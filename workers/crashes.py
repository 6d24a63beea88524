"""When to give up on workers that never come: each of them would only end like the last. Pure."""

from __future__ import annotations

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

    def ended(self, now: float) -> None:
        """Take note of one."""
        self.count += 1
        if self.count == 1:
            self._first = now

    def reached(self) -> None:
        """Take note that one has reached the scheduler: it can be done."""
        self.count = 0

    def hopeless(self, now: float) -> bool:
        """Whether another one would most likely end the same way."""
        return self.count >= MOST_CRASHES and now - self._first >= LEAST_SECONDS

"""How many workers to have, from what the load asks for at each look: up at once, down with patience. Pure.

distributed shrinks when a worker was idle at ``wait_count`` looks in a row. A load with short pauses
makes such a cluster give up in each pause what it must start anew after it. Here a cluster that has
regretted a shrink, since it had to grow again soon after, outlasts such pauses from then on.
"""

from __future__ import annotations

from collections import deque

MOST_PATIENCE = 60.0
"""Seconds for which what was needed is kept at most; idle workers cost that much."""

_CALM = 20.0  # after so many times the patience without a regret, half of it will do
_MARGIN = 3.0  # pauses are not all alike: so many times the one that was too long is the next patience


class Steady:
    """Remembers what the load asked for, and answers with what to have.

    Parameters
    ----------
    patience
        Seconds for which less must have been asked for before there will be less.

    Notes
    -----
    The answer at each look is the most that was asked for within the patience, so it changes its
    direction at most as often as the load does, look by look. Turns of the load within the patience
    are none for the workers.

    How long the pauses of a load are cannot be known before the first of them. A shrink is regretted
    if there is growth before `MOST_PATIENCE` has passed, and each regret makes the patience at least
    three times as long: from 2.5 s there are three of them until it is 60 s.
    """

    def __init__(self, patience: float) -> None:
        self.patience = self._least = patience
        self._looks: deque[tuple[float, int]] = deque()
        self._shrunk = self._changed = float("-inf")

    def decide(self, now: float, target: int, present: int) -> int:
        """Return how many workers to have.

        Parameters
        ----------
        now
            The time, in seconds.
        target
            How many the load asks for.
        present
            How many there are, or will be.
        """
        if not self._looks:
            self._looks.append((now, present))
            self._changed = now
        self._looks.append((now, target))
        if target > present:
            self._note_growth(now)
            return target
        while self._looks[0][0] <= now - self.patience:
            self._looks.popleft()
        wanted = max(asked for _, asked in self._looks)
        if wanted >= present:
            return present
        self._note_shrink(now)
        return wanted

    def _note_growth(self, now: float) -> None:
        since = now - self._shrunk
        if since < MOST_PATIENCE:
            pause = self.patience + since  # for which less was asked for
            longest = max(MOST_PATIENCE, self._least)
            self.patience = min(_MARGIN * pause, longest)
            self._changed = now
            self._shrunk = float("-inf")  # one regret for each shrink

    def _note_shrink(self, now: float) -> None:
        self._shrunk = now
        if now - self._changed > _CALM * self.patience:
            self.patience = max(self.patience / 2, self._least)
            self._changed = now

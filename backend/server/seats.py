"""How many event streams there may be: of one caller, and in all. Pure."""

from __future__ import annotations

from collections import Counter

PER_CALLER = 20
"""Most streams of one user: a few clusters, some notebooks."""

IN_ALL = 500
"""Most streams at once; each is a connection, a task and a buffer."""

KEPT_FREE = 100
"""Of these, as many as users leave to those who are trusted: the hub, administrators."""


class NoSeat(Exception):
    """There are as many streams as there may be; `status` says whose: 429 the caller's, 503 everybody's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Seats:
    """Counts the streams under way.

    Parameters
    ----------
    per_caller, in_all, kept_free
        The limits; see the constants of this module.
    """

    def __init__(
        self, per_caller: int = PER_CALLER, in_all: int = IN_ALL, kept_free: int = KEPT_FREE
    ) -> None:
        self._per_caller = per_caller
        self._in_all = in_all
        self._for_users = max(0, in_all - kept_free)
        self._taken: Counter[str] = Counter()

    def take(self, name: str, trusted: bool) -> None:
        """Take a seat for one stream of a caller; it must be left again.

        Raises
        ------
        NoSeat
            There is none.
        """
        if not trusted and self._taken[name] >= self._per_caller:
            raise NoSeat(
                429,
                f"{name} reads {self._per_caller} event streams already, the most there may be; close one",
            )
        if self._taken.total() >= (self._in_all if trusted else self._for_users):
            raise NoSeat(503, "as many event streams are read as the backend serves at once; try again later")
        self._taken[name] += 1

    def leave(self, name: str) -> None:
        """Give a seat back."""
        self._taken[name] -= 1
        if self._taken[name] <= 0:
            del self._taken[name]

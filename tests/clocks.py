"""The clock of an event loop, which a test puts forward instead of waiting."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Tells a loop its time, in place of its own `time`."""

    def __init__(self) -> None:
        self._ahead = 0.0
        self._stands_at: float | None = None

    def __call__(self) -> float:
        return time.monotonic() + self._ahead if self._stands_at is None else self._stands_at

    @contextmanager
    def standing_at(self, moment: float) -> Iterator[None]:
        """Let it be this moment, and no later: nothing that is done within takes any time."""
        self._stands_at = moment
        try:
            yield
        finally:
            self._ahead, self._stands_at = moment - time.monotonic(), None

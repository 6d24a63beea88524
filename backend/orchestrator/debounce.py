"""Acts at once after a rest, and once for many changes that come one upon the other."""

from __future__ import annotations

import asyncio

QUIET_SECONDS = 0.05
"""How long nothing must have changed before many changes are answered."""

MOST_SECONDS = 1.0
"""After this they are answered however many more come."""


class Debounce:
    """Says when to act on changes.

    Parameters
    ----------
    quiet_seconds, most_seconds
        See the constants of this module.

    Notes
    -----
    A change after a rest is acted on at once, so that who logs in to an idle backend
    waits for nothing. What follows within `quiet_seconds` of that is collected.
    """

    def __init__(self, quiet_seconds: float = QUIET_SECONDS, most_seconds: float = MOST_SECONDS) -> None:
        self._quiet = quiet_seconds
        self._most = most_seconds
        self._changed = asyncio.Event()
        self._first = self._last = self._acted = float("-inf")

    def change(self) -> None:
        """Say that something changed."""
        self._last = asyncio.get_running_loop().time()
        if not self._changed.is_set():
            self._first = self._last
            self._changed.set()

    async def wait(self, timeout: float) -> None:
        """Return when it is time to act, at the latest after `timeout` seconds."""
        clock = asyncio.get_running_loop().time
        try:
            async with asyncio.timeout(timeout):
                await self._changed.wait()
        except TimeoutError:
            return
        if self._first < self._acted + self._quiet:
            while clock() < (due := min(self._last + self._quiet, self._first + self._most)):  # noqa: ASYNC110
                await asyncio.sleep(due - clock())
        self._changed.clear()

    def acted(self) -> None:
        """Say that there was something to do, and that it is done."""
        self._acted = asyncio.get_running_loop().time()

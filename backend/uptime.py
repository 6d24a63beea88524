"""A clock that nobody sets: for ages that decide something, and outlive the backend."""

from __future__ import annotations

import time


def uptime() -> float:
    """Return seconds since the machine was booted, its sleep included; the same for all its processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def age(mark: float | None) -> float:
    """Return the seconds since a mark of that clock.

    Of no mark at all, or of one that a reboot has made meaningless, nothing is known but that
    it is not in the future: then none.
    """
    return 0.0 if mark is None else max(0.0, uptime() - mark)

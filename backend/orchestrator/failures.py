"""Which places an app keeps failing in: those come last when its next task is placed. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import datetime

FAILURES = 5
WITHIN_SECONDS = 300.0
"""This many failures within this time make a place the last one (swarmkit's rule)."""

_REMEMBERED = 10_000  # pairs of configuration and place; the longest unheard of is forgotten first

_Key = tuple[str, datetime, str]


class Failures:
    """Remembers the last failures of each app's configuration by host.

    Times are seconds of a clock that only goes forward. Nothing of it is stored: after a
    restart of the backend all places are as good as each other again.
    """

    def __init__(self) -> None:
        self._ends: OrderedDict[_Key, deque[float]] = OrderedDict()

    def note(self, app_id: str, configuration: datetime, host: str, at: float) -> None:
        """Remember that a task ended badly."""
        key = (app_id, configuration, host)
        self._ends.setdefault(key, deque(maxlen=FAILURES)).append(at)
        self._ends.move_to_end(key)
        if len(self._ends) > _REMEMBERED:
            self._ends.popitem(last=False)

    def last(self, app_id: str, configuration: datetime, hosts: list[str], at: float) -> set[str]:
        """Return which hosts count last for an app now."""
        return {host for host in hosts if self._counts_last((app_id, configuration, host), at)}

    def _counts_last(self, key: _Key, at: float) -> bool:
        ends = self._ends.get(key)
        return ends is not None and len(ends) == FAILURES and at - ends[0] <= WITHIN_SECONDS

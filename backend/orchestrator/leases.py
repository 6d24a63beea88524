"""Apps that stay only as long as somebody says that they are needed.

A process that made an app may be killed before it can remove it. So an app may have a lease
(`hubfleet.api.labels.LEASE`): a time after which it goes unless the lease is renewed. What is left of
each is in memory only. A backend that starts begins them all anew: it cannot know who would have
renewed what while it was away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from hubfleet.api import labels
from hubfleet.api.app import App

from ..state import State
from .refusals import ChangeRefused

log = logging.getLogger("hubfleet.backend")

LEAST_SECONDS, MOST_SECONDS = 2, 86400
TICK_SECONDS = 0.5
MOST_COUNTED_SECONDS = 2 * TICK_SECONDS
"""Most that one turn takes from the leases: time in which nobody was heard is no silence of theirs."""

WANTED = f"the lease must be a whole number of seconds from {LEAST_SECONDS} to {MOST_SECONDS}"


def term_of(app: App) -> int | None:
    """Return the seconds of an app's lease, or None if it stays without one.

    Raises
    ------
    ValueError
        The label is there, but is no such number.
    """
    text = app.labels.get(labels.LEASE)
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_SECONDS))):
        raise ValueError(WANTED)
    seconds = int(text)
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise ValueError(WANTED)
    return seconds


class Leases:
    """What is left of each lease.

    Parameters
    ----------
    state
        Where the apps are.
    remove
        Ends an app, and what it owns.
    """

    def __init__(self, state: State, remove: Callable[[str], object]) -> None:
        self._state = state
        self._remove = remove
        self._left: dict[str, float] = {}

    def renew(self, app_id: str) -> int | None:
        """Begin an app's lease anew; return its seconds, or None if the app stays without one."""
        term = self._terms().get(app_id)
        if term is not None:
            self._left[app_id] = term
        return term

    def renew_all(self) -> None:
        """Begin all leases anew: somebody may be renewing one, but nobody can say who it is."""
        self._left.clear()

    def forget_former(self, app_ids: Iterable[str]) -> None:
        """Forget what was left of the leases of apps that are gone: another one of such an id has its own."""
        for app_id in app_ids:
            if app_id not in self._state.apps:
                self._left.pop(app_id, None)

    def pass_time(self, seconds: float) -> list[str]:
        """Take some time from all leases; return the apps whose lease is over."""
        terms = self._terms()
        self._left = {
            app_id: min(self._left.get(app_id, term), term) - seconds for app_id, term in terms.items()
        }
        return [app_id for app_id, left in self._left.items() if left <= 0]

    def _terms(self) -> Mapping[str, int]:
        found = {}
        for app_id in self._state.leased:
            try:
                term = term_of(self._state.apps[app_id].app)
            except ValueError:
                continue  # from before leases were looked at: a label like any other
            if term is not None:
                found[app_id] = term
        return found

    async def watch(self) -> None:
        """Remove apps when their leases are over, until cancelled."""
        loop = asyncio.get_running_loop()
        before = loop.time()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            at = loop.time()
            for app_id in self.pass_time(min(at - before, MOST_COUNTED_SECONDS)):
                self._end(app_id)
            before = at

    def _end(self, app_id: str) -> None:
        if app_id not in self._state.apps:
            return  # gone with its owner, whose lease was over too
        log.info("removing %s: nobody has renewed its lease", app_id)
        try:
            self._remove(app_id)
        except ChangeRefused as refusal:
            log.info("%s cannot be removed now, trying again: %s", app_id, refusal)

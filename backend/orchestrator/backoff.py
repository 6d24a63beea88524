"""Marathon's back-off: an app whose tasks keep ending is started ever later (``marathon-v2`` 5.5). Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from hubfleet.api.app import App

from ..records import Backoff

CHECK_SECONDS = 10.0
"""How often Marathon looks for back-offs to be dropped."""


def after_end(backoff: Backoff | None, app: App, at: datetime) -> Backoff:
    """Return the back-off after a task ended by itself at a moment."""
    backoff = kept(backoff, app, at)
    delay = app.backoff_seconds if backoff is None else backoff.delay * app.backoff_factor
    return Backoff(delay=min(delay, app.max_launch_delay_seconds), reference=at)


def advanced(backoff: Backoff | None, at: datetime) -> Backoff | None:
    """Return the back-off after a task was started: the same size, counted from now."""
    return None if backoff is None else Backoff(delay=backoff.delay, reference=at)


def kept(backoff: Backoff | None, app: App, at: datetime, slack: float = 0) -> Backoff | None:
    """Return the back-off, or None once so long nothing began or ended that the next end is as the first.

    Parameters
    ----------
    slack
        Seconds more that it is kept. Marathon looks every 10 s; without them an app held back
        for the most there is would be free of it the moment that it starts.
    """
    if backoff is None:
        return None
    until = backoff.reference + timedelta(seconds=app.max_launch_delay_seconds + slack)
    return None if at > until else backoff


def launch_at(backoff: Backoff | None) -> datetime | None:
    """Return when the app may start a task again, or None if it may now."""
    return None if backoff is None else backoff.reference + timedelta(seconds=backoff.delay)


def counted_from_now(backoff: Backoff | None, at: datetime) -> Backoff | None:
    """Return the back-off, counted from now if it begins in the future: then the clock was set back."""
    if backoff is None or backoff.reference <= at:
        return backoff
    return Backoff(delay=backoff.delay, reference=at)

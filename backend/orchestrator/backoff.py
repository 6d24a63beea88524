"""Marathon's back-off: an app whose tasks keep ending is started ever later (``marathon-v2`` 5.5). Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from hubfleet.api.app import App

from ..records import Backoff


def after_end(backoff: Backoff | None, app: App, at: datetime) -> Backoff:
    """Return the back-off after a task ended by itself at a moment."""
    delay = app.backoff_seconds if backoff is None else backoff.delay * app.backoff_factor
    return Backoff(delay=min(delay, app.max_launch_delay_seconds), reference=at)


def advanced(backoff: Backoff | None, at: datetime) -> Backoff | None:
    """Return the back-off after a task was started: the same size, counted from now."""
    return None if backoff is None else Backoff(delay=backoff.delay, reference=at)


def expired(backoff: Backoff, app: App, at: datetime) -> bool:
    """Whether so long nothing ended that the next end counts as the first."""
    return at > backoff.reference + timedelta(seconds=app.max_launch_delay_seconds + backoff.delay)


def launch_at(backoff: Backoff | None) -> datetime | None:
    """Return when the app may start a task again, or None if it may now."""
    return None if backoff is None else backoff.reference + timedelta(seconds=backoff.delay)


def counted_from_now(backoff: Backoff | None, at: datetime) -> Backoff | None:
    """Return the back-off, counted from now if it begins in the future: then the clock was set back."""
    if backoff is None or backoff.reference <= at:
        return backoff
    return Backoff(delay=backoff.delay, reference=at)

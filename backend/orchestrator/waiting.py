"""What is told of an app that waits: the places tried, and why none took it (``marathon-v2`` 1.2). Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from hubfleet.api.status import Delay, OffersSummary, Reject

from ..records import Backoff
from . import backoff
from .placement import FUNNEL, Reason


@dataclass
class Tally:
    """The places tried for one app since it began to wait."""

    reasons: Sequence[Reason] = ()
    """Why no place fitted when one was last looked for in vain."""
    used: int = 0
    declined: Counter[str] = field(default_factory=Counter)
    told: set[str] = field(default_factory=set)
    """The codes of the reasons that the app's history has by now."""
    last_used_at: datetime | None = None
    last_unused_at: datetime | None = None

    def note_used(self, at: datetime) -> None:
        """Count a place that took an instance."""
        self.used += 1
        self.last_used_at = at

    def note_declined(self, reasons: Sequence[Reason], at: datetime) -> str | None:
        """Count places none of which took an instance.

        Returns
        -------
        str or None
            What is to be told of it: each kind of reason once, for the figures in the sentences
            change with everything that starts or ends elsewhere.
        """
        self.reasons = reasons
        self.declined.update(reason.code for reason in reasons)
        self.last_unused_at = at
        reason = foremost(reasons)
        if reason is None or reason.code in self.told:
            return None
        self.told.add(reason.code)
        return reason.sentence

    def summary(self) -> OffersSummary:
        """Return the tally as the API shows it."""
        unused = self.declined.total()
        return OffersSummary(
            processed_offers_count=self.used + unused,
            unused_offers_count=unused,
            last_used_offer_at=self.last_used_at,
            last_unused_offer_at=self.last_unused_at,
            reject_summary_last_offers=funnel(
                Counter(reason.code for reason in self.reasons), len(self.reasons)
            ),
            reject_summary_launch_attempt=funnel(self.declined, self.used + unused),
        )


def funnel(declined: Mapping[str, int], processed: int) -> list[Reject]:
    """Return Marathon's steps, all of them: each processes what the one before let through."""
    steps = []
    for code in FUNNEL:
        count = declined.get(code, 0)
        steps.append(Reject(reason=code, declined=count, processed=processed))
        processed -= count
    return steps


def queue_delay(held: Backoff | None, at: datetime) -> Delay:
    """Return how long an app is still held back."""
    launch_at = backoff.launch_at(held)
    left = 0.0 if launch_at is None else (launch_at - at).total_seconds()
    return Delay(time_left_seconds=max(0, math.ceil(left)), overdue=left <= -1 or launch_at is None)


def explanation(reasons: Sequence[Reason], held: Backoff | None, at: datetime) -> str | None:
    """Return why an app waits, as a sentence that somebody can act on."""
    launch_at = backoff.launch_at(held)
    if launch_at is not None and launch_at > at:
        return f"its last task ended; the next one is started in {(launch_at - at).total_seconds():.1f} s"
    reason = foremost(reasons)
    return None if reason is None else reason.sentence


def is_hopeless(tally: Tally, version: datetime | None) -> bool:
    """Whether an app, as its present version has it, waits for what no place will ever give."""
    reason, tried_at = foremost(tally.reasons), tally.last_unused_at
    if reason is None or tried_at is None or (version is not None and tried_at < version):
        return False
    return not reason.ever


def foremost(reasons: Sequence[Reason]) -> Reason | None:
    """Return the reason that says most: what might become free, where there is also what never fits."""
    return min(reasons, key=lambda reason: not reason.ever, default=None)

"""What a user reads while their server starts: a log that several pages follow, and its sentences."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from hubfleet.api.status import QueueItem

SUBMITTED, WAITING, PREPARED, STARTED, ANSWERS = 10, 20, 40, 60, 90

_REJECTIONS = {
    "UnfulfilledRole": "no resources for this app's role",
    "UnfulfilledConstraint": "the placement constraints are not met",
    "NoCorrespondingReservationFound": "no reservation fits",
    "AgentMaintenance": "the machine is in maintenance",
    "InsufficientCpus": "not enough free CPUs",
    "InsufficientMemory": "not enough free memory",
    "InsufficientDisk": "not enough free disk",
    "InsufficientGpus": "not enough free GPUs",
    "InsufficientPorts": "no free port",
    "DeclinedScarceResources": "GPU machines are kept for servers that ask for GPUs",
}


class ProgressLog:
    """The messages of one start: only ever longer, never going back, read by any number of pages."""

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._begun = time.monotonic()
        self._percent = 0
        self._grown = asyncio.Event()
        self.closed = False

    def __len__(self) -> int:
        return len(self._messages)

    @property
    def messages(self) -> list[str]:
        """All sentences so far."""
        return [message["message"] for message in self._messages]

    @property
    def seconds(self) -> float:
        """How long the start has taken so far."""
        return time.monotonic() - self._begun

    def add(self, progress: int, message: str) -> None:
        """Append a sentence; the number is raised to the last one's and kept below 100.

        A sentence that repeats the last one is not appended.
        """
        if self._messages and message == self._messages[-1]["message"]:
            return
        self._percent = min(99, max(progress, self._percent))
        self._messages.append({"progress": self._percent, "message": message})
        self._wake()

    def close(self) -> None:
        """Say that nothing more will come."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Yield every message from the first on, until the log is closed."""
        read = 0
        while True:
            grown = self._grown
            while read < len(self._messages):
                read += 1
                # a copy: JupyterHub takes keys out of what it is given
                yield dict(self._messages[read - 1])
            if self.closed:
                return
            await grown.wait()


def waiting_sentence(item: QueueItem) -> str:
    """Return why an app of the queue waits, for the person who waits for it.

    Our backend says it itself (``explanation``); of Marathon's answer the last round
    of offers is put in words.
    """
    if item.explanation:
        said = item.explanation
        return said[0].upper() + said[1:] if said.lower().startswith("wait") else f"Waiting: {said}"
    if item.delay.time_left_seconds > 0 and not item.delay.overdue:
        return f"Waiting {item.delay.time_left_seconds} s before the next attempt, since the last one failed"
    summary = item.processed_offers_summary
    rejects = [
        reject
        for reject in summary.reject_summary_last_offers or summary.reject_summary_launch_attempt
        if reject.declined > 0
    ]
    if rejects:
        reasons = ", ".join(
            f"{_REJECTIONS.get(reject.reason, reject.reason)} "
            f"({reject.declined} of {reject.processed} offers declined)"
            for reject in rejects
        )
        return f"Waiting for a place: {reasons}{_asked(item)}"
    return f"Waiting for a place with enough free resources{_asked(item)}"


def _asked(item: QueueItem) -> str:
    app = item.app
    if app is None:
        return ""
    parts = [f"{app.cpus:g} CPUs", f"{app.mem:g} MiB of memory"]
    if app.disk:
        parts.append(f"{app.disk:g} MiB of disk")
    if app.gpus:
        parts.append(f"{app.gpus} GPUs")
    return f"; asked for {', '.join(parts)}"


def ended_sentence(message: str, failures: int, most: int) -> str:
    """Return that the server's process ended, why, and that it gets another try."""
    because = f" ({message})" if message else ""
    return f"The server's process ended{because}; it is started again, attempt {failures + 1} of {most}"

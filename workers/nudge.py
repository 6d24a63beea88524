"""Tells adaptive scaling that work has come, so that a burst need not wait for the next look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin


class Nudge(SchedulerPlugin):
    """Calls a function, on the event loop, when a scheduler in this process is given work.

    Parameters
    ----------
    call
        The function.
    """

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._scheduler: Scheduler | None = None
        self.name = f"hubfleet-nudge-{id(self)}"

    def listen_to(self, scheduler: Any) -> None:
        """Begin; a scheduler in another process is left to the interval."""
        if isinstance(scheduler, Scheduler):
            self._scheduler = scheduler
            scheduler.add_plugin(self, name=self.name)

    def leave(self) -> None:
        """End."""
        scheduler, self._scheduler = self._scheduler, None
        if scheduler is not None and self.name in scheduler.plugins:
            del scheduler.plugins[self.name]

    def update_graph(self, *_: Any, **__: Any) -> None:
        """Take note of new work; called by the scheduler."""
        self._call()

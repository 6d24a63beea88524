"""Says when a worker has another Python or Dask than the notebook, before that shows as an odd error.

distributed compares versions as well, but tells the worker's own log, which nobody reads in time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from distributed import Scheduler
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.versions import get_versions

_COMPARED = ("python", "dask", "distributed")
_PYTHON_PARTS = 2  # code is exchanged as bytecode, which changes with 3.x and not with 3.x.y


class VersionWatch(SchedulerPlugin):  # type: ignore[misc, unused-ignore]
    """Compares what workers have with what this process has, when they come.

    Parameters
    ----------
    scheduler
        The scheduler to which they come.
    warn
        Takes a sentence; each mismatch is told once.
    """

    name = "hubfleet-versions"

    def __init__(self, scheduler: Scheduler, warn: Callable[[str], None]) -> None:
        self._scheduler = scheduler
        self._warn = warn
        self._said: set[str] = set()
        self._ours = packages(get_versions())

    def add_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Look at a worker that has come; called by distributed."""
        state = self._scheduler.workers.get(worker)
        sentence = mismatch(self._ours, packages(state.versions)) if state else None
        if sentence and sentence not in self._said:
            self._said.add(sentence)
            self._warn(sentence)


def packages(versions: Mapping[str, Any]) -> dict[str, str]:
    """Return the versions that matter, of what `distributed.versions.get_versions` tells."""
    told = versions.get("packages") or {}
    return {name: _short(name, str(told[name])) for name in _COMPARED if told.get(name)}


def _short(name: str, version: str) -> str:
    return ".".join(version.split(".")[:_PYTHON_PARTS]) if name == "python" else version


def mismatch(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str | None:
    """Return a sentence that says what differs and what to do; None if nothing does, or nothing is known."""
    differing = [name for name in _COMPARED if name in theirs and ours.get(name) != theirs[name]]
    if not differing:
        return None
    there = ", ".join(f"{name} {theirs[name]}" for name in differing)
    here = ", ".join(f"{name} {ours.get(name, '-')}" for name in differing)
    return (
        f"the workers have {there}, and this process has {here}: what is sent between them may not be "
        "understood. Let the workers use the same environment (python=..., image=...), or this process theirs"
    )

"""How many workers the load asks for in one of several groups.

distributed's own answer (`Scheduler.adaptive_target`) is one number for all workers alike. Where
there are groups, what waits for a GPU must not bring workers without one, and the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

_COUNTED = 100  # tasks whose durations are looked up; of more, the rest are taken to be alike


def wanted_workers(
    scheduler: Any, own: Collection[str], resources: Mapping[str, float], nthreads: int, seconds: float
) -> int:
    """Return how many workers a group should have.

    Parameters
    ----------
    scheduler
        The `distributed.Scheduler`.
    own
        Names of the group's workers.
    resources
        What a worker of the group offers beside threads.
    nthreads
        Threads of one worker of the group.
    seconds
        How long the work that is there shall take.

    Notes
    -----
    A task that asks for resources counts for the groups that have them. One that asks for
    none counts for those groups that offer none, so that it waits for the plainest workers.
    """
    present = [worker for worker in scheduler.workers.values() if str(worker.name) in own]
    waiting = [task for task in scheduler.unrunnable if _is_for(task, resources)]
    if not resources:
        waiting += list(scheduler.queued)
    occupancy = sum(worker.occupancy for worker in present)
    looked = waiting[:_COUNTED]
    durations = sum(scheduler._get_prefix_duration(task.prefix) for task in looked)
    if looked:
        occupancy += durations / len(looked) * len(waiting)
    tasks = len(waiting) + sum(len(worker.processing) for worker in present)
    target: int = math.ceil(min(tasks, math.ceil(occupancy / seconds)) / nthreads)
    if waiting:
        target = max(target, 1)
    if target >= len(present):
        return target
    closable = {str(name) for name in scheduler.workers_to_close(attribute="name")}
    return max(target, sum(1 for worker in present if str(worker.name) not in closable))


def _is_for(task: Any, resources: Mapping[str, float]) -> bool:
    asked = task.resource_restrictions or {}
    if not asked:
        return not resources
    return all(resources.get(name, 0) >= amount for name, amount in asked.items())

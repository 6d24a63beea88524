"""What is known of the workers' app: how many are wanted, which are alive. Pure.

The words are distributed's (``deploy/adaptive_core.py``): *plan* is what shall be, *requested*
what the backend has taken note of, *observed* what the scheduler sees. Plan and requested
are one here, since a count that the backend did not take is no plan.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

from hubfleet.api.status import ENDED_STATES, AppStatus, TaskFailure

WAITING = "WAITING"
"""The state of an instance that has no task yet."""

_PLACEHOLDER = "waiting-"


@dataclass(frozen=True)
class Count:
    """The workers of one app at one moment.

    Parameters
    ----------
    instances
        How many the backend shall keep.
    states
        The live tasks: id to Marathon's word for their state.
    doomed
        Tasks that were told to end and are still listed.
    failure
        The last bad end of a worker.
    gone
        Whether the app does not exist any more.
    """

    instances: int = 0
    states: dict[str, str] = field(default_factory=dict)
    doomed: frozenset[str] = frozenset()
    failure: TaskFailure | None = None
    gone: bool = False

    @property
    def waiting(self) -> int:
        """How many instances have no task yet."""
        return max(0, self.instances - len(self.states))

    @property
    def tasks(self) -> dict[str, str]:
        """All tasks by name, with their state; the names that waiting instances bear do not change.

        Adaptive scaling ends a worker only after it was named several times in a row, so an
        instance without a task needs a name that stays.
        """
        placeholders = {f"{_PLACEHOLDER}{number}": WAITING for number in range(self.waiting)}
        return {**self.states, **placeholders}

    def workers(self, nworkers: int) -> dict[str, str]:
        """Return all workers by name, with the state of their task, of which each holds so many."""
        return {worker: state for task, state in self.tasks.items() for worker in workers_of(task, nworkers)}


def is_placeholder(name: str) -> bool:
    """Whether a name stands for an instance without a task."""
    return name.startswith(_PLACEHOLDER)


def workers_of(task: str, nworkers: int) -> list[str]:
    """Return the names of the workers in a task, as ``dask worker --nworkers`` makes them of ``--name``."""
    return [f"{task}-{number}" for number in range(nworkers)] if nworkers > 1 else [task]


def tasks_for(workers: int, nworkers: int) -> int:
    """Return how many tasks hold at least so many workers."""
    return math.ceil(workers / nworkers)


def whole_tasks(names: Collection[str], count: Count, nworkers: int) -> list[str]:
    """Return the tasks that are named, themselves or by all of their workers, in the order of the names."""
    given = set(names)
    asked = dict.fromkeys(task for name in names for task in (name, task_of(name, nworkers)))
    return [
        task
        for task in asked
        if task in count.tasks and (task in given or given.issuperset(workers_of(task, nworkers)))
    ]


def task_of(worker: str, nworkers: int) -> str:
    """Return the task that a worker of this name is in; where there are several, they bear numbers."""
    return worker.rpartition("-")[0] if nworkers > 1 else worker


def counted(app: AppStatus, killed: Collection[str]) -> Count:
    """Return the count that an app's answer means, given the tasks that we had killed before."""
    listed = {task.id: task.state for task in app.tasks if task.state not in ENDED_STATES}
    doomed = {name for name, state in listed.items() if state == "TASK_KILLING" or name in killed}
    return Count(
        instances=app.instances,
        states={name: state for name, state in listed.items() if name not in doomed},
        doomed=frozenset(doomed),
        failure=app.last_task_failure,
    )

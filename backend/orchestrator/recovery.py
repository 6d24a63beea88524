"""What the engine says runs, against what the store says should: the first look after a start. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..drivers import TaskExit
from ..records import Condition, Instance
from .fetching import fetch_id


@dataclass(frozen=True)
class Findings:
    """What became of the tasks while nobody looked."""

    running: list[Instance] = field(default_factory=list)
    unstarted: list[Instance] = field(default_factory=list)
    """Those that have their place, but were not started yet."""
    ended: list[tuple[Instance, TaskExit]] = field(default_factory=list)
    """With how they ended, as far as anybody could see."""
    unwanted: set[str] = field(default_factory=set)
    """Ids of tasks that run and belong to no instance."""
    left: set[str] = field(default_factory=set)
    """Ids of ended tasks that belong to no instance."""


def compare(instances: Iterable[Instance], known: Mapping[str, TaskExit | None]) -> Findings:
    """Return what became of the instances that have, or may have, a task.

    Parameters
    ----------
    known
        Every task that the engine knows: its exit, or None while it runs.
    """
    found = Findings()
    accounted: set[str] = set()
    for instance in instances:
        task_id = instance.task_id
        if not instance.launched:
            continue
        accounted.add(task_id)
        if task_id not in known and instance.condition is Condition.PROVISIONED:
            found.unstarted.append(instance)
            accounted.add(fetch_id(task_id))  # it may be fetching
        elif task_id not in known:
            found.ended.append((instance, TaskExit(task_id, None, None)))
        elif (task_exit := known[task_id]) is not None:
            found.ended.append((instance, task_exit))
        else:
            found.running.append(instance)
    for task_id in known.keys() - accounted:
        (found.unwanted if known[task_id] is None else found.left).add(task_id)
    return found


def advance(instances: Iterable[Instance], known: Mapping[str, TaskExit | None]) -> list[Instance]:
    """Give waiting instances the next ids that no task on the engine has, and return those that got one.

    A store that was restored counts from where the copy was made, and tasks were started since: an id
    that two tasks had would let one's end be taken for the other's.
    """
    advanced = []
    for instance in instances:
        before = instance.incarnation
        while instance.condition is Condition.SCHEDULED and (
            instance.task_id in known or fetch_id(instance.task_id) in known
        ):
            instance.incarnation += 1
        if instance.incarnation != before:
            advanced.append(instance)
    return advanced

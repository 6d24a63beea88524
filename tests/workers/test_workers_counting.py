"""Counting workers: from the backend's answer to plan and requested."""

from __future__ import annotations

from hubfleet.api.status import AppStatus, Task
from hubfleet.workers.counting import Count, counted, is_placeholder, tasks_for, whole_tasks


def answer(instances: int, **states: str) -> AppStatus:
    tasks = [Task(id=name, app_id="/a", state=f"TASK_{state}") for name, state in states.items()]
    return AppStatus(id="/a", cmd="x", instances=instances, tasks=tasks)


def test_the_plan_has_as_many_names_as_there_are_instances() -> None:
    count = counted(answer(4, a="RUNNING", b="STAGING"), ())
    assert list(count.tasks) == ["a", "b", "waiting-0", "waiting-1"]
    assert count.waiting == 2


def test_placeholders_keep_their_names_while_tasks_come() -> None:
    """Adaptive scaling ends a worker only when it was named several times in a row."""
    before = counted(answer(4, a="RUNNING"), ()).tasks
    after = counted(answer(4, a="RUNNING", b="STAGING"), ()).tasks
    assert [name for name in before if is_placeholder(name)] == ["waiting-0", "waiting-1", "waiting-2"]
    assert [name for name in after if is_placeholder(name)] == ["waiting-0", "waiting-1"]


def test_who_dies_is_no_worker_any_more() -> None:
    count = counted(answer(1, a="RUNNING", b="KILLING", c="RUNNING", d="FINISHED"), {"c", "z"})
    assert set(count.tasks) == {"a"}
    assert count.doomed == {"b", "c"}
    assert count.waiting == 0


def test_more_tasks_than_instances_are_all_told() -> None:
    count = counted(answer(1, a="RUNNING", b="RUNNING"), ())
    assert set(count.tasks) == {"a", "b"}
    assert count.waiting == 0


def test_nothing_is_known_of_nothing() -> None:
    assert Count().tasks == Count().workers(2) == {}


def test_the_workers_of_one_task_are_counted_each() -> None:
    count = counted(answer(2, a="RUNNING"), ())
    assert count.workers(1) == {"a": "TASK_RUNNING", "waiting-0": "WAITING"}
    assert list(count.workers(2)) == ["a-0", "a-1", "waiting-0-0", "waiting-0-1"]
    assert [tasks_for(workers, 4) for workers in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_a_task_is_named_by_itself_or_by_all_of_its_workers() -> None:
    count = counted(answer(3, a="RUNNING", b="RUNNING"), ())
    assert whole_tasks(["b-1", "b-0", "a-0", "c", "waiting-0"], count, 2) == ["b", "waiting-0"]
    assert whole_tasks(["b", "waiting-1", "a"], count, 1) == ["b", "a"]

"""What becomes of instances whose tasks nobody watched for a while."""

from __future__ import annotations

from instances import instance

from hubfleet.backend.drivers import TaskExit
from hubfleet.backend.orchestrator.fetching import fetch_id
from hubfleet.backend.orchestrator.recovery import Findings, advance, compare
from hubfleet.backend.records import Condition


def test_what_runs_and_what_has_ended_is_told_apart() -> None:
    runs, ended, gone = instance(), instance(Condition.KILLING), instance()
    how = TaskExit(ended.task_id, 3, None)
    findings = compare([runs, ended, gone], {runs.task_id: None, ended.task_id: how})
    assert findings.running == [runs]
    assert findings.ended == [(ended, how), (gone, TaskExit(gone.task_id, None, None))]


def test_what_was_placed_and_not_started_is_started_and_what_fetches_for_it_is_left_alone() -> None:
    placed = instance(Condition.PROVISIONED)
    for fetching in (None, TaskExit(fetch_id(placed.task_id), 0, None)):
        findings = compare([placed], {fetch_id(placed.task_id): fetching})
        assert findings == Findings(unstarted=[placed])


def test_what_fetched_for_a_task_that_runs_is_left_over() -> None:
    runs = instance()
    findings = compare([runs], {runs.task_id: None, fetch_id(runs.task_id): TaskExit("", 0, None)})
    assert (findings.running, findings.left) == ([runs], {fetch_id(runs.task_id)})


def test_tasks_of_nobody_are_unwanted_while_they_run_and_left_when_they_ended() -> None:
    waits = instance(Condition.SCHEDULED)
    findings = compare([waits], {"a": None, "b": TaskExit("b", 0, None), waits.task_id: None})
    assert findings.unwanted == {"a", waits.task_id}
    assert findings.left == {"b"}


def test_what_waits_is_given_no_id_that_a_task_has() -> None:
    waits, fetches, free = (instance(Condition.SCHEDULED) for _ in range(3))
    runs = instance()
    known = {waits.task_id: None, fetch_id(fetches.task_id): None, runs.task_id: None}
    assert advance([waits, fetches, free, runs], known) == [waits, fetches]
    assert [each.incarnation for each in (waits, fetches, free, runs)] == [2, 2, 1, 1]

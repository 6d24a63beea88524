"""What events say of an app without a request, and where they do not say enough."""

from __future__ import annotations

from typing import Any

import pytest

from hubfleet.api.news import after, is_failure, stops
from hubfleet.api.status import AppStatus, Event

VERSION, OTHER = "2026-01-01T00:00:01.000Z", "2026-01-01T00:00:02.000Z"
CHECK = {"protocol": "TCP"}


def app(checks: int = 1, **task: Any) -> AppStatus:
    tasks = [{"id": "a.instance-1._app.1", "appId": "/a", "state": "TASK_RUNNING", **task}]
    body = {"id": "/a", "cmd": "x", "version": VERSION, "tasks": tasks, "healthChecks": [CHECK] * checks}
    return AppStatus.from_wire({**body, "deployments": [{"id": "d"}]})


def event(kind: str, **fields: Any) -> Event:
    return Event.from_wire({"eventType": kind, "timestamp": OTHER, **fields})


def of_deployment(kind: str, action: str, version: str = VERSION, name: str = "d") -> Event:
    steps = [{"actions": [{"action": action, "app": "/a"}]}]
    return event(kind, plan={"id": name, "version": version, "steps": steps})


@pytest.mark.parametrize("kind", ["deployment_success", "deployment_failed"])
def test_a_deployment_of_the_known_definition_begins_and_ends_without_a_question(kind: str) -> None:
    begun = after(app(), of_deployment("deployment_info", "ScaleApplication", name="e"))
    assert begun is not None
    assert [one.id for one in begun.deployments] == ["d", "e"]
    ended = after(begun, of_deployment(kind, "ScaleApplication"))
    assert ended is not None
    assert [one.id for one in ended.deployments] == ["e"]


@pytest.mark.parametrize("kind", ["deployment_info", "deployment_success", "deployment_failed"])
def test_a_deployment_of_another_definition_has_the_app_asked_for(kind: str) -> None:
    assert after(app(), of_deployment(kind, "ScaleApplication", OTHER)) is None


def test_the_removal_of_an_app_changes_nothing_of_its_definition() -> None:
    removal = of_deployment("deployment_info", "StopApplication", OTHER, "e")
    assert stops(removal, "/a")
    assert not stops(removal, "/b")
    found = after(app(), removal)
    assert found is not None
    assert len(found.deployments) == 2


@pytest.mark.parametrize(("version", "known"), [(VERSION, True), (OTHER, False), (None, False)])
def test_a_change_that_is_not_in_memory_yet_has_the_app_asked_for(version: str | None, known: bool) -> None:
    found = after(app(), event("api_post_event", appDefinition={"id": "/a", "version": version}))
    assert (found is not None) is known


def test_health_is_known_from_events_as_far_as_they_say_whose() -> None:
    alive = event("health_status_changed_event", appId="/a", instanceId="a.instance-1", alive=True)
    found = after(app(), alive)
    assert found is not None
    assert found.tasks_healthy == 1
    assert found.tasks[0].health_check_results[0].alive
    # The same in other words, and a failure that changes nothing more:
    said = event("instance_health_changed_event", runSpecId="/a", instanceId="a.instance-1", healthy=True)
    assert after(found, said) is found
    ill = after(
        found, event("health_status_changed_event", appId="/a", instanceId="a.instance-1", alive=False)
    )
    assert ill is not None
    assert ill.tasks_unhealthy == 1
    failed = event("failed_health_check_event", appId="/a", taskId="a.instance-1")
    assert after(ill, failed) is ill
    assert after(found, failed) is None, "what it was that failed is for the backend to say"
    assert after(app(checks=2), alive) is None, "which of the checks it was is not said"


def test_the_health_of_an_instance_is_not_that_of_one_whose_name_begins_alike() -> None:
    other = event("health_status_changed_event", appId="/a", instanceId="a.instance", alive=True)
    found = after(app(id="a.instance-1._app.1"), other)
    assert found is not None
    assert found.tasks_healthy == 0


@pytest.mark.parametrize(
    ("state", "failed"), [("TASK_FAILED", True), ("TASK_FINISHED", True), ("TASK_KILLED", False)]
)
def test_of_an_end_that_nobody_wished_the_app_says_more(state: str, failed: bool) -> None:
    ended = event("status_update_event", appId="/a", taskId="a.instance-1._app.1", taskStatus=state)
    assert is_failure(ended) is failed
    found = after(app(), ended)
    assert found is not None
    assert found.tasks == []


def test_an_unknown_event_has_the_app_asked_for() -> None:
    assert after(app(), event("new_kind_of_event", appId="/a")) is None

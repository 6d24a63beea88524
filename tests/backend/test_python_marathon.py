"""The field's own Python client, 0.13.0: apps, tasks, the queue and events, as it asks and as it reads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from conftest import RunningBackend
from field_client import small, wait_until
from marathon import MarathonClient, NotFoundError
from marathon.exceptions import ConflictError, MarathonHttpError
from marathon.models import MarathonApp, MarathonHealthCheck
from marathon.models.app import MarathonUpgradeStrategy


@pytest.fixture
def client(shared: RunningBackend) -> Iterator[MarathonClient]:
    # Basic authentication, since the client's event stream sends no other.
    client = MarathonClient(shared.url, username="anybody", password=shared.admin_token, timeout=60)
    yield client
    for app in client.list_apps():
        client.delete_app(app.id, force=True)
    wait_until(lambda: not client.list_deployments())


def test_the_clients_own_journey(client: MarathonClient) -> None:
    """What its integration tests do (``marathon-v2`` 7.1)."""
    assert client.get_info().name == "marathon"
    assert client.ping() == b'"pong"'
    # As long as there is not room for all of it, its deployment is to be seen.
    client.create_app("first", MarathonApp(cmd="exec sleep 3600", cpus=63.8, mem=16))
    wait_until(lambda: not client.list_deployments())
    client.create_app("test-trivial-app", small(instances=5))
    (deployment,) = client.list_deployments()
    assert deployment.affected_apps == ["/test-trivial-app"]
    client.delete_app("first")
    wait_until(lambda: not client.get_app("test-trivial-app").deployments)
    app = client.get_app("/test-trivial-app", embed_tasks=True)
    assert len(app.tasks) == app.tasks_running == app.instances == 5
    client.kill_given_tasks([task.id for task in app.tasks[:3]], scale=True)
    wait_until(lambda: not client.list_deployments())
    assert client.get_app("test-trivial-app").instances == 2
    assert client.scale_app("test-trivial-app", delta=2)["deploymentId"]
    wait_until(lambda: len(client.list_tasks("test-trivial-app")) == 4)
    wait_until(lambda: not client.list_deployments())
    assert client.scale_app("test-trivial-app", instances=1, force=True)["version"]
    wait_until(lambda: len(client.list_tasks("test-trivial-app")) == 1)
    assert [app.id for app in client.list_apps(cmd="sleep")] == ["/test-trivial-app"]
    assert client.delete_app("test-trivial-app")["deploymentId"]
    with pytest.raises(NotFoundError, match="does not exist"):
        client.get_app("test-trivial-app")


def test_a_full_definition_and_read_modify_write(client: MarathonClient) -> None:
    made = client.create_app(
        "/full/app",
        small(
            instances=0,
            env={"A": "1"},
            labels={"a": "b"},
            health_checks=[MarathonHealthCheck(protocol="TCP", port_index=0)],
            upgrade_strategy=MarathonUpgradeStrategy(minimum_health_capacity=0.5, maximum_over_capacity=0.0),
            backoff_factor=1.5,
        ),
    )
    assert made.env == {"A": "1"}
    wait_until(lambda: not client.list_deployments())
    app = client.get_app("/full/app")
    app.cpus = 0.2
    client.update_app("/full/app", app, force=True)
    wait_until(lambda: not client.list_deployments())
    changed = client.get_app("/full/app")
    assert (changed.cpus, changed.labels, changed.health_checks[0].port_index) == (0.2, {"a": "b"}, 0)
    with pytest.raises(ConflictError, match="already exists"):
        client.create_app("/full/app", small())
    with pytest.raises(MarathonHttpError, match="422"):
        client.scale_app("/full/app", instances=-1)


def test_failures_and_the_queue_are_read_without_unknown_fields(client: MarathonClient) -> None:
    client.create_app(
        "failing", MarathonApp(cmd="echo why >&2; exit 1", cpus=0.1, mem=16, backoff_seconds=300)
    )
    item = wait_until(lambda: next((i for i in client.list_queue() if i.delay.time_left_seconds > 0), None))
    assert item.app.id == "/failing"
    (same,) = client.list_queue(embed_last_unused_offers=True)
    assert same.app.id == "/failing"
    app = client.get_app("failing", embed_failures=True)
    assert app.last_task_failure.message == "Command exited with status 1"
    assert app.last_task_failure.state == "TASK_FAILED"
    assert client.list_apps(embed_last_task_failure=True)[0].last_task_failure.task_id


def test_the_unfiltered_event_stream_survives_a_full_life(client: MarathonClient) -> None:
    heard: list[Any] = []
    faults: list[Exception] = []

    def listen() -> None:
        try:
            for event in client.event_stream():
                heard.append(event)
                if event.event_type == "app_terminated_event":
                    return
        except Exception as fault:
            faults.append(fault)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    wait_until(lambda: heard)
    check = MarathonHealthCheck(
        protocol="TCP",
        interval_seconds=1,
        grace_period_seconds=0,
        max_consecutive_failures=1,
        timeout_seconds=1,
    )
    client.create_app("eventful", small(health_checks=[check]))
    wait_until(lambda: "unhealthy_instance_kill_event" in [event.event_type for event in heard])
    client.scale_app("eventful", instances=2, force=True)
    client.delete_app("eventful", force=True)
    listener.join(60)
    assert faults == []
    types = {event.event_type for event in heard}
    assert types >= {
        *("event_stream_attached", "api_post_event", "status_update_event", "instance_changed_event"),
        *("deployment_info", "deployment_step_success", "deployment_failed", "failed_health_check_event"),
        *("unhealthy_instance_kill_event", "group_change_success", "app_terminated_event"),
    }


def test_an_unknown_token_is_an_error_of_http(shared: RunningBackend) -> None:
    with pytest.raises(MarathonHttpError, match="the token is not known here"):
        MarathonClient(shared.url, auth_token="wrong").list_apps()

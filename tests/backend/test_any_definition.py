"""What holds for every definition: properties, over generated bodies."""

from __future__ import annotations

import collections
import collections.abc
from collections.abc import Callable
from typing import Any

from definitions import APPS, GOOD_APPS, spoiled
from hypothesis import HealthCheck, given, settings

from hubfleet.api.app import App
from hubfleet.api.rules import Violation
from hubfleet.backend.definition import WrongShape, changed_app, changed_apps, new_app, rollback_version
from hubfleet.backend.drivers.unable import not_given_to_processes
from hubfleet.backend.normal import normal
from hubfleet.backend.orchestrator.refusals import ChangeRefused, NotValid

collections.Iterable = collections.abc.Iterable  # type: ignore[attr-defined]  # gone in Python 3.10

from marathon.models import MarathonApp  # noqa: E402

many = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))

# What the client 0.13.0 does not know; emitted only when it is set.
UNKNOWN_TO_THE_CLIENT = ("tty", "check", "resourceLimits", "executorResources")


def nothing(app: App) -> list[Violation]:
    """What an engine cannot give that can do everything."""
    return []


@many
@given(APPS)
def test_a_definition_survives_the_wire(body: dict[str, Any]) -> None:
    app = App.from_request(body)
    assert App.from_request(app.to_wire()) == app
    assert App.model_validate_json(app.model_dump_json()) == app


@many
@given(APPS)
def test_the_canonical_form_is_one(body: dict[str, Any]) -> None:
    once = normal(App.from_request(body))
    assert normal(once) == once
    wire = once.to_wire()
    assert normal(App.from_request(wire)).to_wire() == wire
    assert not wire.keys() & {"ports", "uris", "ipAddress"}
    docker = wire.get("container", {}).get("docker", {})
    assert not docker.keys() & {"network", "portMappings", "credential"}
    assert ("portDefinitions" in wire) == once.on_host_network
    assert ("portMappings" in wire.get("container", {})) != once.on_host_network or "container" not in wire


def refusal(call: Callable[[], object]) -> list[tuple[str, Any]]:
    """Where and why a call refused what it was given; anything else that it raises is a fault."""
    try:
        call()
    except WrongShape as refused:
        return [(detail["path"], detail["errors"]) for detail in refused.details]
    except NotValid as refused:
        return [(violation.path, violation.error) for violation in refused.violations]
    except ChangeRefused as refused:
        return [("the whole", str(refused))]
    return [("nothing", "was refused")]


STORED = normal(App.from_request({"id": "/x/y", "cmd": "sleep 1", "labels": {"a": "b"}}))


@many
@given(spoiled())
def test_whatever_is_sent_is_taken_or_refused_with_reasons(body: Any) -> None:
    for call in (
        lambda: new_app(body, cannot=not_given_to_processes),
        lambda: new_app(body, "/x/y", cannot=not_given_to_processes),
        lambda: changed_app(STORED, body, cannot=not_given_to_processes),
        lambda: list(changed_apps([body], lambda app_id, changes: new_app(changes, app_id, cannot=nothing))),
        lambda: rollback_version(body),
    ):
        reasons = refusal(call)
        assert reasons
        assert all(path and error for path, error in reasons)


@many
@given(GOOD_APPS)
def test_an_update_with_what_is_there_changes_nothing(body: dict[str, Any]) -> None:
    """Read, modify, write: what a GET answers is a legal update, with all that it only shows."""
    app = new_app(body, cannot=nothing)
    shown = {**app.to_wire(), "tasks": [], "tasksRunning": 1, "deployments": [], "versionInfo": {"x": 1}}
    assert changed_app(app, shown, cannot=nothing) == app
    without = changed_app(app, {"cpus": 3}, cannot=nothing)
    reset = {"executor_resources": None, "resource_limits": None}
    assert without == app.model_copy(update={"cpus": 3.0, **reset})


@many
@given(APPS)
def test_the_client_0_13_parses_what_is_emitted(body: dict[str, Any]) -> None:
    wire = normal(App.from_request(body)).to_wire()
    for name in UNKNOWN_TO_THE_CLIENT:
        if name not in body:
            assert name not in wire
        wire.pop(name, None)
    if "container" in wire:
        wire["container"].pop("linuxInfo", None)
        wire["container"]["volumes"] = [v for v in wire["container"]["volumes"] if "secret" not in v]
    assert MarathonApp.from_json(wire).id == wire["id"]

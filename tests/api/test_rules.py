"""The rules between the fields of a definition (``marathon-v2`` section 2, "V")."""

from __future__ import annotations

from typing import Any

import pytest

from hubfleet.api.app import App
from hubfleet.api.rules import GPUS, SECRETS, violations


def broken(**fields: Any) -> list[tuple[str, str]]:
    body = {"id": "/a", "cmd": "x", "portDefinitions": [{"port": 0}], **fields}
    app = App.from_request({name: value for name, value in body.items() if value is not None})
    return [(violation.path, violation.error) for violation in violations(app, (GPUS, SECRETS))]


IMAGE = {"docker": {"image": "i"}}
HTTP = "Health check port indices must address an element of the ports array or container port mappings."


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"cmd": None, "args": ["x"]},
        {"cmd": None, "container": IMAGE},
        {"cmd": None, "container": {"type": "MESOS"}},
        {"healthChecks": [{"protocol": "TCP", "portIndex": 0}, {"protocol": "HTTP", "port": 80}]},
        {"healthChecks": [{"protocol": "COMMAND", "command": {"value": "true"}}]},
        {"constraints": [["hostname", "unique"], ["rack", "GROUP_BY", "3"], ["a", "LIKE", "x.*"]]},
        {"constraints": [["a", "MAX_PER", "2"], ["@zone", "IS", "b-1"], ["a", "CLUSTER"]]},
        {"env": {"A": {"secret": "s"}}, "secrets": {"s": {"source": "x"}}},
        {"unreachableStrategy": {"inactiveAfterSeconds": 1, "expungeAfterSeconds": 1}},
        {
            "labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"},
            "upgradeStrategy": {"minimumHealthCapacity": 0, "maximumOverCapacity": 0},
        },
        {"portDefinitions": [{"port": 0}, {"port": 0}, {"port": 80, "name": "a"}]},
        {"id": "relative"},
    ],
)
def test_what_marathon_takes(fields: dict[str, Any]) -> None:
    fields = {**fields, "id": "/" + fields.get("id", "/a").strip("/")}
    assert broken(**fields) == []


@pytest.mark.parametrize(
    ("fields", "path", "sentence"),
    [
        ({"id": "/a/tasks"}, "/id", "must not end with any of the following reserved keywords"),
        ({"id": "/restart"}, "/id", "must not end with any of the following reserved keywords"),
        ({"id": "/a/../b"}, "/id", "must fully match regular expression"),
        ({"id": "/a/.."}, "/id", "must fully match regular expression"),
        ({"args": ["y"]}, "/", "must either contain one of 'cmd' or 'args', and/or a 'container'"),
        ({"cmd": None}, "/", "must either contain one of 'cmd' or 'args', and/or a 'container'"),
        ({"container": {"type": "DOCKER"}}, "/container/docker", "not defined"),
        (
            {"portDefinitions": [{"name": "a"}, {"name": "a"}]},
            "/portDefinitions",
            "Port names must be unique.",
        ),
        ({"portDefinitions": [{"port": 9}, {"port": 9}]}, "/portDefinitions", "Ports must be unique."),
        ({"healthChecks": [{"portIndex": 1}]}, "/healthChecks(0)", HTTP),
        ({"healthChecks": [{}], "portDefinitions": []}, "/healthChecks(0)", HTTP),
        ({"healthChecks": [{"port": 0}], "portDefinitions": []}, "/healthChecks(0)", HTTP),
        ({"healthChecks": [{"protocol": "COMMAND"}]}, "/healthChecks(0)", "must have a command"),
        (
            {"healthChecks": [{"protocol": "MESOS_TCP"}] * 2},
            "/",
            "at most one Mesos health check",
        ),
        (
            {"readinessChecks": [{"portName": "x"}]},
            "/readinessChecks(0)/portName",
            "No port definition reference",
        ),
        ({"constraints": [["a"]]}, "/constraints(0)", "Each constraint must have either 2 or 3 fields"),
        ({"constraints": [["", "UNIQUE"]]}, "/constraints(0)", "missing field"),
        ({"constraints": [["a", "NEAR"]]}, "/constraints(0)", "operator must be one of the following"),
        ({"constraints": [["a", "UNIQUE", "1"]]}, "/constraints(0)", "UNIQUE does not accept a value"),
        ({"constraints": [["a", "GROUP_BY", "x"]]}, "/constraints(0)", "must define an integer value"),
        ({"constraints": [["a", "MAX_PER"]]}, "/constraints(0)", "MAX_PER requires an integer value"),
        ({"constraints": [["a", "LIKE"]]}, "/constraints(0)", "non-empty, regular expression"),
        ({"constraints": [["a", "UNLIKE", "("]]}, "/constraints(0)", "is not a valid regular expression"),
        ({"constraints": [["a", "IS", "a b"]]}, "/constraints(0)", "IS only supports"),
        ({"env": {"A": {"secret": "s"}}}, "/env/A/secret", "references an undefined secret"),
        (
            {"unreachableStrategy": {"inactiveAfterSeconds": 2, "expungeAfterSeconds": 1}},
            "/unreachableStrategy/inactiveAfterSeconds",
            "inactiveAfterSeconds (2) must be less or equal to expungeAfterSeconds, which is 1",
        ),
        (
            {"labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}},
            "/upgradeStrategy",
            "Single instance app must have an upgradeStrategy of 0 and 0",
        ),
    ],
)
def test_what_it_does_not(fields: dict[str, Any], path: str, sentence: str) -> None:
    found = broken(**fields)
    assert [place for place, _ in found] == [path]
    assert sentence in found[0][1]


def test_all_violations_are_told_together() -> None:
    single = {"MARATHON_SINGLE_INSTANCE_APP": "true"}
    assert {path for path, _ in broken(labels=single, instances=2, args=["y"], id="/tasks")} == {
        *("/id", "/", "/upgradeStrategy")
    }

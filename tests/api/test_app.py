"""The app definition: Marathon's limits, defaults and JSON (``marathon-v2`` section 2)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from hubfleet.api.app import App
from hubfleet.api.wire import format_timestamp, parse_timestamp


def request(**fields: Any) -> App:
    return App.from_request({"id": "/a", "cmd": "sleep 1", **fields})


def test_marathons_defaults() -> None:
    assert request().to_wire() == {
        "id": "/a",
        "cmd": "sleep 1",
        "cpus": 1.0,
        "mem": 128.0,
        "disk": 0.0,
        "gpus": 0,
        "instances": 1,
        "labels": {},
        "networks": [],
        "requirePorts": False,
        "upgradeStrategy": {"minimumHealthCapacity": 1.0, "maximumOverCapacity": 1.0},
        "backoffSeconds": 1.0,
        "backoffFactor": 1.15,
        "maxLaunchDelaySeconds": 300.0,
        "killSelection": "YOUNGEST_FIRST",
        "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
        "executor": "",
    }


def test_a_full_definition_survives_the_wire() -> None:
    body = {
        "args": ["a", ""],
        "cpus": 0.5,
        "env": {"A": "1", "B": {"secret": "s"}},
        "secrets": {"s": {"source": "x"}},
        "labels": {"a": ""},
        "constraints": [["hostname", "UNIQUE"]],
        "container": {
            "type": "DOCKER",
            "docker": {"image": "i", "parameters": [{"key": "k", "value": "v"}]},
            "volumes": [{"containerPath": "/d", "hostPath": "/h", "mode": "RO"}],
        },
        "portDefinitions": [{"port": 0, "name": "http", "protocol": "udp,tcp"}],
        "healthChecks": [{"protocol": "HTTP", "path": "/x", "portIndex": 0, "ignoreHttp1xx": True}],
        "unreachableStrategy": "disabled",
        "taskKillGracePeriodSeconds": 7,
    }
    once = request(**body).to_wire()
    assert App.from_wire(once).to_wire() == once
    assert once["healthChecks"][0]["ignoreHttp1xx"] is True
    assert once["env"] == body["env"]
    assert once["unreachableStrategy"] == "disabled"


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"cpus": 0}, ("cpus",)),
        ({"cpus": -1}, ("cpus",)),
        ({"cpus": True}, ("cpus",)),
        ({"cpus": "1"}, ("cpus",)),
        ({"cpus": float("nan")}, ("cpus",)),
        ({"cpus": float("inf")}, ("cpus",)),
        ({"cpus": 10**400}, ("cpus",)),
        ({"mem": -0.1}, ("mem",)),
        ({"disk": -1}, ("disk",)),
        ({"gpus": 0.5}, ("gpus",)),
        ({"instances": -1}, ("instances",)),
        ({"instances": 1.0}, ("instances",)),
        ({"instances": True}, ("instances",)),
        ({"instances": 2**31}, ("instances",)),
        ({"cmd": ""}, ("cmd",)),
        ({"cmd": 1}, ("cmd",)),
        ({"args": "x"}, ("args",)),
        ({"args": [1]}, ("args", 0)),
        ({"labels": {"a": 1}}, ("labels", "a")),
        ({"labels": [1]}, ("labels",)),
        ({"env": {"a": 1}}, ("env", "a", "=text")),
        ({"id": "/a b"}, ("id",)),
        ({"id": "/A"}, ("id",)),
        ({"id": "/a\n"}, ("id",)),
        ({"id": "/a" * 150}, ("id",)),
        ({"backoffFactor": 0.9}, ("backoffFactor",)),
        ({"backoffSeconds": 1e300}, ("backoffSeconds",)),
        ({"maxLaunchDelaySeconds": 1e300}, ("maxLaunchDelaySeconds",)),
        ({"healthChecks": [{"intervalSeconds": 10**400}]}, ("healthChecks", 0, "intervalSeconds")),
        ({"healthChecks": [{"protocol": "ICMP"}]}, ("healthChecks", 0, "protocol")),
        ({"portDefinitions": [{"port": 65536}]}, ("portDefinitions", 0, "port")),
        ({"portDefinitions": [{"name": "A"}]}, ("portDefinitions", 0, "name")),
        ({"upgradeStrategy": {"minimumHealthCapacity": 1.1}}, ("upgradeStrategy", "minimumHealthCapacity")),
        ({"killSelection": "ANY"}, ("killSelection",)),
    ],
)
def test_a_limit_is_told_with_its_place(fields: dict[str, Any], place: tuple[Any, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        request(**fields)
    assert place in [error["loc"] for error in refused.value.errors()]


def test_unknown_fields_are_dropped_from_requests_and_kept_from_answers() -> None:
    assert "novelty" not in request(novelty=1).to_wire()
    assert App.from_wire({"id": "/a", "novelty": 1}).to_wire()["novelty"] == 1


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"),
        ("2026-01-02T05:04:05.678901+02:00", "2026-01-02T03:04:05.678Z"),
    ],
)
def test_timestamps_are_written_in_one_way(text: str, wire: str) -> None:
    assert format_timestamp(parse_timestamp(text)) == wire


@pytest.mark.parametrize(
    "text", ["", "x", "2026-01-02T03:04:05", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00+14:00"]
)
def test_what_is_no_timestamp_is_refused_in_marathons_words(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid timestamp provided"):
        parse_timestamp(text)

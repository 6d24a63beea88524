"""Updates of definitions (``marathon-v2`` 1.1), lists of them, and what the process driver cannot give."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from hubfleet.api.app import App
from hubfleet.api.rules import Violation
from hubfleet.backend.definition import WrongShape, changed_app, changed_apps, new_app, rollback_version
from hubfleet.backend.drivers.unable import not_given_to_processes
from hubfleet.backend.normal import normal
from hubfleet.backend.orchestrator.refusals import ChangeRefused, NotValid

ALONE = "The 'version' field may only be combined with the 'id' field."
EMPTY = {"cmd": "sleep 1"}


def nothing(app: App) -> list[Violation]:
    return []


def made(**fields: Any) -> App:
    return new_app({"id": "/g/a", **EMPTY, **fields}, cannot=nothing)


def changed(app: App, **changes: Any) -> App:
    return changed_app(app, changes, cannot=nothing)


def test_fields_are_replaced_as_wholes_and_the_rest_is_kept() -> None:
    app = made(env={"A": "1", "B": "2"}, labels={"x": "y"}, cpus=2, user="u")
    after = changed(app, env={"C": "3"}, labels=None, instances=4)
    assert (after.env, after.labels, after.cpus, after.user) == ({"C": "3"}, {"x": "y"}, 2.0, "u")
    assert after.instances == 4
    assert changed(app, env={}).env == {}


def test_limits_above_what_is_requested_are_reset() -> None:
    app = made(executorResources={"cpus": 1}, resourceLimits={"mem": "unlimited"})
    after = changed(app, cpus=2)
    assert (after.executor_resources, after.resource_limits) == (None, None)
    kept = changed(app, resourceLimits={"cpus": 3})
    assert kept.resource_limits is not None
    assert (kept.resource_limits.cpus, kept.resource_limits.mem) == (3.0, None)


def test_from_a_command_to_arguments_only_as_a_whole() -> None:
    with pytest.raises(NotValid) as refused:
        changed(made(), args=["/bin/true"])
    assert [violation.path for violation in refused.value.violations] == ["/"]
    app = new_app({"args": ["/bin/true"]}, "/g/a", cannot=nothing)
    assert (app.cmd, app.args) == (None, ["/bin/true"])
    assert changed(app, cmd="sleep 2", args=[]).cmd == "sleep 2"


def test_an_old_spelling_replaces_what_is_kept_in_the_new_one() -> None:
    app = made(portDefinitions=[{"port": 5, "name": "x"}])
    assert [port.port for port in changed(app, ports=[7]).port_definitions or []] == [7]
    bridged = changed(app, container={"docker": {"image": "i", "network": "BRIDGE"}})
    assert [network.mode for network in bridged.networks] == ["container/bridge"]
    assert bridged.port_definitions is None
    back = changed(bridged, networks=[{"mode": "host"}])
    assert back.container is not None
    assert back.container.port_mappings is None
    assert back.port_definitions is not None


def test_the_id_is_that_of_the_url() -> None:
    assert changed(made(), id="/other").id == "/g/a"
    assert new_app({"id": "/other", **EMPTY}, "/g/a", cannot=nothing).id == "/g/a"


@pytest.mark.parametrize(
    ("app_id", "base", "found"),
    [
        ("a", "", "/a"),
        ("a", "/g", "/g/a"),
        ("/a", "/g", "/a"),
        ("../a", "/g/h", "/g/a"),
        ("/g/./a/", "", "/g/a"),
        ("/g/../a", "", "/a"),
    ],
)
def test_ids_are_told_from_the_root(app_id: str, base: str, found: str) -> None:
    assert new_app({"id": app_id, **EMPTY}, cannot=nothing, base=base).id == found


def test_nulls_are_absent_but_not_in_the_users_own_maps() -> None:
    app = made(healthChecks=[{"port": 9, "intervalSeconds": None, "path": None}], user=None)
    assert app.health_checks[0].interval_seconds == 60
    with pytest.raises(WrongShape) as refused:
        made(env={"A": None, "str": 1, "=text": 1}, labels={"x": None})
    assert {detail["path"] for detail in refused.value.details} == {
        *("/env/A", "/env/str", "/env/=text", "/labels/x")
    }


def test_a_version_goes_back() -> None:
    assert rollback_version({"cpus": 1}) is None
    assert rollback_version({"version": None, "cpus": 1}) is None
    assert rollback_version([]) is None
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    for beside in ({}, {"id": "/a"}, {"cmd": None}, {"tasksRunning": 3}):
        assert rollback_version({"version": "2026-01-02T03:04:05.678Z", **beside}) == moment


@pytest.mark.parametrize("beside", [{"cpus": 1}, {"env": {}}, {"versionInfo": {}}, {"ports": []}])
def test_a_version_goes_back_alone(beside: dict[str, Any]) -> None:
    body = {"version": "2026-01-02T03:04:05.678Z", **beside}
    for call in (lambda: rollback_version(body), lambda: changed(made(), **body)):
        with pytest.raises(NotValid) as refused:
            call()
        assert refused.value.violations == [("/", ALONE)]


def test_a_version_that_is_none() -> None:
    with pytest.raises(ChangeRefused, match="Invalid timestamp provided 'yesterday'"):
        rollback_version({"version": "yesterday"})
    with pytest.raises(WrongShape):
        rollback_version({"version": 7})


def test_lists_of_updates_tell_all_that_is_wrong_with_their_places() -> None:
    def change(app_id: str, changes: dict[str, Any]) -> App:
        return new_app(changes, app_id, cannot=nothing)

    apps = list(changed_apps([{"id": "a", **EMPTY}, {"id": "/g/b", **EMPTY}], change))
    assert [app.id for app in apps] == ["/a", "/g/b"]
    with pytest.raises(WrongShape) as shapes:
        list(changed_apps([{"id": "/a"}, {"id": "/b", "cpus": -1}, 7, {"id": 7}], change))
    assert shapes.value.details == [
        {"path": "(1)/cpus", "errors": ["error.min"]},
        {"path": "(2)", "errors": ["error.expected.jsobject"]},
        {"path": "(3)/id", "errors": ["error.expected.jsstring"]},
    ]
    with pytest.raises(NotValid) as broken:
        list(changed_apps([{"id": "/a"}, {"id": "/b/tasks", **EMPTY}], change))
    assert [violation.path for violation in broken.value.violations] == ["(0)", "(1)/id"]
    with pytest.raises(ChangeRefused, match="requirement failed: App Update must have app id set"):
        list(changed_apps([{"cpus": 1}], change))
    with pytest.raises(WrongShape) as no_list:
        list(changed_apps({}, change))
    assert no_list.value.details == [{"path": "/", "errors": ["error.expected.jsarray"]}]


@pytest.mark.parametrize(
    ("fields", "path", "sentence"),
    [
        ({"container": {"docker": {"image": "i"}}}, "/container/docker", "Docker Swarm and Nomad"),
        ({"cmd": None, "container": {"type": "MESOS"}}, "/", "there must be a command"),
        ({"networks": [{"mode": "container/bridge"}]}, "/networks", "Docker Swarm and Nomad"),
        (
            {"container": {"type": "MESOS", "linuxInfo": {"seccomp": {"unconfined": True}}}},
            "/container/linuxInfo",
            "Marathon could",
        ),
        ({"env": {"A": {"secret": "s"}}}, "/secrets", "give their values in 'env'"),
        ({"secrets": {"s": {"source": "x"}}}, "/secrets", "Marathon could"),
        ({"executor": "/opt/executor"}, "/executor", "Marathon could"),
        ({"tty": True}, "/tty", "no terminal"),
        ({"check": {"tcp": {}}}, "/check", "use healthChecks"),
        ({"resourceLimits": {"mem": "unlimited"}}, "/resourceLimits/mem", "holds a task to its 'mem'"),
        ({"resourceLimits": {"cpus": 2}}, "/resourceLimits/cpus", 'ask for "unlimited"'),
        *(
            (
                {"container": {"type": "MESOS", "volumes": [{"containerPath": "d", "mode": "RW", **kind}]}},
                "/container/volumes(0)",
                "Marathon could",
            )
            for kind in (
                {"persistent": {"size": 1}},
                {"external": {"name": "v", "provider": "dvdi"}},
                {"secret": "s"},
            )
        ),
    ],
)
def test_what_processes_cannot_be_given(fields: dict[str, Any], path: str, sentence: str) -> None:
    body = {"id": "/a", "cmd": "sleep 1", **fields}
    app = App.from_request({name: value for name, value in body.items() if value is not None})
    ((found, error),) = not_given_to_processes(normal(app))
    assert found == path
    assert sentence in error


@pytest.mark.parametrize(
    "fields",
    [
        {"executor": "//cmd", "executorResources": {"cpus": 1}, "tty": False, "role": "*"},
        {
            "acceptedResourceRoles": ["*"],
            "residency": {},
            "resourceLimits": {"cpus": "unlimited", "mem": 128},
        },
        {"unreachableStrategy": "disabled", "killSelection": "OLDEST_FIRST", "container": {"type": "MESOS"}},
        {"healthChecks": [{"protocol": "MESOS_HTTP"}], "networks": [{"mode": "host"}], "requirePorts": False},
    ],
)
def test_what_makes_no_difference_here_is_taken(fields: dict[str, Any]) -> None:
    assert new_app({"id": "/a", **EMPTY, **fields}, cannot=not_given_to_processes).id == "/a"

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
        {"constraints": [["a", "LIKE", r"([0-9]{1,3}\.){3}[0-9]{1,3}(:[0-9]{2,5})?"]]},
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


MESOS = {"type": "MESOS"}
NONE = {"minimumHealthCapacity": 0, "maximumOverCapacity": 0}
NETWORK = [{"mode": "container", "name": "n"}]
TWO = [{"name": "n"}, {"name": "m"}]


def volume(**fields: Any) -> dict[str, Any]:
    return {"container": {**MESOS, "volumes": [{"containerPath": "d", "mode": "RW", **fields}]}}


def persistent(**fields: Any) -> dict[str, Any]:
    resident = {"unreachableStrategy": "disabled", "upgradeStrategy": {"maximumOverCapacity": 0}}
    return {**volume(persistent={"size": 5, **fields}), **resident}


def mapped(*mappings: dict[str, Any], networks: Any = NETWORK) -> dict[str, Any]:
    return {"container": {**MESOS, "portMappings": list(mappings)}, "networks": networks}


@pytest.mark.parametrize(
    ("fields", "path", "sentence"),
    [
        ({"id": "/"}, "/id", "must not be root"),
        # networks
        (
            {"networks": [{"mode": "host", "name": "n"}]},
            "/networks",
            "Host networks may not have names or labels",
        ),
        (
            {"networks": [{"mode": "host", "labels": {"a": "b"}}]},
            "/networks",
            "Host networks may not have names or labels",
        ),
        (
            {"networks": [{"mode": "container/bridge", "name": "n"}]},
            "/networks",
            "Bridge networks may not have names",
        ),
        ({"networks": NETWORK * 2}, "/networks", "Duplicate networks are not allowed"),
        (
            {"networks": [{}]},
            "/networks",
            "Network name must be specified when container network is selected.",
        ),
        ({"networks": [{"mode": "host"}] * 2}, "/networks", "May specify a single host network"),
        ({"networks": [{"mode": "host"}, {"name": "n"}]}, "/networks", "May specify a single host network"),
        ({"container": IMAGE, "networks": TWO}, "/", "may only specify a single container network"),
        # port mappings
        (mapped({"name": "a"}, {"name": "a"}), "/container/portMappings", "Port names must be unique."),
        (mapped({"networkNames": ["x"]}), "/container/portMappings(0)/networkNames(0)", "is not one of (n)"),
        (
            mapped({}, {"hostPort": 0}, networks=TWO),
            "/container/portMappings(1)",
            "networkNames must be a single item list when hostPort is specified",
        ),
        # images
        (
            {"container": {"docker": {"image": "i", "pullConfig": {"secret": "s"}}}},
            "/container/docker/pullConfig",
            "pullConfig is not supported with Docker containerizer",
        ),
        (
            {"container": {**MESOS, "docker": {"image": "i", "pullConfig": {"secret": "s"}}}},
            "/container/docker/pullConfig",
            "pullConfig.secret must refer to an existing secret",
        ),
        (
            {"container": {**MESOS, "docker": {"image": "i", "parameters": [{"key": "k", "value": "v"}]}}},
            "/container/docker/parameters",
            "must be empty",
        ),
        # volumes
        (volume(secret="s"), "/container/volumes(0)", "volume.secret must refer to an existing secret"),
        (
            volume(external={"name": "v", "provider": "dvdi"}),
            "/container/volumes(0)",
            "Feature external_volumes is not enabled. Enable with --enable_features external_volumes)",
        ),
        (persistent(size=0), "/container/volumes(0)/persistent/size", "expected more than 0"),
        (persistent(maxSize=9), "/container/volumes(0)/persistent", "Only mount volumes can have maxSize"),
        (
            persistent(maxSize=5, type="mount"),
            "/container/volumes(0)/persistent",
            "Max size must be larger than size",
        ),
        (
            persistent(constraints=[["path", "LIKE", "x"]]),
            "/container/volumes(0)/persistent",
            "Constraints on root volumes are not supported",
        ),
        (
            persistent(type="path", constraints=[["host", "LIKE", "x"]]),
            "/container/volumes(0)/persistent/constraints(0)",
            "Unsupported constraint host,LIKE,x",
        ),
        (
            persistent(type="path", constraints=[["path", "UNIQUE", "x"]]),
            "/container/volumes(0)/persistent/constraints(0)",
            "Operator must be one of LIKE, UNLIKE",
        ),
        (
            persistent(type="path", constraints=[["path", "LIKE", "("]]),
            "/container/volumes(0)/persistent/constraints(0)",
            "Invalid regular expression",
        ),
        (
            {**persistent(), "unreachableStrategy": {}},
            "/",
            "unreachableStrategy must be disabled for resident",
        ),
        (
            {**persistent(), "upgradeStrategy": {}},
            "/upgradeStrategy/maximumOverCapacity",
            "got 1.0, expected 0.0",
        ),
        # checks
        (
            {"healthChecks": [{"ipProtocol": "IPv6"}]},
            "/healthChecks(0)",
            "IPv6 can only be used for container type DOCKER and Mesos http/https/tcp health checks",
        ),
        ({"check": {"tcp": {}}, "container": IMAGE}, "/", "must not use 'checks' if using docker"),
        ({"check": {}}, "/check", "Must specify a single type of check, http, tcp, or exec"),
        ({"check": {"tcp": {}, "http": {}}}, "/check", "Must specify a single type of check"),
        ({"check": {"tcp": {"portIndex": 3}}}, "/check", "check port index must address an element"),
        ({"check": {"exec": {"command": {}}}}, "/check/exec/command", "specify either `shell` or `argv`"),
        (
            {
                "readinessChecks": [{"portName": "a", "timeoutSeconds": 30}],
                "portDefinitions": [{"name": "a"}],
            },
            "/readinessChecks(0)/timeoutSeconds",
            "got 30, expected less than 30",
        ),
        (
            {"readinessChecks": [{"portName": "a"}] * 2, "portDefinitions": [{"name": "a"}]},
            "/readinessChecks",
            "got 2, expected 1 or less",
        ),
        # resources and roles
        (
            {"resourceLimits": {"cpus": 0.5}},
            "/resourceLimits/cpus",
            "resource limit must be greater than or equal to requested resource (1.0)",
        ),
        ({"resourceLimits": {"mem": 1}}, "/resourceLimits/mem", "requested resource (128.0)"),
        ({"gpus": 1, "container": IMAGE}, "/", "GPU resources only work with the Mesos containerizer"),
        ({"role": "dev"}, "/role", "got dev, expected one of: *"),
        ({"acceptedResourceRoles": []}, "/acceptedResourceRoles", "must not be empty"),
        ({"acceptedResourceRoles": ["*", "x"]}, "/acceptedResourceRoles", "can only contain *"),
        # the rest
        ({"fetch": [{"uri": "http://x/a b"}]}, "/fetch(0)/uri", "URI has invalid syntax."),
        ({"dependencies": ["/b", "/b/tasks"]}, "/dependencies(1)", "must not end with"),
        ({"constraints": [["a", "LIKE", "a{99999999999}"]]}, "/constraints(0)", "is not a valid regular"),
        ({"constraints": [["a", "LIKE", "(" * 1000]]}, "/constraints(0)", "is not a valid regular"),
        (
            {"constraints": [["a", "LIKE", "a{65535}"]]},
            "/constraints(0)",
            "at most 20000 characters here with",
        ),
        ({"constraints": [["a", "UNLIKE", "(a{,200}b){200,}"]]}, "/constraints(0)", "counts, such as {3}"),
        ({"constraints": [["a", "LIKE", "a" * 1025]]}, "/constraints(0)", "at most 1024 characters"),
        ({"constraints": [["a", "MAX_PER", "3000000000"]]}, "/constraints(0)", "MAX_PER requires an integer"),
        (
            {"labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}, "instances": 2, "upgradeStrategy": NONE},
            "/",
            "Single instance app may only have one instance",
        ),
    ],
)
def test_rules_of_the_parts(fields: dict[str, Any], path: str, sentence: str) -> None:
    ((found, error),) = broken(**fields)
    assert found == path
    assert sentence in error


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"secrets": {"s": {"source": "x"}}}, "/secrets"),
        ({"env": {"A": {"secret": "s"}}, "secrets": {"s": {"source": "x"}}}, "/env"),
        ({**volume(secret="s"), "secrets": {"s": {"source": "x"}}}, "/container/volumes(0)"),
    ],
)
def test_secrets_are_a_feature(fields: dict[str, Any], path: str) -> None:
    app = App.from_request({"id": "/a", "cmd": "x", **fields})
    assert violations(app, (SECRETS,)) == []
    found = dict(violations(app, ()))
    assert found.keys() == {"/secrets", path}
    assert found["/secrets"] == "Feature secrets is not enabled. Enable with --enable_features secrets)"


@pytest.mark.parametrize(
    "uri",
    ["http://x/a%20b.tgz?c=d#e", "file:///tmp/x", "/tmp/x", "hdfs://h:80/[a]", "x", "http://ü/é", "mailto:a"],
)
def test_uris_that_java_reads(uri: str) -> None:
    assert broken(fetch=[{"uri": uri}]) == []


@pytest.mark.parametrize(
    "uri", ["http://", "http:", "a b", "%zz", "a#b#c", "a\tb", "<x>", "a|b", "http://x/%2"]
)
def test_uris_that_it_does_not(uri: str) -> None:
    assert broken(fetch=[{"uri": uri}]) == [("/fetch(0)/uri", "URI has invalid syntax.")]


def test_the_pattern_of_uris_takes_no_time() -> None:
    """A text that fails at its end, for which a careless pattern would try everything."""
    for uri in ("a" * 1023 + " ", "%41" * 340 + " ", "http:" + "/" * 1000 + " "):
        assert broken(fetch=[{"uri": uri}])

"""One spelling of each definition (``marathon-v2`` 2.1): what old clients send, as today's API has it."""

from __future__ import annotations

from typing import Any

import pytest

from hubfleet.api.app import App
from hubfleet.backend.normal import contradictions, is_extracted, normal

HOST = [{"mode": "host"}]
BRIDGE = [{"mode": "container/bridge"}]
DEFAULT = {"containerPort": 0, "servicePort": 0, "protocol": "tcp", "labels": {}}


def read(**fields: Any) -> App:
    return App.from_request({"id": "/a/b", "cmd": "sleep 1", **fields})


def canonical(**fields: Any) -> dict[str, Any]:
    return normal(read(**fields)).to_wire()


def docker(**fields: Any) -> dict[str, Any]:
    return {"docker": {"image": "i", **fields}}


def ports(wire: dict[str, Any]) -> list[tuple[int, int | None]]:
    return [(port["containerPort"], port.get("hostPort")) for port in wire["container"]["portMappings"]]


def test_what_follows_is_written_out() -> None:
    wire = canonical(healthChecks=[{}, {"port": 80}, {"protocol": "COMMAND", "command": {"value": "x"}}])
    assert wire["networks"] == HOST
    assert wire["portDefinitions"] == [{"port": 0, "protocol": "tcp", "name": "default"}]
    assert wire["role"] == "*"
    assert "container" not in wire
    assert [check.get("portIndex") for check in wire["healthChecks"]] == [0, None, None]


@pytest.mark.parametrize(
    ("fields", "networks"),
    [
        ({}, HOST),
        ({"networks": []}, HOST),
        ({"container": docker(network="HOST")}, HOST),
        ({"container": docker(network="BRIDGE")}, BRIDGE),
        ({"container": docker(network="USER")}, [{"mode": "container"}]),
        (
            {"container": docker(network="USER"), "ipAddress": {"networkName": "n", "labels": {"a": "b"}}},
            [{"mode": "container", "name": "n", "labels": {"a": "b"}}],
        ),
        ({"container": docker(network="BRIDGE"), "ipAddress": {"networkName": "n"}}, BRIDGE),
        ({"container": docker(network="HOST"), "ipAddress": {}}, HOST),
        ({"ipAddress": {"networkName": "n"}}, [{"mode": "container", "name": "n"}]),
        ({"ipAddress": {"networkName": "mesos-bridge"}}, BRIDGE),
        ({"networks": [{"name": "n"}]}, [{"mode": "container", "name": "n"}]),
    ],
)
def test_old_and_new_networks(fields: dict[str, Any], networks: list[dict[str, Any]]) -> None:
    wire = canonical(**fields)
    assert wire["networks"] == networks
    assert "ipAddress" not in wire
    assert not wire.get("container", {}).get("docker", {}).keys() & {"network", "portMappings"}


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"ports": []}, []),
        ({"portDefinitions": []}, []),
        ({"ports": [0, 80]}, [0, 80]),
        ({"ports": [80], "portDefinitions": [{"port": 80, "name": "x"}]}, [80]),
        ({"container": {**docker(network="HOST"), "portMappings": [{"containerPort": 1}]}}, [0]),
    ],
)
def test_ports_of_the_host(fields: dict[str, Any], found: list[int]) -> None:
    wire = canonical(**fields)
    assert [port["port"] for port in wire["portDefinitions"]] == found
    assert "ports" not in wire
    assert "portMappings" not in wire.get("container", {})


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"container": docker(network="BRIDGE", portMappings=[{"containerPort": 80}])}, [(80, 0)]),
        ({"container": docker(network="BRIDGE")}, [(0, 0)]),
        ({"container": docker(network="USER")}, [(0, None)]),
        ({"container": docker(), "networks": BRIDGE, "ports": [0, 0]}, [(0, 0), (0, 0)]),
        ({"container": {**docker(), "portMappings": []}, "networks": BRIDGE}, []),
        ({"container": {**docker(), "portMappings": []}, "networks": BRIDGE, "ports": [1]}, [(0, 0)]),
        (
            {"container": {**docker(), "portMappings": [{"hostPort": 9}, {}]}, "networks": BRIDGE},
            [(0, 9), (0, 0)],
        ),
        ({"networks": [{"name": "n"}]}, [(0, None)]),
        ({"ipAddress": {"discovery": {"ports": [{"number": 80, "name": "http"}]}}}, [(80, None)]),
    ],
)
def test_ports_of_containers(fields: dict[str, Any], found: list[tuple[int, int | None]]) -> None:
    wire = canonical(**fields, requirePorts=True)
    assert ports(wire) == found
    assert "portDefinitions" not in wire
    assert wire["requirePorts"] is False


def test_an_app_on_a_network_without_a_container_gets_one() -> None:
    wire = canonical(networks=[{"name": "n"}])
    assert wire["container"] == {
        "type": "MESOS",
        "volumes": [],
        "portMappings": [{**DEFAULT, "name": "default"}],
    }


def test_uris_are_fetched_and_archives_unpacked() -> None:
    wire = canonical(uris=["http://x/a.tar.gz?b=c", "http://x/a.txt"])
    assert [(item["uri"], item["extract"]) for item in wire["fetch"]] == [
        ("http://x/a.tar.gz?b=c", True),
        ("http://x/a.txt", False),
    ]
    assert "uris" not in wire


@pytest.mark.parametrize(
    "ending",
    ["tar", "tar.gz", "tar.bz2", "tar.xz", "gz", "tgz", "tbz2", "txz", "zip", "ZIP", "rar", "tar.7z"],
)
def test_what_is_unpacked(ending: str) -> None:
    assert is_extracted(f"http://x/y.{ending}") is (ending not in ("ZIP", "rar", "tar.7z"))
    assert not is_extracted("http://[")


def test_dependencies_are_told_from_the_root() -> None:
    wire = canonical(dependencies=["/x", "../db", "../../other/db", "/x"])
    assert wire["dependencies"] == ["/x", "/a/db", "/other/db"]


def test_apps_with_volumes_of_their_own_have_other_strategies() -> None:
    persistent = {
        "type": "MESOS",
        "volumes": [{"containerPath": "d", "mode": "RW", "persistent": {"size": 1}}],
    }
    wire = canonical(container=persistent)
    assert wire["upgradeStrategy"] == {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.0}
    assert wire["unreachableStrategy"] == "disabled"
    assert wire["residency"] == {"relaunchEscalationTimeoutSeconds": 3600, "taskLostBehavior": "WAIT_FOREVER"}
    external = {"containerPath": "d", "mode": "RW", "external": {"name": "v", "provider": "dvdi"}}
    wire = canonical(container={"type": "MESOS", "volumes": [external]})
    assert wire["upgradeStrategy"] == {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.0}
    assert wire["unreachableStrategy"] == {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0}
    assert "residency" not in canonical(residency={"relaunchEscalationTimeoutSeconds": 1})
    asked = {"minimumHealthCapacity": 1.0, "maximumOverCapacity": 0.0}
    assert canonical(container=persistent, upgradeStrategy=asked)["upgradeStrategy"] == asked


@pytest.mark.parametrize(
    ("fields", "path", "sentence"),
    [
        (
            {"container": docker(network="HOST"), "networks": HOST},
            "/",
            "both container.docker.network and networks",
        ),
        (
            {"container": docker(network="NONE")},
            "/container/docker/network",
            "unsupported docker network type",
        ),
        ({"ipAddress": {}, "networks": HOST}, "/", "must not specify both networks and ipAddress"),
        ({"ipAddress": {}, "ports": [0]}, "/", "cannot specify both an IP address and port"),
        ({"ipAddress": {"networkName": "N N"}}, "/ipAddress/networkName", "must fully match"),
        ({"ports": [1, 1]}, "/", "ports must be unique"),
        (
            {"ports": [1], "portDefinitions": [{"port": 2}]},
            "/",
            "cannot specify both ports and port definitions",
        ),
        (
            {"container": {**docker(), "portMappings": [{}]}, "networks": HOST},
            "/",
            "portMappings are not allowed with host-networking",
        ),
        ({"uris": ["a"], "fetch": [{"uri": "b"}]}, "/uris", "may not be set in conjunction with fetch"),
        (
            {"container": docker(), "ipAddress": {"discovery": {}}},
            "/ipAddress",
            "ipAddress/discovery is not allowed for Docker containers",
        ),
        (
            {"container": {**docker(portMappings=[{}]), "portMappings": [{}]}},
            "/",
            "cannot specify both portMappings and docker.portMappings",
        ),
        (
            {
                "container": {"type": "MESOS", "portMappings": [{}]},
                "ipAddress": {"discovery": {"ports": [{"name": "x"}]}},
            },
            "/",
            "container.portMappings and ipAddress.discovery.ports must not both be set",
        ),
        (
            {"container": docker(credential={"principal": "x"})},
            "/container/docker/credential",
            "must be empty",
        ),
        (
            {"container": {"type": "MESOS", **docker(network="USER")}},
            "/container/docker/network",
            "must be empty",
        ),
        (
            {"container": {"type": "MESOS", **docker(portMappings=[{}])}},
            "/container/docker/portMappings",
            "must be empty",
        ),
    ],
)
def test_where_two_spellings_disagree(fields: dict[str, Any], path: str, sentence: str) -> None:
    ((found, error),) = contradictions(read(**fields))
    assert found == path
    assert sentence in error

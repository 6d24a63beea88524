"""Service ports: the numbers by which the ports of apps are known (``marathon-v2`` 5.7)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import RunningBackend
from ports import backend_ports
from rest import Rest, eventually

from hubfleet.api.app import App
from hubfleet.backend.normal import normal
from hubfleet.backend.orchestrator.service_ports import ServicePorts, service_ports

ANY = [{"port": 0, "name": "a"}, {"port": 0, "name": "b"}]


def app(app_id: str, ports: Any = ANY, **fields: Any) -> App:
    return normal(App.model_validate({"id": app_id, "cmd": "x", "portDefinitions": ports, **fields}))


def accept(given: ServicePorts, new: App, old: App | None = None) -> list[int]:
    """What becomes of a definition's ports."""
    found = given.assigned({new.id: old}, {new.id: new})[new.id]
    assert found is not None
    given.moved(old, found)
    return service_ports(found)


def test_open_ports_are_numbered_apart_from_all_others() -> None:
    given = ServicePorts((10, 20), [app("/old", [{"port": 11}])])
    assert accept(given, app("/a")) == [10, 12]
    assert accept(given, app("/b", [{"port": 0}, {"port": 13}, {"port": 7}])) == [14, 13, 7]
    both = given.assigned({"/c": None, "/d": None}, {"/c": app("/c"), "/d": app("/d", [{"port": 15}])})
    assert [service_ports(each) for each in both.values() if each] == [[16, 17], [15]]


def test_what_was_given_is_kept_and_comes_back() -> None:
    given = ServicePorts((10, 20), [])
    first = given.assigned({"/a": None}, {"/a": app("/a")})["/a"]
    given.moved(None, first)
    assert accept(given, app("/a", [*ANY, {"port": 0}]), first) == [10, 11, 12]
    three = app("/a", [{"port": 10}, {"port": 11}, {"port": 12}])
    assert accept(given, app("/a", [{"port": 11}, {"port": 0}]), three) == [11, 10]
    assert accept(given, app("/b", [{"port": 0}])) == [12]
    given.moved(app("/a", [{"port": 11}, {"port": 10}]), None)
    assert accept(given, app("/c")) == [10, 11]


def test_the_same_number_may_be_asked_for_twice() -> None:
    given = ServicePorts((10, 11), [])
    assert accept(given, app("/a", [{"port": 10}])) == accept(given, app("/b", [{"port": 10}])) == [10]
    given.moved(app("/a", [{"port": 10}]), None)
    assert accept(given, app("/c", [{"port": 0}])) == [11], "/b still has 10"


def test_what_is_not_ours_to_number_stays() -> None:
    given = ServicePorts((10, 11), [])
    assert accept(given, app("/required", [{"port": 0}], requirePorts=True)) == [0]
    before = app("/from-before", [{"port": 0}])  # stored by a backend that gave no numbers
    assert accept(given, app("/from-before", [{"port": 0}], instances=3), before) == [0]
    assert accept(given, app("/many", [{"port": 0}] * 4)) == [10, 11, 0, 0]


def test_a_containers_ports_have_numbers_too() -> None:
    mappings = [{"containerPort": 80, "hostPort": 0}, {"containerPort": 81, "hostPort": 0, "servicePort": 10}]
    body = {"id": "/a", "networks": [{"mode": "container/bridge"}], "container": {"portMappings": mappings}}
    contained = normal(App.model_validate({**body, "container": {"type": "MESOS", "portMappings": mappings}}))
    assert accept(ServicePorts((10, 20), []), contained) == [11, 10]


@pytest.fixture
def port_range() -> tuple[int, int]:
    first, _ = backend_ports()
    return first, first + 100


async def test_a_port_has_one_number_for_as_long_as_the_app_is_there(
    rest: Rest, backend: RunningBackend, tmp_path: Path
) -> None:
    env = f"env > {tmp_path}/env; exec sleep 600"
    made = await rest.create("/a", cmd=env, portDefinitions=ANY)
    assert [port["port"] for port in made["portDefinitions"]] == [0, 0], "as it was asked for"
    (task,) = await rest.running("/a")
    await rest.deployed()
    assert [port["port"] for port in (await rest.app("/a"))["portDefinitions"]] == [10000, 10001]
    expected = {f"PORT_1000{number}={port}" for number, port in enumerate(task["ports"])}

    async def told() -> bool:
        file = tmp_path / "env"
        return file.exists() and expected <= set(file.read_text().splitlines())

    await eventually(told)
    (listed,) = (await rest.get("/v2/tasks"))["tasks"]
    assert listed["servicePorts"] == [10000, 10001]
    # The same definition again is no change, and so is a whole one with its ports left open.
    for body in ({"portDefinitions": ANY}, {"cmd": env, "cpus": 0.01, "mem": 1, "portDefinitions": ANY}):
        same = await rest("PUT", "/v2/apps/a?partialUpdate=false" if "cmd" in body else "/v2/apps/a", body)
        assert same.status_code == 200
        assert await rest.get("/v2/deployments") == []
    await backend.kill()
    await backend.start()
    await rest.create("/b", instances=0)
    assert [port["port"] for port in (await rest.app("/b"))["portDefinitions"]] == [10002]
    assert (await rest.tasks("/a"))[0]["id"] == task["id"]


async def test_the_range_is_a_setting(shared: RunningBackend, shared_rest: Rest) -> None:
    info = (await shared_rest.get("/v2/info"))["marathon_config"]
    assert (info["local_port_min"], info["local_port_max"]) == (10000, 20000)
    shared.options["config"] = str(shared.state_dir.parent / "config.py")
    (shared.state_dir.parent / "config.py").write_text("c.Backend.service_ports = '4711-4712'")
    await shared.stop()
    await shared.start()
    await shared_rest.create("/set", instances=0, portDefinitions=ANY)
    assert [port["port"] for port in (await shared_rest.app("/set"))["portDefinitions"]] == [4711, 4712]

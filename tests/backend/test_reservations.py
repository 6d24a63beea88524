"""What is reserved is counted as instances come and go, and is always what a count of all would be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instances import app as app_of_version

from hubfleet.backend.drivers import Offer
from hubfleet.backend.orchestrator.placement import Place, Places
from hubfleet.backend.records import AppRecord, Condition, Goal, Instance
from hubfleet.backend.state import State
from hubfleet.backend.store import Store

APPS = ("/a", "/b/c")
HOSTS = ("here", "there")


def counted_anew(state: State) -> dict[str, Any]:
    """What the reservations must be, by a look at every instance."""
    hosts: dict[str, dict[str, Any]] = {}
    placed: dict[str, Counter[str]] = {}
    for instance in state.instances.values():
        app = state.definition(instance) if instance.launched else None
        if app is None:
            continue
        host = hosts.setdefault(instance.host, {"cpus": 0.0, "mem": 0.0, "gpus": set(), "ports": set()})
        host["cpus"] += app.cpus
        host["mem"] += app.mem
        host["gpus"] |= set(instance.gpus)
        host["ports"] |= set(instance.ports)
        placed.setdefault(app.id, Counter())[instance.host] += 1
    waiting = {
        instance.id
        for instance in state.instances.values()
        if instance.condition is Condition.SCHEDULED and instance.goal is Goal.RUNNING
    }
    return {"hosts": hosts, "placed": placed, "waiting": waiting}


def kept(state: State) -> dict[str, Any]:
    hosts = {
        host: {"cpus": found.cpus, "mem": found.mem, "gpus": set(found.gpus), "ports": set(found.ports)}
        for host, found in state.reservations.hosts.items()
        if found.cpus
    }
    return {"hosts": hosts, "placed": dict(state.reservations.placed), "waiting": set(state.waiting)}


def assert_right(state: State) -> None:
    found, expected = kept(state), counted_anew(state)
    assert found["waiting"] == expected["waiting"]
    assert found["placed"] == expected["placed"]
    assert found["hosts"].keys() == expected["hosts"].keys()
    for host, amounts in expected["hosts"].items():
        for name in ("cpus", "mem"):
            assert found["hosts"][host][name] == pytest.approx(amounts[name])
        assert found["hosts"][host]["gpus"] == amounts["gpus"]
        assert found["hosts"][host]["ports"] == amounts["ports"]


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["define", "add", "place", "run", "kill", "stop", "again", "drop", "put"]),
        st.integers(0, 9),
    ),
    max_size=60,
)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(steps=STEPS)
def test_whatever_becomes_of_instances_what_they_hold_is_known(tmp_path: Path, steps: Any) -> None:
    path = tmp_path / "state.sqlite"
    path.unlink(missing_ok=True)
    store = Store(path)
    state = State(store)
    version = 0
    for what, number in steps:
        instances = list(state.instances.values())
        one = instances[number % len(instances)] if instances else None
        app_id = APPS[number % 2]
        if what == "define":
            version += 1
            app = app_of_version(version, id=app_id, cpus=0.1 * version, mem=10 * version)
            state.define_apps([AppRecord(app=app)], app.version)
        elif what == "add" and app_id in state.apps:
            state.put_instance(Instance.scheduled(state.apps[app_id].app))
        elif one is None:
            continue
        elif what == "drop":
            state.drop_instance(one)
        else:
            change(state, one, what, number)
            state.put_instance(one)
        assert_right(state)
    before = kept(state)
    store.close()
    store = Store(path)
    assert_right(again := State(store))
    assert kept(again) == before, "a backend that is started again knows the same"
    store.close()


def change(state: State, one: Instance, what: str, number: int) -> None:
    """What the orchestrator does to an instance, in the order in which it comes."""
    if what == "place" and one.waits:
        one.condition, one.host = Condition.PROVISIONED, HOSTS[number % 2]
        one.ports, one.gpus = [100 + number, 200 + number], [number] if number > 7 else []
    elif what == "run" and one.condition is Condition.PROVISIONED:
        one.condition = Condition.RUNNING
    elif what == "kill" and one.launched:
        one.condition = Condition.KILLING
    elif what == "stop":
        one.goal = Goal.STOPPED
    elif what == "again" and one.launched and one.app_id in state.apps:
        one.condition, one.host, one.ports, one.gpus = Condition.SCHEDULED, "", [], []
        one.follow(state.apps[one.app_id].app)


def test_parts_that_come_and_go_leave_nothing_behind(tmp_path: Path) -> None:
    """Sums of floats would drift: 0.1 thrice is not 0.3, and taken away again it is not nothing."""
    store = Store(tmp_path / "state.sqlite")
    state = State(store)
    app = app_of_version(1, id="/a", cpus=0.1, mem=0.7)
    state.define_apps([AppRecord(app=app)], app.version)
    stays = []
    for number in range(300):
        instance = Instance.scheduled(app)
        instance.condition, instance.host = Condition.RUNNING, "here"
        state.put_instance(instance)
        if number % 3:
            state.drop_instance(instance)
        else:
            stays.append(instance)
    assert state.reservations.hosts["here"].cpus == 10
    for instance in stays:
        state.drop_instance(instance)
    assert (state.reservations.hosts["here"].cpus, state.reservations.hosts["here"].mem) == (0, 0)
    assert state.reservations.placed == {}
    store.close()


def test_a_plan_changes_nothing_of_what_is_reserved(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.sqlite")
    state = State(store)
    app = app_of_version(1, id="/a", cpus=1, mem=10, constraints=[["hostname", "MAX_PER", "2"]])
    state.define_apps([AppRecord(app=app)], app.version)
    instance = Instance.scheduled(app)
    instance.condition, instance.host, instance.ports = Condition.RUNNING, "here", [100]
    state.put_instance(instance)
    places = Places([Offer(host="here", cpus=4, mem=99, disk=9, ports=(100, 199))], state.reservations)
    assert (places.by_host["here"].cpus, places.by_host["here"].ports) == (1, {100})
    assert isinstance(places.choose(app), Place)
    places.reserve(app, "here", [101])
    assert not isinstance(places.choose(app), Place), "two on one host are the most"
    assert state.reservations.placed == {"/a": Counter({"here": 1})}
    assert set(state.reservations.hosts["here"].ports) == {100}
    assert state.reservations.hosts["here"].cpus == 1
    store.close()

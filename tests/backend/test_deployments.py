"""The steps of a deployment are gates, on a real store: each waits for the one before, over restarts too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drafted import put_all

from hubfleet.api.app import App
from hubfleet.api.status import Event
from hubfleet.backend.drivers import Offer
from hubfleet.backend.events import EventBus, Subscription
from hubfleet.backend.orchestrator.changes import Changes
from hubfleet.backend.orchestrator.deployments import Deployments
from hubfleet.backend.orchestrator.refusals import Locked, NotValid
from hubfleet.backend.orchestrator.scaling import decide
from hubfleet.backend.records import Condition, Goal, Instance
from hubfleet.backend.state import State
from hubfleet.backend.store import Store


class World:
    """Changes and their steps, without an engine: tasks do what they are told at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path)
        self.state = State(self.store)
        bus = EventBus()
        self.heard: list[Event] = []
        bus.subscribe(
            Subscription(wants=lambda event: self.heard.append(event) or False, overrun=lambda: None)
        )
        offers = [Offer("here", cpus=4, mem=1000, disk=1000)]
        self.changes = Changes(self.state, bus, lambda: offers, lambda _: None)
        self.deployments = Deployments(self.state, bus, lambda _: None)

    def reopened(self) -> World:
        self.store.close()
        return World(self.path)

    def move(self, app_id: str) -> None:
        """Do what the orchestrator does for an app in one go, but let new tasks begin in `run`."""
        self.deployments.begin(app_id)
        app, motion = self.state.standing(app_id), self.deployments.motion(app_id)
        decision = decide(app, self.state.instances_of(app_id), motion)
        for victim in decision.kill:
            self.state.drop_instance(victim)
        for each in self.state.instances_of(app_id):
            if each.goal is Goal.STOPPED:
                self.state.drop_instance(each)
        for _ in range(decision.start):
            assert app is not None
            self.state.put_instance(Instance.scheduled(app))
        self.deployments.settle(app_id)

    def run(self, app_id: str) -> None:
        """Let all tasks of an app run."""
        for instance in self.state.instances_of(app_id):
            instance.condition = Condition.RUNNING
            self.state.put_instance(instance)
        self.move(app_id)

    def counts(self) -> dict[str, int]:
        return {app_id: len(self.state.instances_of(app_id)) for app_id in sorted(self.state.apps)}

    def types(self) -> list[str]:
        return [event.event_type for event in self.heard]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "store.sqlite")


def app(app_id: str, **fields: Any) -> App:
    return App.model_validate({"id": app_id, "cmd": "x", **fields})


def stack(**fields: Any) -> list[App]:
    return [app("/a", dependencies=["/b"], **fields), app("/b", **fields)]


def settle(world: World) -> World:
    for _ in range(8):
        for app_id in ("/a", "/b", "/c"):
            world.move(app_id)
            world.run(app_id)
    assert world.state.deployments == {}
    return world


def test_who_depends_on_another_starts_when_that_one_runs(world: World) -> None:
    deployment = put_all(world.changes, stack())
    assert (deployment.to_deployment().current_step, deployment.to_deployment().current_actions) == (0, [])
    for app_id in ("/a", "/b", "/a"):
        world.move(app_id)
    assert world.counts() == {"/a": 0, "/b": 1}, "/b does not run yet"
    world = world.reopened()
    world.move("/a")
    assert world.counts() == {"/a": 0, "/b": 1}, "the gate is still closed"
    (again,) = world.state.deployments.values()
    assert (again.to_deployment().current_step, again.to_deployment().total_steps) == (2, 3)
    world.run("/b")
    world.move("/a")
    assert world.counts() == {"/a": 1, "/b": 1}
    world.run("/a")
    assert world.state.deployments == {}


def test_an_app_whose_turn_has_not_come_stays_as_it_was(world: World) -> None:
    put_all(world.changes, stack())
    settle(world)
    former = world.state.apps["/a"].app
    put_all(world.changes, stack(cmd="y", instances=2))
    for app_id in ("/a", "/b", "/a"):
        world.move(app_id)
    assert world.state.standing("/a") == former
    assert world.counts()["/a"] == 1
    world = world.reopened()
    assert world.state.standing("/a") == former
    settle(world)
    assert world.state.standing("/a") == world.state.apps["/a"].app
    assert {each.version for each in world.state.instances.values()} == {world.state.apps["/a"].app.version}


def test_after_a_forced_cancellation_only_the_count_is_looked_after(world: World) -> None:
    put_all(world.changes, stack())
    settle(world)
    tasks = set(world.state.instances)
    deployment = put_all(world.changes, stack(cmd="y"))
    world.changes.cancel(deployment.id)
    assert world.state.apps["/a"].app.cmd == "y", "the definition stays at the target"
    settle(world)
    assert set(world.state.instances) == tasks, "and the tasks as they are"
    world.changes.put(app("/a", cmd="y", dependencies=["/b"], instances=2))
    settle(world)
    assert world.counts() == {"/a": 2, "/b": 1}
    assert tasks < set(world.state.instances)


def test_a_reverted_deployment_leads_back(world: World) -> None:
    put_all(world.changes, stack())
    settle(world)
    tasks = set(world.state.instances)
    first = put_all(world.changes, [*stack(cmd="y"), app("/c")])
    world.changes.revert(first.id)
    assert "/c" not in world.state.apps
    settle(world)
    assert set(world.state.instances) == tasks, "they are of the definition that is back"


def test_a_revert_to_what_is_not_valid_is_refused_and_changes_nothing(world: World) -> None:
    world.changes.create(app("/a"))
    settle(world)
    removal = world.changes.remove("/a")
    world.changes.create(app("/a/below"))
    with pytest.raises(NotValid):
        world.changes.revert(removal.id)
    assert set(world.state.apps) == {"/a/below"}
    assert removal.id in world.state.deployments


def test_what_changes_nothing_is_in_nobodys_way(world: World) -> None:
    world.changes.create(app("/a"))
    version = world.state.apps["/a"].app.version
    deployment = world.changes.put(app("/a"))
    assert (deployment.steps, world.state.apps["/a"].app.version) == ([], version)
    assert world.types()[-1] == "deployment_success"
    assert len(world.state.deployments) == 1, "the one that makes it goes on"
    with pytest.raises(Locked):
        world.changes.put(app("/a", cmd="y"))


def test_circular_dependencies_are_refused(world: World) -> None:
    with pytest.raises(NotValid) as refusal:
        put_all(world.changes, [app("/a", dependencies=["/b"]), app("/b", dependencies=["/a"])])
    assert refusal.value.violations == [("/", "Dependency graph has cyclic dependencies.")]
    world.changes.create(app("/a", dependencies=["/b"]))
    with pytest.raises(NotValid):
        world.changes.create(app("/b", dependencies=["/a"]))


def test_the_events_of_a_deployment_are_in_order(world: World) -> None:
    put_all(world.changes, stack())
    settle(world)
    steps = ["deployment_info", "deployment_step_success"] * 3
    assert world.types() == ["group_change_success", *steps, "deployment_success"]
    world.heard.clear()
    deployment = world.changes.restart("/a")
    world.move("/a")
    world.changes.cancel(deployment.id)
    assert world.types() == [
        "group_change_success",
        "deployment_info",
        "deployment_step_failure",
        "deployment_failed",
    ]


def test_the_named_tasks_of_several_apps_end_together_or_not_at_all(world: World) -> None:
    put_all(world.changes, [app("/a", instances=3), app("/b", instances=2)])
    settle(world)
    instances = world.state.instances_of("/a")[1:] + world.state.instances_of("/b")[:1]
    named = {instance.id for instance in instances}
    other = world.changes.put(app("/b", instances=1))
    with pytest.raises(Locked) as refusal:
        world.changes.kill_and_scale(instances)
    assert refusal.value.deployment_ids == [other.id]
    assert {instance.goal for instance in world.state.instances.values()} == {Goal.RUNNING}
    world.changes.cancel(other.id)
    world.changes.put(app("/b", instances=2), force=True)
    deployment = world.changes.kill_and_scale(instances, force=True)
    before = set(world.state.instances)
    assert deployment.affected_apps == ["/a", "/b"]
    settle(world)
    assert before - set(world.state.instances) == named
    assert world.counts() == {"/a": 1, "/b": 1}

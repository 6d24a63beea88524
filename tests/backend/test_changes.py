"""The gate of all changes, on a real store: what one change writes is written at once, or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from drafted import put_all

from hubfleet.api.app import App
from hubfleet.backend.drivers import Offer
from hubfleet.backend.events import EventBus
from hubfleet.backend.normal import normal
from hubfleet.backend.orchestrator.changes import Changes
from hubfleet.backend.orchestrator.limits import DeploymentLimits
from hubfleet.backend.orchestrator.plans import same_configuration
from hubfleet.backend.orchestrator.refusals import Locked, NotValid, TooManyDeployments, TooManyOfShare
from hubfleet.backend.orchestrator.terms import Terms
from hubfleet.backend.records import Condition, Goal, GroupRecord, Instance
from hubfleet.backend.state import State
from hubfleet.backend.store import Store


class Gate:
    """Changes without an orchestrator, so that nothing happens after what they write themselves."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(path)
        self.state = State(self.store)
        offers = [Offer("here", cpus=4, mem=1000, disk=1000)]
        self.accepted: list[str] = []
        self.changes = Changes(self.state, EventBus(), lambda: offers, self.accepted.extend)

    def reopened(self) -> Gate:
        self.store.close()
        return Gate(self.path)

    def running(self, app_id: str) -> Instance:
        instance = Instance.scheduled(self.state.apps[app_id].app)
        instance.condition = Condition.RUNNING
        self.state.put_instance(instance)
        return instance

    def seen(self) -> Any:
        """Everything that is known."""
        return (
            {key: record.model_dump() for key, record in self.state.apps.items()},
            {key: instance.model_dump() for key, instance in self.state.instances.items()},
            {key: deployment.model_dump() for key, deployment in self.state.deployments.items()},
        )


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "store.sqlite")


def app(app_id: str, **fields: Any) -> App:
    return normal(App.model_validate({"id": app_id, "cmd": "x", **fields}))


def test_what_was_accepted_is_on_disk(gate: Gate) -> None:
    gate.changes.create(app("/a", instances=2))
    gate.running("/a")
    gate.changes.put(app("/a", cmd="y"), force=True)
    gate.changes.create(app("/b"))
    before = gate.seen()
    assert gate.reopened().seen() == before


def test_the_instances_of_a_removed_app_are_to_end_at_once(gate: Gate) -> None:
    """Else an app made anew before anything else happened would take them for its own."""
    gate.changes.create(app("/a"))
    old = gate.running("/a")
    gate.changes.remove("/a")
    assert old.goal is Goal.STOPPED
    assert gate.reopened().state.instances[old.id].goal is Goal.STOPPED


def test_a_refused_change_changes_nothing(gate: Gate) -> None:
    gate.changes.create(app("/a"))
    gate.running("/a")
    before, accepted = gate.seen(), list(gate.accepted)
    refused: list[tuple[Any, type[Exception]]] = [
        (lambda: gate.changes.put(app("/a", instances=2)), Locked),
        (lambda: gate.changes.create(app("/a/b")), NotValid),
        (lambda: gate.changes.create(app("/c", cpus=5)), NotValid),
        (lambda: gate.changes.put(app("/a", labels={"HUBFLEET_OWNER": "/none"}), force=True), NotValid),
    ]
    for change, error in refused:
        with pytest.raises(error):
            change()
    assert (gate.seen(), gate.accepted) == (before, accepted)
    assert gate.reopened().seen() == before


def test_a_write_that_fails_in_the_middle_leaves_nothing_of_the_change(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate.changes.create(app("/a"))
    before = gate.seen()

    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(gate.store, "save_deployment", full)
    with pytest.raises(sqlite3.OperationalError):
        gate.changes.create(app("/b"))
    assert gate.reopened().seen() == before


def test_too_much_at_once_is_refused_but_never_an_end(gate: Gate) -> None:
    for number in range(DeploymentLimits.in_all):
        gate.changes.create(app(f"/a{number}"))
    with pytest.raises(TooManyDeployments, match=rf"Max number \({DeploymentLimits.in_all}\)"):
        gate.changes.create(app("/b"))
    gate.changes.put(app("/a0", instances=2), force=True)  # in place of the one that is there
    gate.changes.cancel(gate.changes.remove("/a1").id)
    gate.changes.create(app("/b"))
    gate.changes.remove("/b")
    assert len(gate.state.deployments) == DeploymentLimits.in_all


def test_one_users_deployments_leave_room_for_others(gate: Gate) -> None:
    for number in range(DeploymentLimits.of_share):
        gate.changes.create(app(f"/u/a{number}"), terms=Terms(share="/u"))
    with pytest.raises(TooManyOfShare, match="/u has 20 deployments under way"):
        gate.changes.create(app("/u/b"), terms=Terms(share="/u"))
    gate.changes.put(
        app("/u/a0", instances=2), force=True, terms=Terms(share="/u")
    )  # in place of the one that is there
    gate.changes.remove("/u/a1", terms=Terms(share="/u"))
    gate.changes.create(app("/u/c"))
    for number in range(DeploymentLimits().of_shares - len(gate.state.deployments)):
        share = f"/v{number // DeploymentLimits.of_share}"
        gate.changes.create(app(f"{share}/a{number}"), terms=Terms(share=share))
    gate = gate.reopened()
    with pytest.raises(TooManyDeployments, match=rf"Max number \({DeploymentLimits().of_shares}\)"):
        gate.changes.create(app("/z"), terms=Terms(share="/z"))
    gate.changes.create(app("/z"))


def test_what_is_not_permitted_changes_nothing(gate: Gate) -> None:
    gate.changes.create(app("/a"))
    gate.changes.create(app("/owned", labels={"HUBFLEET_OWNER": "/a"}))
    victim = gate.running("/a")
    before = gate.seen()
    asked: list[dict[str, int | None]] = []

    class NotPermitted(Exception):
        pass

    def refuse(targets: Mapping[str, App | None], groups: Collection[str]) -> None:
        asked.append({app_id: None if each is None else each.instances for app_id, each in targets.items()})
        raise NotPermitted

    refused = Terms(permit=refuse)
    (_, second) = gate.state.deployments
    changes: list[Callable[[], object]] = [
        lambda: gate.changes.create(app("/b", instances=2), terms=refused),
        lambda: gate.changes.put(app("/a", instances=3), force=True, terms=refused),
        lambda: put_all(gate.changes, [app("/a"), app("/c")], force=True, terms=refused),
        lambda: gate.changes.remove("/a", terms=refused),
        lambda: gate.changes.restart("/a", force=True, terms=refused),
        lambda: gate.changes.kill_and_scale([victim], force=True, terms=refused),
        lambda: gate.changes.revert(second, terms=refused),
    ]
    for change in changes:
        with pytest.raises(NotPermitted):
            change()
    assert gate.seen() == before
    assert asked == [
        {"/b": 2},
        {"/a": 3},
        {"/a": 1, "/c": 1},
        {"/owned": None, "/a": None},
        {"/a": 1},
        {"/a": 0},
        {"/owned": None},
    ]


def test_a_restart_is_a_new_version_of_the_same_definition(gate: Gate) -> None:
    gate.changes.create(app("/a", instances=2))
    old = gate.state.apps["/a"].app
    deployment = gate.changes.restart("/a", force=True)
    new = gate.state.apps["/a"].app
    assert [action.action for step in deployment.steps for action in step.actions] == ["RestartApplication"]
    assert new.version == deployment.version
    assert new.version_info is not None
    assert new.version_info.last_config_change_at == deployment.version
    assert same_configuration(old, new)


def test_owners_in_a_circle_do_not_hang(gate: Gate) -> None:
    gate.changes.create(app("/a"))
    gate.changes.create(app("/b", labels={"HUBFLEET_OWNER": "/a"}))
    gate.changes.put(app("/a", labels={"HUBFLEET_OWNER": "/b"}), force=True)
    gate.changes.remove("/b")
    assert gate.state.apps == {}


def test_versions_grow_though_the_clock_is_set_back(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.changes.create(app("/a", instances=0))
    first = gate.state.apps["/a"].app.version
    assert first is not None
    past = first.replace(year=first.year - 1)
    monkeypatch.setattr("hubfleet.backend.state.now", lambda: past)
    gate.changes.remove("/a")
    again = gate.reopened()
    again.changes.create(app("/a"), force=True)
    second = again.state.apps["/a"].app.version
    assert second is not None
    assert second > first


def test_of_a_former_app_no_version_is_left(gate: Gate) -> None:
    gate.changes.create(app("/a", cmd="secret"))
    gate.changes.remove("/a")
    gate.changes.create(app("/a", cmd="other"), force=True)
    assert len(gate.state.versions("/a")) == 1


def test_a_draft_is_good_until_another_change_is_taken(gate: Gate) -> None:
    gate.changes.create(app("/g/a"))
    targets = {"/g/a": app("/g/a", instances=2), "/g/b": app("/g/b")}
    draft = gate.changes.draft("/g", targets, {"/g": GroupRecord(id="/g")})
    before = gate.seen()
    for _ in gate.changes.through(draft):
        assert gate.seen() == before, "nothing is written of a draft"
    assert not gate.changes.is_stale(draft)
    gate.changes.create(app("/elsewhere"))
    assert gate.changes.is_stale(draft), "its version and its ports may be another one's by now"
    with pytest.raises(AssertionError):
        gate.changes.take(draft, force=True)
    again = gate.changes.draft("/g", targets, {"/g": GroupRecord(id="/g")})
    list(gate.changes.through(again))
    gate.changes.take(again, force=True)
    assert gate.state.apps["/g/a"].app.instances == 2
    assert gate.reopened().state.groups.records.keys() == {"/g"}


def test_a_refused_draft_changes_nothing(gate: Gate) -> None:
    gate.changes.create(app("/g/a"))
    before = gate.seen()
    for targets, groups in (
        ({"/g": app("/g")}, {}),
        ({"/g/b": app("/g/b", dependencies=["/g/b"])}, {}),
        ({}, {"/g/a": GroupRecord(id="/g/a")}),
        ({}, {"/g": GroupRecord(id="/g", dependencies=["/g"])}),
    ):
        draft = gate.changes.draft("/g", targets, groups)
        with pytest.raises(NotValid):
            gate.changes.steps_of(draft)
        with pytest.raises(NotValid):
            gate.changes.take(draft, force=True)
    assert gate.seen() == before
    assert gate.state.groups.records == {}

"""The steps of deployments, and what counts as a change of configuration (``marathon-v2`` 4)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from instances import app

from hubfleet.api.app import App
from hubfleet.backend.orchestrator.dependencies import Cycle, levels
from hubfleet.backend.orchestrator.plans import same_configuration, steps
from hubfleet.backend.records import GroupRecord


def named(before: App | None, after: App | None) -> list[list[str]]:
    found = steps({"/a": before}, {"/a": after})
    assert all(action.app == "/a" for step in found for action in step.actions)
    return [[action.action for action in step.actions] for step in found]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, app(3), [["StartApplication"], ["ScaleApplication"]]),
        (None, app(0), [["StartApplication"], ["ScaleApplication"]]),
        (app(3), None, [["StopApplication"]]),
        (app(3), app(2), [["ScaleApplication"]]),
        (app(3), app(3, cmd="sleep 2"), [["RestartApplication"]]),
        (app(3), app(5, cmd="sleep 2"), [["RestartApplication"]]),
        (app(3), app(0, cmd="sleep 2"), [["ScaleApplication"]]),
        (app(3), app(3, version=9), []),
        (None, None, []),
    ],
)
def test_steps(before: App | None, after: App | None, expected: list[list[str]]) -> None:
    assert named(before, after) == expected


def test_one_plan_stops_some_apps_and_starts_others() -> None:
    other = app(1).model_copy(update={"id": "/b"})
    found = steps({"/a": app(1), "/b": None}, {"/a": None, "/b": other})
    assert [[(action.action, action.app) for action in step.actions] for step in found] == [
        [("StopApplication", "/a")],
        [("StartApplication", "/b")],
        [("ScaleApplication", "/b")],
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"cmd": "true"},
        {"args": ["true"], "cmd": None},
        {"cpus": 0.7},
        {"mem": 7},
        {"disk": 7},
        {"user": "nobody"},
        {"env": {"A": "1"}},
        {"labels": {"A": "1"}},
        {"portDefinitions": [{"port": 0, "name": "x"}]},
        {"healthChecks": [{"protocol": "TCP"}]},
        {"upgradeStrategy": {"minimumHealthCapacity": 0.1}},
        {"backoffSeconds": 7},
        {"taskKillGracePeriodSeconds": 7},
        {"killSelection": "OLDEST_FIRST"},
    ],
)
def test_any_other_field_replaces_the_tasks(change: dict[str, object]) -> None:
    assert not same_configuration(app(1), app(1, **change))


def depending(**dependencies: list[str]) -> dict[str, App]:
    """Apps of the group /g by name, each with its dependencies."""
    return {
        f"/g/{name}": app(1, dependencies=paths).model_copy(update={"id": f"/g/{name}"})
        for name, paths in dependencies.items()
    }


def test_a_level_is_the_longest_way_to_what_depends_on_nothing() -> None:
    apps = depending(leaf=[], middle=["/g/leaf"], top=["/g/leaf", "/g/middle"], alone=["/not/there"])
    assert levels(apps, apps) == {"/g/leaf": 1, "/g/middle": 2, "/g/top": 3, "/g/alone": 1}


def test_who_depends_on_a_group_comes_after_all_of_it() -> None:
    apps = depending(low=[], high=["/g/low"])
    apps["/h"] = app(1, dependencies=["/g"])
    assert levels(apps, ["/h"]) == {"/h": 3}


def test_what_depends_on_itself_is_found_however_long_the_way() -> None:
    chain = {f"n{index}": [f"/g/n{index + 1}"] for index in range(5000)}
    assert levels(depending(**chain, n5000=[]), ["/g/n0"]) == {"/g/n0": 5001}
    for circular in (depending(**chain, n5000=["/g/n0"]), depending(one=["/g"])):
        with pytest.raises(Cycle):
            levels(circular, list(circular)[:1])


class Looked(dict[str, App]):
    """Apps that count how often all of them are looked at."""

    times = 0

    def __iter__(self) -> Iterator[str]:
        self.times += 1
        return super().__iter__()


def test_however_much_is_depended_on_all_apps_are_looked_at_once() -> None:
    """Else one definition of a megabyte would hold everybody up for minutes."""
    apps = Looked(depending(**{f"n{index}": [] for index in range(10)}))
    apps["/h"] = app(1, dependencies=[f"/not/there{index}" for index in range(1000)] + ["/g"])
    assert levels(apps, ["/h"]) == {"/h": 2}
    assert apps.times == 1


def test_what_a_group_depends_on_is_looked_at_once_for_all_its_apps() -> None:
    apps = depending(**{f"n{index}": [] for index in range(100)}, last=["/g/n1"])
    apps["/h/low"] = app(1)

    class Many(list[str]):
        times = 0

        def __iter__(self) -> Iterator[str]:
            Many.times += 1
            return super().__iter__()

    group = GroupRecord(id="/g")
    group.dependencies = Many(["/h", "/not/there"])
    found = levels(apps, apps, lambda path: [group] if path.startswith("/g/") else [])
    assert (found["/h/low"], found["/g/n1"], found["/g/last"]) == (1, 2, 3)
    assert Many.times <= 2


def test_each_level_is_a_step() -> None:
    apps = depending(leaf=[], top=["/g/leaf"])
    found = steps({}, dict(reversed(apps.items())), levels=levels(apps, apps))
    assert [[(action.action, action.app) for action in step.actions] for step in found] == [
        [("StartApplication", "/g/top"), ("StartApplication", "/g/leaf")],
        [("ScaleApplication", "/g/leaf")],
        [("ScaleApplication", "/g/top")],
    ]

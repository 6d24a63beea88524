"""How an app moves to its definition: single steps, and rolling restarts played to their end."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import app, instance, moment

from hubfleet.api.app import App
from hubfleet.backend.orchestrator.scaling import Decision, Motion, bounds, decide, settled
from hubfleet.backend.records import Condition, Goal, Health, Instance


def test_missing_instances_are_started() -> None:
    decision = decide(app(5), [instance(), instance(goal=Goal.STOPPED)], Motion.KEEP)
    assert decision.start == 4
    assert decision.kill == []


def test_an_instance_that_is_to_be_replaced_after_a_kill_keeps_its_place() -> None:
    assert decide(app(1), [instance(Condition.KILLING)], Motion.KEEP).start == 0


@pytest.mark.parametrize(
    ("selection", "expected"), [("YOUNGEST_FIRST", ["young", "middle"]), ("OLDEST_FIRST", ["old", "middle"])]
)
def test_a_surplus_goes_by_the_kill_selection(selection: str, expected: list[str]) -> None:
    ages = {"old": 1, "young": 9, "middle": 5}
    instances = {name: instance(began=began) for name, began in ages.items()}
    decision = decide(app(1, killSelection=selection), list(instances.values()), Motion.SCALE)
    assert [victim.id for victim in decision.kill] == [instances[name].id for name in expected]


def test_what_has_not_got_far_goes_before_what_runs_and_what_is_ill_before_what_serves() -> None:
    serving, ill = instance(healthy=True, began=1), instance(healthy=False, began=0)
    staging, waiting = instance(Condition.PROVISIONED), instance(Condition.SCHEDULED)
    order = [victim.id for victim in decide(app(0), [serving], Motion.SCALE).kill]
    assert order == [serving.id]
    victims = decide(app(1), [serving, ill, staging, waiting], Motion.SCALE).kill
    assert [victim.id for victim in victims] == [waiting.id, staging.id, ill.id]


def test_an_app_that_goes_loses_all_and_starts_none() -> None:
    instances = [instance(), instance(Condition.SCHEDULED)]
    decision = decide(None, instances, Motion.KEEP)
    assert decision.kill == instances
    assert decision.start == 0
    assert not settled(None, instances, Motion.KEEP, moment())
    assert settled(None, [], Motion.KEEP, moment())


def test_scaling_to_none_ends_old_and_new_alike() -> None:
    assert len(decide(app(0, version=5), [instance(version=0), instance(version=5)], Motion.SCALE).kill) == 2


def test_an_old_task_without_checks_serves_though_the_new_definition_has_one() -> None:
    """To judge it by the new definition's checks would end it before its successor serves."""
    new = app(1, version=5, healthChecks=[{"protocol": "TCP"}])
    decision = decide(new, [instance(version=0)], Motion.RESTART)
    assert decision.kill == []
    assert decision.start == 1


def test_bounds_do_not_fall_for_floats() -> None:
    strategy = {"minimumHealthCapacity": 0.07, "maximumOverCapacity": 0.1}
    assert bounds(app(100, upgradeStrategy=strategy)) == (7, 110)
    assert bounds(app(3, upgradeStrategy={"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0.5})) == (
        2,
        4,
    )


@pytest.mark.parametrize(
    ("instances", "done"),
    [
        ([instance(), instance()], True),
        ([instance()], False),
        ([instance(), instance(Condition.PROVISIONED)], False),
        ([instance(), instance(healthy=False)], False),
        ([instance(), instance(healthy=True)], True),
        ([instance(), instance(), instance(goal=Goal.STOPPED)], False),
        ([instance(), instance(version=-1)], False),
        ([instance(), instance(Condition.KILLING)], False),
    ],
)
def test_a_deployment_is_done_when_all_serve_and_none_is_left_over(
    instances: list[Instance], done: bool
) -> None:
    assert settled(app(2), instances, Motion.RESTART, moment()) is done


class Play:
    """An engine and a fate: what `decide` orders happens, in an order that chance chooses."""

    def __init__(self, target: App, instances: list[Instance], chance: random.Random, crashes: int) -> None:
        for each in instances:
            each.host = chance.choice(["a", "b", "c"]) if each.launched else ""
        self.target, self.instances, self.chance, self.crashes = target, instances, chance, crashes

    def order(self) -> None:
        decision = decide(self.target, self.instances, Motion.RESTART)
        for victim in decision.kill:
            assert victim.goal is Goal.RUNNING
            victim.goal = Goal.STOPPED
            if victim.condition is Condition.SCHEDULED:
                self.instances.remove(victim)
            else:
                victim.condition = Condition.KILLING
        checked = bool(self.target.health_checks)
        for _ in range(decision.start):
            born = instance(Condition.SCHEDULED, version=5)
            born.checked = checked
            self.instances.append(born)

    def happen(self) -> None:
        each = self.chance.choice(self.instances)
        if self.crashes and each.condition is Condition.RUNNING and self.chance.random() < 0.3:
            self.crashes -= 1
            if each.config_version == moment(5):
                each.condition, each.health = Condition.SCHEDULED, {}
            else:
                self.instances.remove(each)
        elif each.condition is Condition.KILLING:
            self.instances.remove(each)
        elif each.condition is Condition.SCHEDULED and each.config_version == moment(5):
            each.condition, each.host = Condition.PROVISIONED, self.chance.choice(["a", "b", "c"])
        elif each.condition is Condition.PROVISIONED:
            each.condition = Condition.RUNNING
        elif each.condition is Condition.RUNNING and each.checked:
            each.health = {0: Health(last_success=moment(9))}

    @property
    def ready(self) -> int:
        return sum(1 for each in self.instances if each.ready)

    @property
    def there(self) -> int:
        return sum(1 for each in self.instances if each.launched)


shares = st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0])


@settings(max_examples=300, deadline=None)
@given(
    wanted=st.integers(1, 9),
    old=st.lists(st.sampled_from(list("rrrrips")), max_size=11),
    new=st.integers(0, 11),
    least=shares,
    over=shares,
    checks=st.booleans(),
    spread=st.booleans(),
    crashes=st.sampled_from([0, 0, 3]),
    seed=st.integers(0, 2**32),
)
def test_every_rolling_restart_ends_within_its_bounds(
    wanted: int,
    old: list[str],
    new: int,
    least: float,
    over: float,
    checks: bool,
    spread: bool,
    crashes: int,
    seed: int,
) -> None:
    strategy = {"minimumHealthCapacity": least, "maximumOverCapacity": over}
    fields: dict[str, Any] = {"healthChecks": [{"protocol": "TCP"}]} if checks else {}
    if spread:
        fields["constraints"] = [["hostname", "GROUP_BY"]]
    target = app(wanted, version=5, upgradeStrategy=strategy, **fields)
    kinds = {
        "r": lambda: instance(),
        "i": lambda: instance(healthy=False),
        "p": lambda: instance(Condition.PROVISIONED),
        "s": lambda: instance(Condition.SCHEDULED),
    }
    there = [kinds[letter]() for letter in old]
    there += [instance(version=5, healthy=number % 3 > 0 if checks else None) for number in range(new)]
    play = Play(target, there, random.Random(seed), crashes)
    floor, ceiling = bounds(target)
    most = max(ceiling + (floor == ceiling), play.there)
    reached = play.ready >= floor
    for _ in range(2000):
        play.order()
        assert play.there <= most
        if crashes == 0:
            assert not reached or play.ready >= floor, "fewer serve than the upgrade strategy allows"
            reached = reached or play.ready >= floor
        if settled(target, play.instances, Motion.RESTART, moment(5)):
            break
        play.happen()
    else:
        raise AssertionError("the restart never ends")
    assert decide(target, play.instances, Motion.RESTART).kill == []
    assert decide(target, play.instances, Motion.RESTART).start == 0


def test_an_app_that_is_held_keeps_its_count_and_one_that_was_not_there_begins_nothing() -> None:
    assert decide(app(3), [instance()], Motion.HOLD).start == 2
    assert decide(None, [instance()], Motion.HOLD) == Decision()


def test_only_a_restart_replaces_tasks() -> None:
    for motion in (Motion.KEEP, Motion.SCALE, Motion.HOLD):
        assert decide(app(2, version=5), [instance(), instance()], motion) == Decision()
    assert decide(app(2, version=5), [instance(), instance()], Motion.RESTART).start == 2


def test_a_scaling_starts_nothing_before_what_it_kills_is_gone() -> None:
    instances = [instance(), instance(Condition.KILLING, goal=Goal.STOPPED)]
    assert decide(app(3), instances, Motion.SCALE).start == 0
    assert decide(app(3), instances[:1], Motion.SCALE).start == 2
    assert decide(app(3), instances, Motion.KEEP).start == 2


def test_of_a_single_instance_app_there_are_never_two() -> None:
    strategy = {"minimumHealthCapacity": 0, "maximumOverCapacity": 0}
    single = app(1, version=5, labels={"MARATHON_SINGLE_INSTANCE_APP": "true"}, upgradeStrategy=strategy)
    old = instance()
    decision = decide(single, [old], Motion.RESTART)
    assert (decision.start, decision.kill) == (0, [old])
    old.goal, old.condition = Goal.STOPPED, Condition.KILLING
    for motion in (Motion.RESTART, Motion.SCALE, Motion.KEEP):
        assert decide(single, [old], motion).start == 0
    assert decide(single, [], Motion.RESTART).start == 1


def test_a_scaling_waits_for_what_it_started_and_not_for_what_was_ill_before() -> None:
    ill, born = instance(healthy=False), instance(healthy=False, first_version=moment(5))
    assert settled(app(1), [ill], Motion.SCALE, moment(5))
    assert not settled(app(2), [ill, born], Motion.SCALE, moment(5))
    assert not settled(app(1), [ill], Motion.RESTART, moment(5))

"""Whom a scale-down ends: as many as asked, spread as asked, and of named ones exactly those."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from instances import app, instance, moment

from hubfleet.backend.drivers import Offer
from hubfleet.backend.orchestrator.scaling import Motion, decide, settled
from hubfleet.backend.records import Condition, Goal, Instance

RACKS = {"a": "r1", "b": "r1", "c": "r2", "d": None}
OFFERS = [
    Offer(host, cpus=1, mem=1, disk=1, attributes={"rack": rack} if rack else {}, zone="z" + host)
    for host, rack in RACKS.items()
]
RACK_OF = {**RACKS, "gone": None}
hosts = st.sampled_from(sorted(RACK_OF))

conditions = st.sampled_from([Condition.SCHEDULED, Condition.PROVISIONED, *[Condition.RUNNING] * 4])


@st.composite
def there(draw: st.DrawFn, **fixed: Any) -> Instance:
    """Some instance of an app, somewhere."""
    condition = draw(conditions)
    placed = condition is not Condition.SCHEDULED
    healthy = draw(st.sampled_from([None, True, False]))
    return instance(
        condition,
        healthy=healthy,
        began=draw(st.integers(0, 9)),
        host=draw(hosts) if placed else "",
        **fixed,
    )


def test_a_surplus_is_taken_from_the_group_with_most_whatever_the_field() -> None:
    spread = app(2, constraints=[["rack", "GROUP_BY"]])
    crowded = [instance(host=host, began=began) for began, host in ((1, "a"), (2, "b"), (3, "a"))]
    lonely = instance(host="c", began=9)
    victims = decide(spread, [*crowded, lonely], Motion.SCALE, OFFERS).kill
    assert [victim.id for victim in victims] == [crowded[2].id, crowded[1].id]


def test_two_fields_are_kept_even_together() -> None:
    spread = app(3, constraints=[["rack", "GROUP_BY"], ["@zone", "GROUP_BY"]])
    twice, beside, elsewhere = (
        [instance(host="a"), instance(host="a")],
        instance(host="b"),
        instance(host="c"),
    )
    (victim,) = decide(spread, [*twice, beside, elsewhere], Motion.SCALE, OFFERS).kill
    assert victim in twice


def test_in_a_restart_what_serves_counts_more_than_how_it_is_spread() -> None:
    crowded = [instance(host="a", healthy=True, version=5) for _ in range(2)]
    ill = [instance(host=host, healthy=False, version=5) for host in ("b", "c")]
    target = app(2, version=5, constraints=[["hostname", "GROUP_BY"]])
    for former in ([], [instance(host="d", healthy=False)]):
        victims = decide(target, [*crowded, *ill, *former], Motion.RESTART, OFFERS).kill
        assert {each.id for each in victims} == {each.id for each in [*ill, *former]}
    assert crowded[0] in decide(target, [*crowded, *ill], Motion.SCALE, OFFERS).kill, "as Marathon scales"


@given(
    wanted=st.lists(there(), max_size=12),
    ending=st.lists(there(goal=Goal.STOPPED), max_size=3),
    count=st.integers(0, 12),
    operator=st.sampled_from(["GROUP_BY", "group_by", "UNLIKE"]),
    selection=st.sampled_from(["YOUNGEST_FIRST", "OLDEST_FIRST"]),
)
def test_a_scale_down_ends_as_many_as_are_too_many_and_leaves_the_groups_even(
    wanted: list[Instance], ending: list[Instance], count: int, operator: str, selection: str
) -> None:
    constraint = ["rack", operator] + (["x"] if operator == "UNLIKE" else [])
    target = app(count, constraints=[constraint], killSelection=selection)
    victims = decide(target, [*wanted, *ending], Motion.SCALE, OFFERS).kill
    doomed = {victim.id for victim in victims}
    assert len(doomed) == len(victims) == max(0, len(wanted) - count)
    assert doomed <= {each.id for each in wanted}, "those that are to end already are not counted again"
    left = [each for each in wanted if each.id not in doomed]
    waiting = [each for each in wanted if each.condition is Condition.SCHEDULED]
    assert len([each for each in victims if each in waiting]) == min(len(victims), len(waiting))
    if operator == "UNLIKE":
        kept_worst = any(each.condition is not Condition.RUNNING for each in left)
        assert not (kept_worst and any(each.condition is Condition.RUNNING for each in victims))
        return
    groups = Counter(RACK_OF[each.host] for each in left if each.host)
    for victim in victims:
        if victim.host:
            assert max(groups.values(), default=0) <= groups[RACK_OF[victim.host]] + 1, (
                "another was one of more"
            )


class Ending:
    """An engine and a fate while an app is scaled: whoever is to end does so, in an order of chance."""

    def __init__(self, instances: list[Instance], chance: random.Random, crashes: int) -> None:
        self.instances, self.chance, self.crashes = instances, chance, crashes

    def happen(self) -> None:
        each = self.chance.choice(self.instances)
        if each.goal is Goal.STOPPED:
            if each.condition in (Condition.KILLING, Condition.SCHEDULED):
                self.instances.remove(each)
            else:
                each.condition = Condition.KILLING
        elif each.condition is Condition.RUNNING and self.crashes and self.chance.random() < 0.2:
            self.crashes -= 1
            each.condition, each.host, each.health = Condition.SCHEDULED, "", {}
        elif each.condition is Condition.SCHEDULED:
            each.condition, each.host = Condition.PROVISIONED, "a"
        else:
            each.condition = Condition.RUNNING


@settings(max_examples=200, deadline=None)
@given(
    instances=st.lists(there(), min_size=1, max_size=9),
    missing=st.integers(0, 3),
    motion=st.sampled_from([Motion.SCALE, Motion.KEEP]),
    crashes=st.integers(0, 3),
    seed=st.integers(0, 2**32),
)
def test_who_is_named_ends_and_nobody_else_whatever_happens_meanwhile(
    instances: list[Instance], missing: int, motion: Motion, crashes: int, seed: int
) -> None:
    """As `Changes.kill_and_scale` leaves it: the named are to end, and the count is lower by as many."""
    chance = random.Random(seed)
    named = chance.sample(instances, chance.randint(1, len(instances)))
    named_ids = {each.id for each in named}
    others = {each.id for each in instances} - named_ids
    for each in named:
        each.goal = Goal.STOPPED
    target = app(len(others) + missing, constraints=[["rack", "GROUP_BY"]])
    ending = Ending(list(instances), chance, crashes)
    for _ in range(2000):
        decision = decide(target, ending.instances, motion, OFFERS)
        assert decision.kill == [], "nobody but the named"
        for _ in range(decision.start):
            ending.instances.append(instance(Condition.SCHEDULED))
        assert sum(each.goal is Goal.RUNNING for each in ending.instances) <= target.instances
        if settled(target, ending.instances, motion, moment(5)) or not ending.instances:
            break
        ending.happen()
    else:
        raise AssertionError("the scaling never ends")
    left = {each.id for each in ending.instances}
    assert others <= left
    assert not named_ids & left
    assert len(left) == target.instances

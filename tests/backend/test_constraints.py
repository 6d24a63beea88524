"""What constraints allow (``marathon-v2`` 2.2)."""

from __future__ import annotations

import time
from typing import Any

import pytest
from instances import app

from hubfleet.backend.drivers import Offer
from hubfleet.backend.orchestrator.constraints import unfulfilled


def host(name: str, **fields: Any) -> Offer:
    return Offer(host=name, cpus=8, mem=999, disk=999, **fields)


OFFERS = {
    offer.host: offer
    for offer in (
        host("a1", region="eu", zone="eu-a", attributes={"rack": "r1", "load": "1.0004"}),
        host("a2", region="eu", zone="eu-a", attributes={"rack": "r1"}),
        host("b1", region="eu", zone="eu-b", attributes={"rack": "r2"}),
        host("c1"),
    )
}


def allowed(constraint: list[str], placed: dict[str, int] | None = None, instances: int = 4) -> str:
    """The hosts, in order, on which one more instance may be."""
    constrained = app(instances, constraints=[constraint])
    return " ".join(
        name
        for name, offer in OFFERS.items()
        if unfulfilled(constrained, offer, placed or {}, OFFERS) is None
    )


@pytest.mark.parametrize(
    ("constraint", "placed", "hosts"),
    [
        (["hostname", "UNIQUE"], {}, "a1 a2 b1 c1"),
        (["hostname", "UNIQUE"], {"a1": 1, "b1": 2}, "a2 c1"),
        (["@hostname", "unique"], {"a1": 1}, "a2 b1 c1"),
        (["rack", "UNIQUE"], {"a1": 1}, "b1"),
        (["@zone", "UNIQUE"], {"b1": 1}, "a1 a2"),
        (["hostname", "UNIQUE"], {"gone": 1}, "a1 a2 b1 c1"),
        (["hostname", "CLUSTER", "b1"], {}, "b1"),
        (["hostname", "CLUSTER"], {}, "a1 a2 b1 c1"),
        (["hostname", "CLUSTER"], {"a2": 3}, "a2"),
        (["rack", "CLUSTER"], {"a2": 3}, "a1 a2"),
        (["rack", "CLUSTER", "r2"], {"a2": 1}, ""),
        (["@region", "CLUSTER", "eu"], {}, "a1 a2 b1"),
        (["hostname", "LIKE", "a."], {}, "a1 a2"),
        (["hostname", "LIKE", "a"], {}, ""),
        (["hostname", "UNLIKE", "a."], {}, "b1 c1"),
        (["rack", "LIKE", "r[12]"], {}, "a1 a2 b1"),
        (["rack", "UNLIKE", "r1"], {}, "b1 c1"),
        (["rack", "IS", "r1"], {}, "a1 a2"),
        (["load", "IS", "1.000"], {}, "a1"),
        (["@zone", "is", "eu-b"], {}, "b1"),
        (["hostname", "MAX_PER", "2"], {"a1": 2, "a2": 1}, "a2 b1 c1"),
        (["rack", "MAX_PER", "2"], {"a1": 1, "a2": 1}, "b1"),
        (["hostname", "MAX_PER", "0"], {}, ""),
        (["hostname", "GROUP_BY"], {}, "a1 a2 b1 c1"),
        (["hostname", "GROUP_BY"], {"a1": 1}, "a1 a2 b1 c1"),
        (["hostname", "GROUP_BY"], {"a1": 2, "a2": 1}, "a2 b1 c1"),
        # four in two groups: two in each, and no third group
        (["hostname", "GROUP_BY", "2"], {"a1": 1}, "a1 a2 b1 c1"),
        (["hostname", "GROUP_BY", "2"], {"a1": 2}, "a2 b1 c1"),
        (["hostname", "GROUP_BY", "2"], {"a1": 2, "a2": 1}, "a2"),
        # four in three groups: one of them takes the one left over
        (["hostname", "GROUP_BY", "3"], {"a1": 1, "a2": 1}, "a1 a2 b1 c1"),
        (["hostname", "GROUP_BY", "3"], {"a1": 2, "a2": 1}, "b1 c1"),
        (["@zone", "GROUP_BY", "2"], {"a1": 1, "a2": 1}, "b1"),
        # of an app that is being replaced there are more than its count
        (["hostname", "GROUP_BY", "2"], {"a1": 2, "a2": 2}, "a1 a2"),
    ],
)
def test_which_places_a_constraint_allows(constraint: list[str], placed: dict[str, int], hosts: str) -> None:
    assert allowed(constraint, placed) == hosts


@pytest.mark.parametrize("operator", ["UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "MAX_PER", "IS"])
def test_a_place_without_the_attribute_only_passes_unlike(operator: str) -> None:
    value = {"LIKE": [".*"], "MAX_PER": ["5"], "IS": ["x"]}.get(operator, [])
    assert allowed(["colour", operator, *value]) == ""
    assert allowed(["colour", "UNLIKE", ".*"]) == "a1 a2 b1 c1"


def test_the_reason_names_the_constraint_and_what_stands_against_it() -> None:
    twice = app(constraints=[["hostname", "LIKE", ".*"], ["hostname", "UNIQUE"]])
    assert unfulfilled(twice, OFFERS["a1"], {"a1": 1}, OFFERS) == (
        "constraint hostname UNIQUE: hostname a1 has an instance of the app already",
        True,
    )
    assert unfulfilled(app(constraints=[["colour", "CLUSTER", "red"]]), OFFERS["a1"], {}, OFFERS) == (
        "constraint colour CLUSTER red: the place a1 has no colour",
        False,
    )


def test_a_pattern_that_would_be_tried_for_years_is_given_up() -> None:
    long = host("a" * 60)
    begun = time.process_time()
    broken = unfulfilled(app(constraints=[["hostname", "LIKE", "(a|a|a)*[^a]"]]), long, {}, {long.host: long})
    assert time.process_time() - begun < 5
    assert broken is not None
    assert "write a simpler pattern" in broken[0]


@pytest.mark.parametrize("pattern", ["a{4294967294}", "(?:a{65535}){65535}", "(?:" * 200 + "a" + ")" * 200])
def test_a_pattern_that_takes_too_much_to_be_read_is_given_up(pattern: str) -> None:
    here = host("a")
    broken = unfulfilled(app(constraints=[["hostname", "LIKE", pattern]]), here, {}, {here.host: here})
    assert broken is not None
    assert "write a simpler pattern" in broken[0]

"""Which place takes a task, and the sentences when none does."""

from __future__ import annotations

import pytest
from instances import app

from hubfleet.backend.drivers import Offer
from hubfleet.backend.orchestrator.placement import (
    Places,
    Reason,
    chosen_ports,
    impossible,
    required_ports,
    with_required_ports,
)

MACHINE = Offer(host="here", cpus=2, mem=1000, disk=5000)
THERE = Offer(host="there", cpus=2, mem=1000, disk=5000)


def test_what_fits_is_placed_and_counted() -> None:
    places = Places([MACHINE])
    for _ in range(20):
        assert places.choose(app(cpus=0.1, mem=50)) is places.by_host["here"]
        places.reserve(app(cpus=0.1, mem=50), "here")
    reasons = places.choose(app(cpus=0.1, mem=50))
    assert reasons == [Reason("InsufficientCpus", "waiting for 0.1 cpus; 0 of 2 free", True)]


@pytest.mark.parametrize(
    ("asked", "used", "reason"),
    [
        (
            {"cpus": 1.5},
            {"cpus": 1},
            Reason("InsufficientCpus", "waiting for 1.5 cpus; 1 of 2 free", True),
        ),
        (
            {"mem": 900},
            {"cpus": 0.1, "mem": 200},
            Reason("InsufficientMemory", "waiting for 900 MiB of memory; 800 of 1000 free", True),
        ),
        (
            {"disk": 5001},
            None,
            Reason("InsufficientDisk", "5001 MiB of disk asked, but there are 5000 in all", False),
        ),
        ({"gpus": 1}, None, Reason("InsufficientGpus", "1 GPUs asked, but there are 0 in all", False)),
    ],
)
def test_what_does_not_fit_is_told_with_numbers(
    asked: dict[str, float], used: dict[str, float] | None, reason: Reason
) -> None:
    places = Places([MACHINE])
    if used is not None:
        places.reserve(app(**used), "here")
    assert places.choose(app(**asked)) == [reason]


def test_the_emptiest_of_several_places_is_taken() -> None:
    places = Places([MACHINE, THERE])
    places.reserve(app(cpus=1), "here")
    assert places.choose(app(cpus=0.5)) is places.by_host["there"]


def test_a_place_in_which_an_app_keeps_failing_comes_last_but_is_not_shut() -> None:
    places = Places([MACHINE, THERE])
    places.reserve(app(cpus=1), "here")
    assert places.choose(app(cpus=0.5), last={"there"}) is places.by_host["here"]
    assert places.choose(app(cpus=1.5), last={"there"}) is places.by_host["there"]


def test_gpus_are_given_out_by_their_numbers() -> None:
    places = Places([Offer(host="here", cpus=9, mem=9999, disk=0, gpus=3)])
    place = places.by_host["here"]
    places.reserve(app(gpus=1), "here", gpus=[1])
    assert place.free_gpus(2) == [0, 2]
    assert places.choose(app(gpus=3)) == [Reason("InsufficientGpus", "waiting for 3 GPUs; 2 of 3 free", True)]
    places.reserve(app(gpus=2), "here")
    assert place.gpu_indices == {0, 1, 2}
    assert places.choose(app()) is place


PORTS = Offer(host="here", cpus=9, mem=9999, disk=0, ports=(100, 103))


@pytest.mark.parametrize(
    ("ports", "required", "sentence", "ever"),
    [
        ([0, 0, 0], False, None, None),
        ([0, 0, 0, 0], False, "waiting for 4 free ports; the place has 3 left", True),
        ([100, 0], True, None, None),
        ([100, 101], True, "port 101 is in use, and the app requires just this; free it, or", True),
        ([101], False, None, None),
        ([99], True, "port 99 asked, but tasks of here are given ports 100 to 103", False),
    ],
)
def test_ports_are_counted_and_required_ones_must_be_free(
    ports: list[int], required: bool, sentence: str | None, ever: bool | None
) -> None:
    places = Places([PORTS])
    places.reserve(app(), "here", ports=[101, 9999])
    definitions = [{"port": port} for port in ports]
    found = places.choose(app(requirePorts=required, portDefinitions=definitions))
    if sentence is None:
        assert found is places.by_host["here"]
    else:
        assert isinstance(found, list)
        assert (found[0].code, found[0].ever) == ("InsufficientPorts", ever)
        assert found[0].sentence.startswith(sentence)


def test_required_ports_keep_their_order_among_those_chosen() -> None:
    fixed = app(requirePorts=True, portDefinitions=[{"port": 0}, {"port": 7}, {"port": 0}])
    assert (required_ports(fixed), chosen_ports(fixed)) == ([7], 2)
    assert with_required_ports(fixed, [1, 2]) == [1, 7, 2]
    assert with_required_ports(app(portDefinitions=[{"port": 7}]), [1]) == [1]


def test_a_port_that_is_given_to_nobody_is_refused_at_once() -> None:
    found = impossible(app(requirePorts=True, portDefinitions=[{"port": 99}]), [PORTS])
    assert [violation.path for violation in found] == ["/portDefinitions"]


def test_what_breaks_a_constraint_waits_and_is_not_refused() -> None:
    picky = app(constraints=[["hostname", "LIKE", "elsewhere"]])
    assert impossible(picky, [MACHINE]) == []
    (reason,) = Places([MACHINE]).choose(picky)  # type: ignore[misc]
    assert (reason.code, reason.ever) == ("UnfulfilledConstraint", False)


def test_what_no_empty_place_could_take_is_told_for_every_resource() -> None:
    found = impossible(app(cpus=3, mem=2000, disk=1), [MACHINE])
    assert [violation.path for violation in found] == ["/cpus", "/mem"]
    assert found[0].error == "3 cpus asked, but there are 2 in all"
    assert impossible(app(cpus=2, mem=1000, disk=5000), [MACHINE]) == []


def test_each_somewhere_is_not_all_at_one_place() -> None:
    offers = [Offer(host="a", cpus=8, mem=10, disk=0), Offer(host="b", cpus=1, mem=9999, disk=0)]
    assert [violation.path for violation in impossible(app(cpus=4, mem=500), offers)] == ["/"]

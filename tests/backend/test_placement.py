"""Which place takes a task, and the sentences when none does."""

from __future__ import annotations

import pytest
from instances import app

from hubfleet.backend.drivers import Offer
from hubfleet.backend.orchestrator.placement import Place, Reason, choose, impossible

MACHINE = Offer(host="here", cpus=2, mem=1000, disk=5000)


def test_what_fits_is_placed_and_counted() -> None:
    place = Place(MACHINE)
    for _ in range(20):
        assert choose(app(cpus=0.1, mem=50), [place]) is place
        place.reserve(app(cpus=0.1, mem=50))
    reasons = choose(app(cpus=0.1, mem=50), [place])
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
    place = Place(MACHINE)
    if used is not None:
        place.reserve(app(**used))
    assert choose(app(**asked), [place]) == [reason]


def test_the_emptiest_of_several_places_is_taken() -> None:
    full, empty = Place(MACHINE), Place(Offer(host="there", cpus=2, mem=1000, disk=5000))
    full.reserve(app(cpus=1))
    assert choose(app(cpus=0.5), [full, empty]) is empty


def test_what_no_empty_place_could_take_is_told_for_every_resource() -> None:
    found = impossible(app(cpus=3, mem=2000, disk=1), [MACHINE])
    assert [violation.path for violation in found] == ["/cpus", "/mem"]
    assert found[0].error == "3 cpus asked, but there are 2 in all"
    assert impossible(app(cpus=2, mem=1000, disk=5000), [MACHINE]) == []


def test_each_somewhere_is_not_all_at_one_place() -> None:
    offers = [Offer(host="a", cpus=8, mem=10, disk=0), Offer(host="b", cpus=1, mem=9999, disk=0)]
    assert [violation.path for violation in impossible(app(cpus=4, mem=500), offers)] == ["/"]

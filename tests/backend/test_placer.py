"""Who gets which place: reservations, groups, conflicts and reasons, on a real state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instances import app as app_of_version
from instances import moment

from hubfleet.api.app import App
from hubfleet.backend.drivers import Offer
from hubfleet.backend.orchestrator.placement import Place, Places, Reason
from hubfleet.backend.orchestrator.placer import Allocation, Placer
from hubfleet.backend.records import AppRecord, Condition, Instance
from hubfleet.backend.state import State
from hubfleet.backend.store import Store

HERE = Offer(host="here", cpus=4, mem=4000, disk=4000, gpus=2, ports=(100, 199))


class Engine:
    """A double of the engine's word on places and ports; `meanwhile` happens while it is asked."""

    def __init__(self, offers: Sequence[Offer]) -> None:
        self.places = list(offers)
        self.foreign: set[int] = set()
        self.meanwhile: Callable[[], None] = lambda: None
        self.questions = 0

    def offers(self) -> Sequence[Offer]:
        return self.places

    async def free_ports(self, host: str, count: int, reserved: frozenset[int]) -> list[int]:
        self.questions += 1
        await asyncio.sleep(0)
        self.meanwhile()
        return [port for port in range(100, 200) if port not in reserved | self.foreign][:count]

    async def taken_ports(self, host: str, ports: Sequence[int]) -> set[int]:
        await asyncio.sleep(0)
        self.meanwhile()
        return self.foreign.intersection(ports)


class Fleet:
    """A state, an engine, and the placer between them."""

    def __init__(self, path: Path, offers: Sequence[Offer] = (HERE,)) -> None:
        self.store = Store(path)
        self.state = State(self.store)
        self.engine = Engine(offers)
        self.placer = Placer(self.state, self.engine, self._place, self._waits)  # type: ignore[arg-type]
        self.placed: list[str] = []
        """The apps of the instances placed, in order."""
        self.told: list[str] = []
        """Why something waits, as the history has it."""

    def _place(self, instance: Instance, allocation: Allocation) -> None:
        instance.condition = Condition.PROVISIONED
        instance.host, instance.ports, instance.gpus = allocation.host, allocation.ports, allocation.gpus
        self.state.put_instance(instance)
        self.placed.append(instance.app_id)

    def _waits(self, app_id: str, sentence: str) -> None:
        self.told.append(f"{app_id}: {sentence}")

    def wait_for(self, app_id: str, count: int = 1, **fields: Any) -> App:
        """Define an app and let some of its instances wait."""
        app = app_of_version(count, id=app_id, **{"cpus": 1, "mem": 10, "portDefinitions": [{}], **fields})
        self.state.define_apps([AppRecord(app=app)], app.version)
        with self.state.transaction():
            for _ in range(count):
                self.state.put_instance(Instance.scheduled(app))
        return app

    def running(self, app_id: str) -> list[Instance]:
        return [instance for instance in self.state.instances_of(app_id) if instance.launched]

    def reasons(self, app_id: str) -> list[str]:
        return [reason.code for reason in self.placer.tally(app_id).reasons]

    async def settle(self) -> None:
        while await self.placer.round() == 0:
            pass


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    found = Fleet(tmp_path / "state.sqlite")
    yield found
    found.store.close()


async def test_identical_instances_are_decided_as_one_group(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand that wait cost as many decisions as the few that fit; the ports are asked for once."""
    decisions = []
    choose = Places.choose

    def counted(places: Places, app: App, last: Collection[str] = ()) -> Place | list[Reason]:
        decisions.append(app.id)
        return choose(places, app, last)

    monkeypatch.setattr(Places, "choose", counted)
    fleet.wait_for("/many", 10_000)
    await fleet.settle()
    assert len(fleet.running("/many")) == 4
    assert fleet.reasons("/many") == ["InsufficientCpus"]
    assert (len(decisions), fleet.engine.questions) == (5, 1)


async def test_who_asks_for_what_another_did_not_get_is_told_the_same(fleet: Fleet) -> None:
    for number in range(6):
        fleet.wait_for(f"/app-{number}")
    fleet.wait_for("/tiny", cpus=0.01)
    await fleet.settle()
    assert fleet.placed == ["/app-0", "/app-1", "/app-2", "/app-3"]
    assert fleet.reasons("/app-5") == fleet.reasons("/tiny") == ["InsufficientCpus"]


async def test_why_something_waits_is_told_once_for_each_kind_of_reason(fleet: Fleet) -> None:
    fleet.wait_for("/large", cpus=3, mem=3000)
    await fleet.settle()
    fleet.wait_for("/waits", cpus=2)
    await fleet.settle()
    fleet.wait_for("/small", cpus=0.5)
    await fleet.settle()
    assert fleet.told == ["/waits: waiting for 2 cpus; 1 of 4 free"], "the figures alone are no news"
    fleet.wait_for("/waits", cpus=0.1, mem=1500)
    await fleet.settle()
    assert fleet.told[1:] == ["/waits: waiting for 1500 MiB of memory; 990 of 4000 free"]
    for large in fleet.running("/large"):
        fleet.state.drop_instance(large)
    await fleet.settle()
    assert len(fleet.running("/waits")) == 2
    await fleet.settle()  # with nothing that waits
    fleet.wait_for("/waits", cpus=4)
    await fleet.settle()
    assert len(fleet.told) == 3, "it waits anew"


async def test_unique_hosts_on_one_machine_are_one_instance(fleet: Fleet) -> None:
    fleet.wait_for("/unique", 3, constraints=[["hostname", "UNIQUE"]])
    await fleet.settle()
    assert len(fleet.running("/unique")) == 1
    assert fleet.reasons("/unique") == ["UnfulfilledConstraint"]
    summary = fleet.placer.tally("/unique").summary()
    assert (summary.processed_offers_count, summary.unused_offers_count) == (2, 1)
    assert summary.last_used_offer_at is not None
    assert summary.last_unused_offer_at is not None


async def test_each_step_of_the_funnel_processes_what_the_one_before_let_through(tmp_path: Path) -> None:
    small = {"cpus": 1, "mem": 100, "disk": 0}
    offers = [
        Offer(host="a", **{**small, "mem": 5}),
        Offer(host="b", **{**small, "cpus": 0.5}),
        Offer(host="c", **{**small, "cpus": 0.5}),
        Offer(host="d", **small),
    ]
    fleet = Fleet(tmp_path / "state.sqlite", offers)
    fleet.wait_for("/app", constraints=[["hostname", "UNLIKE", "d"]])
    await fleet.settle()
    steps = {
        step.reason: (step.declined, step.processed)
        for step in fleet.placer.tally("/app").summary().reject_summary_last_offers
    }
    assert list(steps.items()) == [
        ("UnfulfilledRole", (0, 4)),
        ("UnfulfilledConstraint", (1, 4)),
        ("NoCorrespondingReservationFound", (0, 3)),
        ("AgentMaintenance", (0, 3)),
        ("InsufficientCpus", (2, 3)),
        ("InsufficientMemory", (1, 1)),
        ("InsufficientDisk", (0, 0)),
        ("InsufficientGpus", (0, 0)),
        ("InsufficientPorts", (0, 0)),
        ("DeclinedScarceResources", (0, 0)),
    ]
    await fleet.settle()
    attempt = fleet.placer.tally("/app").summary().reject_summary_launch_attempt
    assert (attempt[0].processed, attempt[1].declined) == (8, 2)
    fleet.store.close()


async def test_a_required_port_that_a_stranger_holds_is_waited_for(fleet: Fleet) -> None:
    fleet.wait_for("/fixed", 2, requirePorts=True, portDefinitions=[{"port": 150}, {"port": 0}])
    fleet.engine.foreign = {150}
    await fleet.settle()
    assert fleet.running("/fixed") == []
    assert "port 150 is in use" in fleet.placer.tally("/fixed").reasons[0].sentence
    fleet.engine.foreign = set()
    await fleet.settle()
    (one,) = fleet.running("/fixed")
    assert one.ports[0] == 150
    assert "port 150 is in use" in fleet.placer.tally("/fixed").reasons[0].sentence


async def test_gpus_are_allocated_one_by_one_and_stored(fleet: Fleet) -> None:
    fleet.wait_for("/gpu", 3, gpus=1)
    await fleet.settle()
    assert sorted(gpu for instance in fleet.running("/gpu") for gpu in instance.gpus) == [0, 1]
    assert fleet.reasons("/gpu") == ["InsufficientGpus"]
    again = State(fleet.store)
    assert sorted(gpu for instance in again.instances.values() for gpu in instance.gpus) == [0, 1]


# -- what changes while the engine is asked -----------------------------------------------


async def test_an_app_that_is_changed_meanwhile_is_not_started_in_its_former_shape(fleet: Fleet) -> None:
    fleet.wait_for("/app")

    def change() -> None:
        former = fleet.state.apps["/app"].app
        changed = former.model_copy(update={"cpus": 3.0, "version": moment(60)})
        fleet.state.define_apps([AppRecord(app=changed)], changed.version)
        fleet.engine.meanwhile = lambda: None

    fleet.engine.meanwhile = change
    assert await fleet.placer.round() == 0
    assert fleet.placed == []
    await fleet.settle()
    assert fleet.placed == ["/app"]


async def test_what_ends_meanwhile_is_not_placed(fleet: Fleet) -> None:
    fleet.wait_for("/app", 2)

    def end_one() -> None:
        fleet.state.drop_instance(fleet.state.instances_of("/app")[0])
        fleet.engine.meanwhile = lambda: None

    fleet.engine.meanwhile = end_one
    await fleet.settle()
    assert len(fleet.placed) == len(fleet.state.instances_of("/app")) == 1


async def test_a_place_that_shrinks_meanwhile_is_not_overcommitted(fleet: Fleet) -> None:
    fleet.wait_for("/app", 4)

    def shrink() -> None:
        fleet.engine.places = [Offer(host="here", cpus=2, mem=4000, disk=4000)]

    fleet.engine.meanwhile = shrink
    await fleet.settle()
    assert len(fleet.running("/app")) == 2
    assert fleet.reasons("/app") == ["InsufficientCpus"]


# -- failing fast --------------------------------------------------------------------------


async def test_what_is_missing_counts_what_already_waits(fleet: Fleet) -> None:
    fleet.wait_for("/first", 3)
    new = app_of_version(1, id="/new", cpus=1, mem=10)

    def missing(app: App, count: int) -> list[Reason]:
        found = fleet.placer.missing({app.id: (app, count)})
        return found[1] if found else []

    assert missing(new, 1) == []
    (reason,) = missing(new, 2)
    assert (reason.code, reason.sentence) == ("InsufficientCpus", "waiting for 1 cpus; 0 of 4 free")
    await fleet.settle()
    assert missing(new, 1) == []
    assert missing(new, 2) == [reason]
    unique = app_of_version(1, id="/new", constraints=[["hostname", "UNIQUE"]])
    assert [reason.code for reason in missing(unique, 2)] == ["UnfulfilledConstraint"]
    fixed = app_of_version(1, id="/new", requirePorts=True, portDefinitions=[{"port": 150}], cpus=0.1)
    assert [reason.code for reason in missing(fixed, 2)] == ["InsufficientPorts"]
    fleet.engine.places = []
    assert missing(new, 1) != []


# -- places in which an app keeps failing --------------------------------------------------


async def test_five_failures_in_five_minutes_make_a_place_the_last_one(tmp_path: Path) -> None:
    large, small = Offer("large", 9, 9999, 0), Offer("small", 8, 9999, 0)
    fleet = Fleet(tmp_path / "state.sqlite", [large, small])
    app = fleet.wait_for("/app")
    for failures in range(6):
        await fleet.settle()
        (one,) = fleet.running("/app")
        assert one.host == ("large" if failures < 5 else "small"), failures
        fleet.placer.failed(one)
        fleet.state.drop_instance(one)
        fleet.state.put_instance(Instance.scheduled(app))
    other = fleet.wait_for("/other")
    await fleet.settle()
    assert [instance.host for instance in fleet.running(other.id)] == ["large"]
    fleet.store.close()


# -- never more than there is --------------------------------------------------------------

APPS = st.builds(
    dict,
    cpus=st.sampled_from([0.1, 0.7, 1, 3]),
    mem=st.sampled_from([1, 300, 1000]),
    gpus=st.integers(0, 2),
    portDefinitions=st.lists(st.builds(dict, port=st.sampled_from([0, 0, 100, 101])), max_size=2).filter(
        lambda ports: len({port["port"] for port in ports} - {0}) == sum(1 for port in ports if port["port"])
    ),
    requirePorts=st.booleans(),
    constraints=st.sampled_from([[], [["hostname", "UNIQUE"]], [["hostname", "MAX_PER", "2"]]]),
    count=st.integers(1, 5),
)
OFFERS = st.lists(
    st.tuples(st.sampled_from([0.3, 1, 2, 5.5]), st.sampled_from([100, 1300, 5000]), st.integers(0, 3)),
    min_size=1,
    max_size=3,
)
STEPS = st.lists(st.one_of(APPS, st.integers(0, 100)), max_size=12)


@given(offers=OFFERS, steps=STEPS)
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_reservations_never_exceed_what_is_offered(
    offers: list[tuple[float, float, int]],
    steps: list[Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Apps come and tasks end in any order; a number ends the task at that place in the list."""
    places = [
        Offer(f"h{number}", cpus, mem, 0, gpus, ports=(100, 104))
        for number, (cpus, mem, gpus) in enumerate(offers)
    ]
    fleet = Fleet(tmp_path_factory.mktemp("fleet") / "state.sqlite", places)

    async def play() -> None:
        for number, step in enumerate(steps):
            launched = [each for each in fleet.state.instances.values() if each.launched]
            if isinstance(step, dict):
                fields = dict(step)
                fleet.wait_for(f"/app-{number}", fields.pop("count"), **fields)
            elif launched:
                fleet.state.drop_instance(launched[step % len(launched)])
            await fleet.settle()
            for place in places:
                check(fleet, place)

    asyncio.run(play())
    fleet.store.close()


def check(fleet: Fleet, offer: Offer) -> None:
    here = [
        instance
        for instance in fleet.state.instances.values()
        if instance.launched and instance.host == offer.host
    ]
    apps = [app for instance in here if (app := fleet.state.definition(instance))]
    assert sum(app.cpus for app in apps) <= offer.cpus + 1e-6
    assert sum(app.mem for app in apps) <= offer.mem + 1e-6
    gpus = [gpu for instance in here for gpu in instance.gpus]
    assert len(gpus) == len(set(gpus)) == sum(app.gpus for app in apps)
    assert set(gpus) <= set(range(offer.gpus))
    ports = [port for instance in here for port in instance.ports]
    assert len(ports) == len(set(ports))
    for instance, app in zip(here, apps, strict=True):
        definitions = app.port_definitions or []
        assert len(instance.ports) == len(definitions)
        for port, definition in zip(instance.ports, definitions, strict=True):
            assert not app.require_ports or definition.port in (0, port)

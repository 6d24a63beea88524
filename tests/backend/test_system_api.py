"""What the backend says of itself: metrics, leader, logging (``marathon-v2`` 1.4)."""

from __future__ import annotations

import asyncio
from typing import Any

from conftest import RunningBackend
from prometheus_client.parser import text_string_to_metric_families
from rest import Rest, eventually


async def samples(rest: Rest) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    answer = await rest("GET", "/metrics/prometheus")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def of_app(name: str, app_id: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset({"app": app_id, **labels}.items())


async def test_an_apps_figures_are_told_and_go_with_it(rest: Rest, backend: RunningBackend) -> None:
    busy = "while :; do :; done & sleep 600"
    await rest.create("/busy", cmd=busy, instances=2, mem=64, cpus=0.5)
    await rest.running("/busy", 2)

    async def spent() -> Any:
        found = await samples(rest)
        at_work = found.get(of_app("hubfleet_app_processes", "/busy"), 0) >= 4  # a shell and its loop in each
        return found if at_work and found[of_app("hubfleet_app_cpu_seconds_total", "/busy")] > 0.1 else None

    found = await eventually(spent)
    assert found[of_app("hubfleet_app_instances", "/busy")] == 2
    assert found[of_app("hubfleet_app_tasks", "/busy", state="TASK_RUNNING")] == 2
    assert found[of_app("hubfleet_app_memory_rss_bytes", "/busy")] > 100_000
    place = frozenset({("host", "127.0.0.1")})
    assert found["hubfleet_reserved_cpus", place] == 1
    assert found["hubfleet_offered_cpus", place] == 64
    assert found["hubfleet_reserved_memory_bytes", place] == 128 << 20
    before = found[of_app("hubfleet_app_cpu_seconds_total", "/busy")]

    tasks = await rest.tasks("/busy")
    await rest("POST", "/v2/tasks/delete?scale=true", {"ids": [tasks[0]["id"]]})
    await rest.deployed()
    found = await samples(rest)
    assert found[of_app("hubfleet_app_cpu_seconds_total", "/busy")] >= before, "a total never shrinks"

    await rest("DELETE", "/v2/apps/busy")
    await rest.deployed()
    assert not [name for name, labels in await samples(rest) if ("app", "/busy") in labels]


async def test_waiting_instances_and_failures_are_told(rest: Rest) -> None:
    await rest.create("/large", cpus=60, instances=2)
    await rest.create("/bad", cmd="exit 1", backoffSeconds=300)
    await rest.running("/large", 1)

    async def told() -> bool:
        found = await samples(rest)
        return (
            found.get(of_app("hubfleet_app_instances_waiting", "/large")) == 1
            and of_app("hubfleet_app_last_failure_timestamp_seconds", "/bad") in found
        )

    await eventually(told)


async def test_the_snapshot_has_dropwizards_form(rest: Rest) -> None:
    await rest.create("/one")
    found = await rest.get("/metrics")
    assert set(found) == {"version", "gauges", "counters", "histograms", "meters", "timers"}
    assert found["gauges"]['hubfleet_app_instances{app="/one"}'] == {"value": 1.0}
    assert {type(gauge["value"]) for gauge in found["gauges"].values()} == {float}


async def test_a_leader_that_abdicates_ends_and_leaves_its_tasks(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/kept")
    before = await rest.running("/kept")
    await rest.deployed()
    assert await rest.get("/v2/leader") == {"leader": backend.url.removeprefix("http://")}
    answer = await rest("DELETE", "/v2/leader")
    assert answer.json() == {"message": "Leadership abdicated"}
    assert backend.process is not None
    assert await asyncio.to_thread(backend.process.wait, 60) == 0
    await backend.start()
    assert await rest.tasks("/kept") == before


async def test_levels_of_logging_are_shown_and_set_for_a_while(rest: Rest) -> None:
    async def level() -> str:
        found: dict[str, str] = await rest.get("/logging")
        return found["hubfleet.backend"]

    assert await level() == "info"
    wanted: dict[str, Any] = {"logger": "hubfleet.backend", "level": "debug", "durationSeconds": 600}
    assert (await rest("POST", "/logging", wanted)).json() == wanted
    assert await level() == "debug"
    briefly = {**wanted, "level": "error", "durationSeconds": 1}
    assert (await rest("POST", "/logging", briefly)).json() == briefly

    async def back() -> bool:
        return await level() == "debug"

    await eventually(back)
    good = {"logger": "hubfleet", "level": "info"}
    for body in (
        *({}, [], {"logger": 3}, {**good, "logger": "root"}, {**good, "level": "x"}, {**good, "level": {}}),
        *({**good, "durationSeconds": seconds} for seconds in (0, True, 1.5, "1", 10**400)),
    ):
        assert (await rest("POST", "/logging", body)).status_code == 422, body


async def test_what_a_leader_is_told_to_save_is_refused(rest: Rest, backend: RunningBackend) -> None:
    for name in ("backup", "restore"):
        answer = await rest("DELETE", f"/v2/leader?{name}=file:///tmp/x")
        assert answer.status_code == 422
        assert "backend.sqlite" in answer.json()["message"]
    assert backend.process is not None
    assert backend.process.poll() is None

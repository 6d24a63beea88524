"""Statistics of tasks: who is counted where, and how long they have lived."""

from __future__ import annotations

from datetime import timedelta

from hubfleet.api.app import App, VersionInfo
from hubfleet.api.wire import now
from hubfleet.backend.records import Condition, Health, Instance
from hubfleet.backend.server.taskstats import by_version, counts

T0 = now()


def at(seconds: float) -> object:
    return T0 + timedelta(seconds=seconds)


def app(scaled: float, configured: float) -> App:
    info = VersionInfo(last_scaling_at=at(scaled), last_config_change_at=at(configured))
    return App(id="/a", cmd="x", version=at(max(scaled, configured)), version_info=info)


def task(
    of: App, condition: Condition = Condition.RUNNING, age: float = 0, alive: bool | None = None
) -> Instance:
    instance = Instance.scheduled(of)
    instance.condition = condition
    instance.staged_at = at(100 - age)
    if alive is not None:
        seen = {"last_success" if alive else "last_failure": at(99)}
        instance.health = {0: Health.model_validate(seen)}
    return instance


def test_tasks_are_counted_by_state_and_health() -> None:
    definition = app(0, 0)
    tasks = [
        task(definition, Condition.PROVISIONED),
        task(definition, alive=True),
        task(definition, alive=False),
        task(definition),
        task(definition, Condition.KILLING, alive=True),
    ]
    assert counts(tasks) == {"staged": 1, "running": 3, "healthy": 2, "unhealthy": 1}
    assert counts([]) == {"staged": 0, "running": 0, "healthy": 0, "unhealthy": 0}


def test_each_version_has_its_statistics() -> None:
    old, configured, scaled = app(0, 0), app(10, 10), app(20, 10)
    tasks = [task(old, age=80), task(configured, age=30), task(scaled, age=10), task(scaled, age=20)]
    found = by_version(scaled, tasks, at(100))  # type: ignore[arg-type]
    running = {name: part["stats"]["counts"]["running"] for name, part in found.items()}
    assert running == {
        "startedAfterLastScaling": 2,
        "withLatestConfig": 3,
        "withOutdatedConfig": 1,
        "totalSummary": 4,
    }
    assert found["totalSummary"]["stats"]["lifeTime"] == {"averageSeconds": 35, "medianSeconds": 30}
    assert found["withLatestConfig"]["stats"]["lifeTime"] == {"averageSeconds": 20, "medianSeconds": 20}


def test_a_clock_set_back_makes_no_life_shorter_than_none() -> None:
    found = by_version(app(0, 0), [task(app(0, 0), age=-50)], at(100))  # type: ignore[arg-type]
    assert found["totalSummary"]["stats"]["lifeTime"] == {"averageSeconds": 0, "medianSeconds": 0}


def test_what_has_no_tasks_has_no_statistics() -> None:
    assert by_version(app(0, 0), [], at(100)) == {}  # type: ignore[arg-type]
    only = by_version(app(0, 0), [task(app(0, 0))], at(100))  # type: ignore[arg-type]
    assert "withOutdatedConfig" not in only

"""The life of a task where its engine or its backend is in trouble."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sqlite3
from pathlib import Path

import pytest
from conftest import RunningBackend
from instances import app as app_of_version
from instances import instance
from rest import Rest, eventually

from hubfleet.api.status import Event
from hubfleet.backend.drivers import DriverError, TaskExit, TaskSpec
from hubfleet.backend.events import EventBus, Subscription
from hubfleet.backend.metrics import Metrics
from hubfleet.backend.orchestrator import engine_task
from hubfleet.backend.orchestrator.ends import TaskEnd
from hubfleet.backend.orchestrator.engine_task import EngineTask
from hubfleet.backend.orchestrator.history import History
from hubfleet.backend.orchestrator.limits import TaskLimits
from hubfleet.backend.orchestrator.runner import TaskRunner, Told
from hubfleet.backend.orchestrator.runners import Runners
from hubfleet.backend.records import Condition
from hubfleet.backend.state import State
from hubfleet.backend.store import Store

SPEC = TaskSpec("task", ("true",), {}, Path("/nowhere"))


class Stubborn:
    """A double of an engine whose tasks do not end, or that does not answer for a while."""

    def __init__(self, deaf_starts: int = 0) -> None:
        self.deaf_starts = deaf_starts
        self.signals: list[int] = []

    async def start(self, spec: TaskSpec) -> int:
        if self.deaf_starts > 0:
            self.deaf_starts -= 1
            raise DriverError("the engine is away")
        return 1

    async def signal(self, task_id: str, signum: int) -> None:
        self.signals.append(signum)

    async def recover(self) -> dict[str, TaskExit | None]:
        return {}


async def test_a_task_that_no_kill_ends_is_reported_and_killed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_task, "_KILL_PAUSES", (0.001, 0.002))
    engine, reports = Stubborn(), []
    task = EngineTask(SPEC, engine, 0.001, stuck=reports.append)  # type: ignore[arg-type]
    task.kill()
    ending = asyncio.create_task(task.end())
    await eventually(lambda: asyncio.sleep(0, len(engine.signals) > 10))
    task.exited(TaskExit("task", None, 9))
    assert (await ending).signal == 9
    assert engine.signals[0] == signal.SIGTERM
    assert set(engine.signals[1:]) == {signal.SIGKILL}, "a second SIGTERM means something else"
    assert reports == [5]


async def test_the_pauses_between_kills_grow_by_four_to_two_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def passed(_: EngineTask, seconds: float) -> bool:
        pauses.append(seconds)
        await asyncio.sleep(0)
        return False

    monkeypatch.setattr(EngineTask, "_exit_within", passed)
    task = EngineTask(SPEC, Stubborn(), 7)  # type: ignore[arg-type]
    task.kill()
    ending = asyncio.create_task(task.end())
    await eventually(lambda: asyncio.sleep(0, len(pauses) >= 1200))
    task.exited(TaskExit("task", None, 9))
    await ending
    # The grace once, and after each SIGKILL a pause.
    assert pauses[:8] == [7, 5, 0, 20, 0, 80, 0, 120]
    assert set(pauses[8:]) == {0, 120}, "for a day and longer"


async def test_a_start_that_is_not_confirmed_in_time_is_given_up() -> None:
    ends: list[TaskEnd] = []
    told = Told(ended=ends.append, overdue=lambda: runner.kill())
    task = EngineTask(SPEC, Stubborn(deaf_starts=1000), 1)  # type: ignore[arg-type]
    runner = TaskRunner(task, told, launch_seconds=0.05)
    await asyncio.wait_for(runner.run(), 60)
    assert [end.exit.signal for end in ends] == [signal.SIGTERM]


def _noted(backend: RunningBackend) -> bool:
    """Whether the backend has written that a task was sent SIGTERM, or its grace is over already."""
    with contextlib.closing(sqlite3.connect(backend.state_dir / "backend.sqlite")) as database:
        rows = database.execute("SELECT body FROM instances").fetchall()
    return all(json.loads(body)["terminated_uptime"] for (body,) in rows)


async def test_a_restart_does_not_begin_the_grace_again(rest: Rest, backend: RunningBackend) -> None:
    """The one SIGTERM is remembered: it is not sent twice, and its grace goes on where it was."""
    cmd = "trap 'echo told' TERM; echo ready; while :; do sleep 0.02; done"
    await rest.create("/graceful", cmd=cmd, taskKillGracePeriodSeconds=3)
    (task,) = await rest.running("/graceful")
    output = backend.state_dir / "sandboxes" / task["id"] / "stdout"
    await eventually(lambda: asyncio.sleep(0, output.read_text() == "ready\n"))
    await rest("DELETE", "/v2/apps/graceful")
    await eventually(lambda: asyncio.sleep(0, output.read_text() == "ready\ntold\n"))
    # The task may hear it a moment before the backend has the launcher's word that it was sent.
    await eventually(lambda: asyncio.sleep(0, _noted(backend)))
    for _ in range(2):
        await backend.kill()
        await backend.start()
    await rest.deployed()
    assert output.read_text() == "ready\ntold\n"


async def test_a_task_that_no_kill_ends_is_in_the_history_the_events_and_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_task, "_KILL_PAUSES", (0.001, 0.002))
    heard: list[Event] = []
    bus = EventBus()
    bus.subscribe(Subscription(wants=lambda event: heard.append(event) or False, overrun=lambda: None))
    app = app_of_version(taskKillGracePeriodSeconds=0)
    alive = instance(Condition.KILLING)
    for _ in range(2):  # the second time as a backend that has been started anew
        state = State(Store(tmp_path / "store.sqlite"))
        state.put_instance(alive := state.instances.get(alive.id, alive))
        engine = Stubborn()
        runners = Runners(
            state,
            engine,  # type: ignore[arg-type]
            bus,
            History(state.archive),
            None,  # type: ignore[arg-type]
            TaskLimits(),
            tmp_path,
            lambda user: {},
            asyncio.create_task,  # type: ignore[arg-type]
        )
        ended: asyncio.Queue[TaskEnd] = asyncio.Queue()
        runners.begin(alive, app, Told(ended.put_nowait), found_running=True)
        runners.kill(alive)
        await eventually(lambda: asyncio.sleep(0, len(engine.signals) > 10))  # noqa: B023
        told = [each.message for each in state.archive.of_task(alive.task_id)]
        assert told == ["Still there after 5 kills; it is killed again, every two minutes"]
        assert [(each.event_type, each["taskStatus"], each["message"]) for each in heard] == [
            ("status_update_event", "TASK_KILLING", told[0])
        ]
        registry = Metrics(state).registry
        assert registry.get_sample_value("hubfleet_app_tasks_stuck", {"app": "/a"}) == 1
        runners.exited(TaskExit(alive.task_id, None, 9))
        assert (await ended.get()).exit.signal == 9

"""The runners of all tasks: made from definitions, told of exits, and asked for the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from hubfleet.api.app import App

from .. import events
from ..drivers import Driver, TaskExit, TaskSpec
from ..events import EventBus
from ..records import Condition, Instance
from ..state import State
from ..uptime import uptime
from . import specs
from .background import Spawn
from .ends import TaskEnd
from .engine_task import EngineTask
from .fetching import Fetching, fetch_id, fetch_spec
from .history import History
from .limits import TaskLimits
from .remains import Remains
from .runner import KILL_GRACE_SECONDS, TaskRunner, Told


class Runners:
    """One runner for each task, from before its start to after its end.

    Parameters
    ----------
    state
        What is known.
    driver
        The engine.
    bus
        Who is told.
    history
        Where it is written what is done.
    remains
        What cleans up after tasks that are nobody's.
    limits
        The bounds of every task.
    sandboxes
        Where the tasks' working directories are made.
    base_environment
        What the tasks of an account find in their environment, below what Marathon and
        their app set; None is the backend's own account.
    spawn
        Begins a coroutine whose failure is not lost.
    """

    def __init__(
        self,
        state: State,
        driver: Driver,
        bus: EventBus,
        history: History,
        remains: Remains,
        limits: TaskLimits,
        sandboxes: Path,
        base_environment: Callable[[str | None], Mapping[str, str]],
        spawn: Spawn,
    ) -> None:
        self._state = state
        self._driver = driver
        self._bus = bus
        self._history = history
        self._remains = remains
        self._limits = limits
        self._sandboxes = sandboxes
        self._base_environment = base_environment
        self._spawn = spawn
        self._runners: dict[str, TaskRunner] = {}  # by the ids of tasks, and of what fetches for them

    def begin(
        self,
        instance: Instance,
        app: App,
        told: Told,
        *,
        found_running: bool = False,
        resumed: bool = False,
    ) -> None:
        """Live the life of an instance's present task.

        Parameters
        ----------
        found_running
            Whether it runs already.
        resumed
            Whether a former life of the backend may have begun to fetch for it.
        """
        spec = specs.task_spec(app, instance, self._base_environment(app.user), self._sandboxes)
        grace = app.task_kill_grace_period_seconds
        task = EngineTask(
            spec,
            self._driver,
            KILL_GRACE_SECONDS if grace is None else grace,
            instance.terminated_uptime,
            terminated=lambda: self._terminated(instance),
            stuck=lambda kills: self._stuck(instance, kills),
        )
        fetching = None
        if app.fetch and not found_running:
            fetching = Fetching(fetch_spec(spec, app.fetch, self._limits), self._driver, resumed)
            self._history.fetching(instance, app.fetch, resumed)
        runner = TaskRunner(task, told, fetching, self._limits.launch_seconds)
        for each in (spec.task_id, fetch_id(spec.task_id)):
            self._runners[each] = runner
        self._spawn(runner.run(found_running))

    def _terminated(self, instance: Instance) -> None:
        instance.terminated_uptime = uptime()
        self._state.put_instance(instance)

    def _stuck(self, instance: Instance, kills: int) -> None:
        """Tell of a task that does not end; once, though it outlives the backend."""
        if instance.stuck:
            return
        instance.stuck = True
        with self._state.transaction():
            self._state.put_instance(instance)
            sentence = self._history.stuck(instance, kills)
        self._bus.publish(events.status_update(instance, sentence))

    def end_unwanted(self, task_id: str) -> None:
        """End a task that runs on the engine and is no instance's."""

        def forget(_: TaskEnd) -> None:
            self.forget(task_id)
            self._remains.left(task_id)
            self._bus.publish(events.unknown_terminated(task_id, Condition.KILLED.value))

        spec = TaskSpec(task_id, (), {}, self._sandboxes / task_id)
        runner = TaskRunner(EngineTask(spec, self._driver, KILL_GRACE_SECONDS), Told(forget))
        self._runners[task_id] = runner
        runner.kill()
        self._spawn(runner.run(found_running=True))

    def spec(self, instance: Instance) -> TaskSpec:
        """Return the present task of an instance, as the engine runs it."""
        return self._runners[instance.task_id].spec

    def kill(self, instance: Instance) -> None:
        """Ask for the end of an instance's task; asking twice is once."""
        if (runner := self._runners.get(instance.task_id)) is not None:
            runner.kill()

    def forget(self, task_id: str) -> None:
        """Let go of the runner of a task that has ended."""
        for each in (task_id, fetch_id(task_id)):
            self._runners.pop(each, None)

    async def take_exits(self) -> None:
        """Tell the runners of the exits that the engine tells of, for ever."""
        async for task_exit in self._driver.exits():
            self.exited(task_exit)

    def exited(self, task_exit: TaskExit) -> None:
        """Take the engine's word that a task has ended."""
        runner = self._runners.get(task_exit.task_id)
        if runner is not None:
            runner.exited(task_exit)
        else:
            self._remains.left(task_exit.task_id)

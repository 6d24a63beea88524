"""Ends every task of a state directory while no backend serves it: the machine is to be given back.

The apps stay defined, so the next backend starts their tasks again. It works from what the
launcher knows; of the store it needs only how long each task may take to end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .drivers import TaskSpec
from .drivers.launcher import LOCK as LAUNCHER_LOCK
from .drivers.process import ProcessDriver
from .orchestrator.engine_task import EngineTask
from .orchestrator.runner import KILL_GRACE_SECONDS, TaskRunner, Told
from .records import Condition
from .state import State
from .store import Store, StoreError

log = logging.getLogger("hubfleet.backend")

LAUNCHER_SECONDS = 10.0
"""How long the launcher may take to leave when it has nothing left to care for."""


@dataclass(frozen=True)
class Ended:
    """What was done: tasks that ended, and those that did not within the time."""

    ended: list[str]
    left: list[str]
    launcher_left: bool


async def end_all(state_dir: Path, seconds: float) -> Ended:
    """End every task, each with SIGTERM, its grace, and SIGKILL; nothing is started again.

    Parameters
    ----------
    state_dir
        Of a backend that does not run: the caller holds its lock.
    seconds
        How long to wait beyond the longest grace.

    Raises
    ------
    DriverError
        The launcher cannot be reached, so what runs is unknown.
    """
    driver = ProcessDriver(state_dir, prefork=False)
    await driver.open()
    runners: dict[str, TaskRunner] = {}
    ended: list[str] = []
    try:
        running = [task_id for task_id, end in (await driver.recover()).items() if end is None]
        graces = _mark_as_ending(state_dir)
        lives = []
        for task_id in running:
            spec = TaskSpec(task_id, (), {}, state_dir / "sandboxes" / task_id)
            on_engine = EngineTask(spec, driver, graces.get(task_id, KILL_GRACE_SECONDS))
            told = Told(ended=lambda end: ended.append(end.exit.task_id))
            runner = runners[task_id] = TaskRunner(on_engine, told)
            runner.kill()
            lives.append(asyncio.create_task(runner.run(found_running=True)))
        listener = asyncio.create_task(_pass_on(driver, runners))
        try:
            if lives:
                longest = max(graces.get(task_id, KILL_GRACE_SECONDS) for task_id in running)
                await asyncio.wait(lives, timeout=longest + seconds)
        finally:
            for task in (*lives, listener):
                task.cancel()
            await asyncio.gather(*lives, listener, return_exceptions=True)
    finally:
        await driver.close()
    left = [task_id for task_id in running if task_id not in ended]
    return Ended(ended, left, not left and await _launcher_leaves(state_dir))


async def _pass_on(driver: ProcessDriver, runners: Mapping[str, TaskRunner]) -> None:
    async for task_exit in driver.exits():
        if runner := runners.get(task_exit.task_id):
            runner.exited(task_exit)


def _mark_as_ending(state_dir: Path) -> dict[str, float]:
    """Write down that all tasks are being killed, and return the grace of each.

    The next backend, also if this is interrupted, then takes their end for what it is: no
    failure that would hold the app back.
    """
    path = state_dir / "backend.sqlite"
    if not path.exists():
        return {}
    try:
        store = Store(path)
    except StoreError as error:
        log.warning("%s; the tasks are ended all the same, each after %g s", error, KILL_GRACE_SECONDS)
        return {}
    try:
        state = State(store)
        graces: dict[str, float] = {}
        with state.transaction():
            for instance in state.instances.values():
                if not instance.launched:
                    continue
                definition = state.definition(instance)
                if definition is not None and definition.task_kill_grace_period_seconds is not None:
                    graces[instance.task_id] = definition.task_kill_grace_period_seconds
                if instance.condition is not Condition.KILLING:
                    instance.condition = Condition.KILLING
                    state.put_instance(instance)
        return graces
    finally:
        store.close()


async def _launcher_leaves(state_dir: Path) -> bool:
    """Wait until the launcher has gone; it takes its lock with it."""
    try:
        async with asyncio.timeout(LAUNCHER_SECONDS):
            while (state_dir / LAUNCHER_LOCK).exists():  # noqa: ASYNC110 (another process's file)
                await asyncio.sleep(0.05)
    except TimeoutError:
        return False
    return True

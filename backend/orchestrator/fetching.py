"""The hook that brings a task's files into its sandbox: a task of its own on the engine, before the task.

It runs `hubfleet.backend.fetcher` as the task's account, so that slow servers, hostile archives and
``file:`` addresses meet nothing but what that account could do itself; nor does it reach any address, such as
those of this machine, that the task could not. Being a task it outlives the backend: one that starts anew
waits for it, or learns how it ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hubfleet.api.app import Fetch

from ..drivers import Driver, DriverError, TaskExit, TaskSpec
from .engine_task import EngineTask
from .limits import TaskLimits
from .sandbox import last_lines

log = logging.getLogger("hubfleet.backend.task")

FETCH_MEM = 512.0
"""MiB that fetching may use, whatever the task may: some archives take much to unpack."""

_KILL_GRACE_SECONDS = 1.0
_MOST_TRIES = 3
_PAUSE_SECONDS = 1.0

SPOKEN = "fetch: "
"""How the lines on stderr begin that are for people (`hubfleet.backend.fetcher`)."""


class FetchFailed(Exception):
    """The files could not be had; the message is a sentence with the reason."""


def fetch_id(task_id: str) -> str:
    """Return the id of the task that fetches for another one."""
    return f"{task_id}.fetch"


def fetch_spec(spec: TaskSpec, files: Sequence[Fetch], limits: TaskLimits) -> TaskSpec:
    """Return the task that fetches for another one.

    The addresses are in its environment and not in its arguments, which all accounts of the machine can see.
    """
    orders = {f"HUBFLEET_FETCH_{number}": json.dumps(each.to_wire()) for number, each in enumerate(files)}
    bounds = {
        "HUBFLEET_FETCH_SECONDS": str(limits.fetch_seconds),
        "HUBFLEET_FETCH_MIB": str(limits.fetch_mib),
    }
    return replace(
        spec,
        task_id=fetch_id(spec.task_id),
        command=[sys.executable, "-I", "-m", "hubfleet.backend.fetcher"],
        environment={**spec.environment, **orders, **bounds},
        mem=FETCH_MEM,
        mounts=(),
        prefork=False,
    )


class Fetching:
    """Fetches the files of one task.

    Parameters
    ----------
    spec
        The task that fetches, see `fetch_spec`.
    driver
        The engine.
    resumed
        Whether a former life of the backend may have begun with it.
    """

    def __init__(self, spec: TaskSpec, driver: Driver, resumed: bool) -> None:
        self.task_id = spec.task_id
        self._spec = spec
        self._driver = driver
        self._task = EngineTask(spec, driver, _KILL_GRACE_SECONDS)
        self._resumed = resumed
        self._killed = False

    def kill(self) -> None:
        """Ask for the end; asking twice is once."""
        self._killed = True
        self._task.kill()

    def exited(self, task_exit: TaskExit) -> None:
        """Take the engine's word that the fetching has ended."""
        self._task.exited(task_exit)

    async def run(self) -> bool:
        """Fetch everything; return False if the end was asked for meanwhile.

        Raises
        ------
        FetchFailed
            With the reason, where asking again at once is of no use.
        StartRefused
            The engine will not run anything for this account.
        """
        for _ in range(_MOST_TRIES):
            known = await self._known()
            if self._spec.task_id in known:
                begun, before = True, known[self._spec.task_id]
                if before is not None:
                    self._task.exited(before)
            else:
                begun = await self._task.start()
            ended = await self._task.end() if begun else None
            if ended is not None:
                await self._forget()
            if self._killed or ended is None:
                return False
            if ended.exit_code == 0:
                return True
            if ended.exit_code is not None or ended.signal is not None:
                raise FetchFailed(self._sentence(ended))
            # It ended while nobody could see how: from the beginning.
            self._task = EngineTask(self._spec, self._driver, _KILL_GRACE_SECONDS)
        raise FetchFailed("the files were not fetched: how the fetching ended could not be seen, repeatedly")

    async def _known(self) -> Mapping[str, TaskExit | None]:
        if not self._resumed:
            return {}
        while True:
            try:
                return await self._driver.recover()
            except DriverError as error:
                log.warning("cannot tell whether %s was started: %s", self.task_id, error)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _forget(self) -> None:
        try:
            await self._driver.forget(self.task_id)
        except DriverError as error:
            # It stays in the engine's list, where the next life of the backend finds it.
            log.warning("%s is not forgotten yet: %s", self.task_id, error)

    def _sentence(self, ended: TaskExit) -> str:
        if ended.exit_code is None or ended.reason is not None:
            return f"the files were not fetched: {ended.message}"
        lines = last_lines(self._spec.sandbox / "stderr").splitlines()
        told = [line.removeprefix(SPOKEN) for line in lines if line.startswith(SPOKEN)]
        return told[-1] if told else f"the files were not fetched: {ended.message}"

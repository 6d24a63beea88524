"""The driver for this machine: tasks are plain processes, forked by the launcher."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import sys
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from hubfleet.api.app import App
from hubfleet.api.rules import Violation

from .adoption import SANDBOXES
from .base import DriverError, Offer, Output, StartRefused, TaskExit, TaskSpec, Template, Usage
from .exits import Exits
from .gpus import count_gpus
from .isolation.cgroups import Groups
from .launcher_client import CALL_SECONDS, ConnectionLost, LauncherClient, Message, wish_for_templates
from .launcher_server import MOUNTS
from .machine import find_free_ports, find_taken_ports, free_disk, usable_cpus, usable_memory
from .output import Sandboxes
from .rotation import KEPT_BYTES
from .unable import NO_MOUNTS, not_given_to_processes
from .usage import measure

log = logging.getLogger(__name__)

_MOST_COMMANDS = 32
"""Commands that run beside tasks at once; the others wait. A launcher takes twice as many."""
_MOST_REMOVALS = 2
"""Sandboxes that are removed at once: a task may have left a million files, and others need threads too."""


class ProcessDriver:
    """Runs tasks as processes of this machine.

    Parameters
    ----------
    state_dir
        Directory of the launcher's files and the sandboxes; made if it is not
        there. One backend has one: it is what its tasks are found again by.
        As root it is made so that other accounts may pass through it to their
        own sandboxes (mode 0711), otherwise for nobody else (0700).
    host
        Name or address at which the tasks of this machine are reached.
    cpus, mem, disk
        What the machine offers, memory and disk in MiB. None is all that we
        may use of it when the driver opens (of the disk, all that is free).
    port_range
        The first and the last port that tasks may be given (Mesos' default).
    output_bytes
        How much is kept of a task's stdout, and of its stderr: the last bytes, up
        to twice as many.
    enforce_memory
        Whether a task that uses more memory than it reserves is ended: by the
        kernel where control groups can be used, by measuring where not. None is
        limited to less than 32 MiB, and one that reserves 0 not at all.
    control_groups
        Whether the launcher may use the machine's control groups where it can.
    gpus
        How many NVIDIA GPUs tasks may be given. None is all that this machine shows us.
    attributes, region, zone
        What constraints of apps may ask of this machine.
    prefork
        Whether Jupyter servers and Dask workers of our own Python environment are
        forked from warm templates.
    warm
        Kinds of templates to be made at once: ``"server"``, ``"worker"``. Others are
        made when a first task has been executed.
    environment
        What every task has in its environment, as far as it is not the task's own.
        Tasks for which it is different are executed.

    Notes
    -----
    The tasks belong to the launcher, a process of its own that this driver
    starts when there is none. It outlives the backend, and the tasks outlive
    it: should it be killed, a new one takes over, and only how those tasks
    ended that it did not fork cannot be known.
    """

    def __init__(
        self,
        state_dir: Path,
        host: str = "127.0.0.1",
        cpus: float | None = None,
        mem: float | None = None,
        disk: float | None = None,
        port_range: tuple[int, int] = (31000, 32000),
        output_bytes: int = KEPT_BYTES,
        enforce_memory: bool = True,
        control_groups: bool = True,
        gpus: int | None = None,
        attributes: Mapping[str, str] | None = None,
        region: str | None = None,
        zone: str | None = None,
        prefork: bool = True,
        warm: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        if not 1 <= port_range[0] <= port_range[1] <= 65535:
            raise ValueError(f"The port range is {port_range}; it must be (first, last) within 1 to 65535.")
        self._state_dir = Path(os.path.abspath(state_dir))
        self._sandboxes_dir = self._state_dir / SANDBOXES
        self._sandboxes = Sandboxes(self._sandboxes_dir)
        self._host = host
        self._cpus = cpus
        self._mem = mem
        self._disk = disk
        self._port_range = port_range
        self._enforce_memory = enforce_memory
        self._client = LauncherClient(
            self._state_dir,
            self._note_tasks,
            self._note_exit,
            output_bytes,
            control_groups,
            {"prefork": wish_for_templates(sys.executable if prefork else None, environment, warm)},
        )
        self._gpus = gpus
        self._attributes = dict(attributes or {})
        self._region = region
        self._zone = zone
        self._offer: Offer | None = None
        self._leaders: dict[str, tuple[int, float]] = {}
        self._commands = asyncio.Semaphore(_MOST_COMMANDS)
        self._removals = asyncio.Semaphore(_MOST_REMOVALS)
        self._exits = Exits()

    @property
    def launcher_pid(self) -> int | None:
        """Process id of the launcher last spoken to."""
        return self._client.pid

    async def open(self) -> None:
        """Reach the launcher, starting it if there is none.

        Raises
        ------
        DriverError
            If the state directory cannot be used or no launcher can be started.
        """
        try:
            self._make_directories()
        except OSError as error:
            raise DriverError(f"The state directory {self._state_dir} cannot be used: {error}") from error
        self._offer = self._measure()
        await self._client.open()

    async def close(self) -> None:
        """Let go of the launcher. Running tasks keep running; readers of `exits` come to an end."""
        await self._client.close()
        self._exits.close()

    def offers(self) -> Sequence[Offer]:
        """Return the one place there is: this machine, as it was when the driver opened."""
        if self._offer is None:
            raise DriverError("The driver is not open, so it has not looked at its machine yet.")
        return [self._offer]

    def cannot(self, app: App) -> list[Violation]:
        """Return what processes of this machine cannot give an app, and which driver could."""
        return not_given_to_processes(app, mounts=MOUNTS in self._client.features)

    async def recover(self) -> Mapping[str, TaskExit | None]:
        """Return every task that the launcher knows: its exit, or None while it runs."""
        tasks = _result(await self._client.call("list"))["tasks"]
        self._note_tasks(tasks)
        return {task["task_id"]: _exit_of(task) if task["ended"] else None for task in tasks}

    async def free_ports(self, host: str, count: int, reserved: frozenset[int]) -> list[int]:
        """Return up to `count` TCP ports of this machine that are free now and not in `reserved`."""
        self._require_here(host)
        return await find_free_ports(host, count, self._port_range, reserved)

    async def taken_ports(self, host: str, ports: Sequence[int]) -> set[int]:
        """Return which of these TCP ports of this machine are in use now, by whomever."""
        self._require_here(host)
        return await find_taken_ports(host, ports)

    def _require_here(self, host: str) -> None:
        if host != self._host:
            raise DriverError(f"There is no host {host!r} here; the only one is {self._host!r}.")

    async def start(self, spec: TaskSpec) -> int:
        """Start a task and return its process id; a task that is there already is not started again.

        Raises
        ------
        StartRefused
            If the task cannot run, has run already under this id, or is to run
            as a user that does not exist or that only root can become.
        DriverError
            If it cannot be told whether it was started. Ask again or `recover`.
        """
        if spec.mounts and MOUNTS not in self._client.features:
            raise StartRefused(NO_MOUNTS)
        order = self._order(spec)
        try:
            reply = await self._client.call("start", repeat=False, **order)
        except ConnectionLost:
            reply = await self._client.call("start", **order)
            if reply.get("ended"):
                # Our first order was carried out, and what it started is over already.
                return int(reply["pid"])
        result = _result(reply)
        pid = int(result["pid"])
        if kind := result.get("template"):
            why = result["executed"]
            how = f"was executed after all, since {why}" if why else "was forked"
            log.info("task %s: from the template of %ss it %s", spec.task_id, kind, how)
        if spec.task_id not in self._exits:
            self._leaders[spec.task_id] = pid, spec.mem if self._enforce_memory else 0
        return pid

    async def templates(self) -> Sequence[Template]:
        """Return what there is of each kind of template, as its launcher counts; older ones have none."""
        if "prefork" not in self._client.features:
            return []
        known = [field.name for field in fields(Template)]
        found = _result(await self._client.call("templates"))["templates"]
        return [Template(**{name: each[name] for name in known}) for each in found]

    async def stats(self) -> Mapping[str, Usage]:
        """Return what each running task uses, by task id; a task that just ends may be missing."""
        return await asyncio.to_thread(measure, dict(self._leaders), Groups(self._client.groups))

    async def execute(self, spec: TaskSpec, command: Sequence[str], seconds: float) -> int | None:
        """Run a command beside a running task: as its account, in its sandbox, with its environment.

        Its output goes nowhere. What it leaves running in its process group is
        killed when it ends; it ends with its task.

        Returns
        -------
        int or None
            The exit code, 128 and the signal's number if a signal ended it (as
            shells have it), or None if it was not done within `seconds`, which
            ended it.

        Raises
        ------
        StartRefused
            If there is no such program, or the task does not run.
        DriverError
            If it cannot be told how it went.
        """
        async with self._commands:
            if "execute" not in self._client.features:
                raise DriverError(
                    "The launcher was started by an older version, which runs no commands beside tasks;"
                    " a new one takes its place when its tasks have ended."
                )
            order = {**self._order(spec), "command": list(command), "seconds": seconds}
            reply = await self._client.call("execute", repeat=False, within=seconds + CALL_SECONDS, **order)
        code: int | None = _result(reply)["code"]
        return code

    async def signal(self, task_id: str, signum: int) -> None:
        """Send a signal to every process of a task; a task that is gone is no error.

        It is not sent again if the launcher dies over it, since a second
        SIGTERM means something else to many programs.
        """
        _result(await self._client.call("signal", repeat=False, task_id=task_id, signal=int(signum)))

    async def forget(self, task_id: str) -> None:
        """Drop the record of an ended task, and its sandbox but for ``stdout`` and ``stderr``.

        Raises
        ------
        DriverError
            If the task still runs, or the sandbox cannot be removed.
        """
        ended = task_id in self._exits
        if not ended:
            # Unknown here: the launcher must say first that it does not run.
            _result(await self._client.call("forget", task_id=task_id))
        try:
            async with self._removals:
                await asyncio.to_thread(self._sandboxes.strip, task_id)
        except OSError as error:
            raise DriverError(f"The sandbox of task {task_id} cannot be removed: {error}") from error
        if ended:
            # Last, so that a crash in between leaves the record that leads to the sandbox.
            _result(await self._client.call("forget", task_id=task_id))
        self._exits.forget(task_id)

    async def read_output(self, task_id: str, name: str, offset: int, length: int) -> Output | None:
        """Return a part of the ``stdout`` or ``stderr`` of a task, or None if there is no such output."""
        return await asyncio.to_thread(self._sandboxes.read, task_id, name, offset, length)

    async def discard(self, task_id: str) -> None:
        """Remove what is kept of a forgotten task.

        Raises
        ------
        DriverError
            If it cannot be removed.
        """
        try:
            async with self._removals:
                await asyncio.to_thread(self._sandboxes.discard, task_id)
        except OSError as error:
            raise DriverError(f"The output of task {task_id} cannot be removed: {error}") from error

    async def kept(self) -> Set[str]:
        """Return the ids of the tasks that have a sandbox, or what is left of one.

        Raises
        ------
        DriverError
            If the directory of the sandboxes cannot be read.
        """
        try:
            return await asyncio.to_thread(self._sandboxes.task_ids)
        except OSError as error:
            raise DriverError(f"The sandboxes cannot be listed: {error}") from error

    def exits(self) -> AsyncIterator[TaskExit]:
        """Yield the end of every task that has not been forgotten, those before this call first."""
        return self._exits.follow()

    def _make_directories(self) -> None:
        # Passing through is not reading: files in here are 0600, sandboxes 0700.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        self._state_dir.parent.mkdir(parents=True, exist_ok=True)
        for directory in (self._state_dir, self._sandboxes_dir):
            try:
                directory.mkdir()
            except FileExistsError:
                if directory.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    raise DriverError(
                        f"{directory} can be written by other accounts, so tasks would not be safe in it:"
                        f" take that from them (chmod go-w), or choose another state directory."
                    ) from None
            else:
                directory.chmod(mode)

    def _order(self, spec: TaskSpec) -> dict[str, Any]:
        return {
            "task_id": spec.task_id,
            "command": list(spec.command),
            "environment": dict(spec.environment),
            "sandbox": str(spec.sandbox),
            "user": spec.user,
            "cpus": spec.cpus,
            "mem": spec.mem if self._enforce_memory else 0,
            "mounts": [asdict(mount) for mount in spec.mounts],
            "prefork": spec.prefork,
        }

    def _measure(self) -> Offer:
        return Offer(
            host=self._host,
            cpus=usable_cpus() if self._cpus is None else self._cpus,
            mem=usable_memory() if self._mem is None else self._mem,
            disk=free_disk(self._state_dir) if self._disk is None else self._disk,
            gpus=count_gpus() if self._gpus is None else self._gpus,
            attributes=self._attributes,
            region=self._region,
            zone=self._zone,
            ports=self._port_range,
        )

    def _note_tasks(self, tasks: list[Message]) -> None:
        for task in tasks:
            if task["ended"]:
                self._note_exit(task)
            else:
                self._leaders[task["task_id"]] = task["pid"], task.get("mem", 0)

    def _note_exit(self, task: Message) -> None:
        exit_ = _exit_of(task)
        self._leaders.pop(exit_.task_id, None)
        self._exits.note(exit_)


def _exit_of(task: Message) -> TaskExit:
    excess = task.get("excess")
    return TaskExit(
        task["task_id"], task["exit_code"], task["signal"], excess, out_of_memory=excess is not None
    )


def _result(reply: Message) -> Message:
    """Return what a reply holds, or raise the error that it holds."""
    if "error" in reply:
        kind = StartRefused if reply.get("refused") else DriverError
        raise kind(reply["error"])
    result: Message = reply["ok"] or {}
    return result

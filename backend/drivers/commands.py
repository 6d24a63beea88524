"""Commands that run beside tasks for a while, health checks above all: told how they end, ended in time.

A command is in its task's session of nobody else, but in its control groups, and carries its marker: so
what it may leave running ends with the task, and so does the command itself. It ends with the launcher too.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from .fork import Forked, fork_task, read_outcome
from .guard import Guard
from .order import Order, StartError
from .proctree import Snapshot, read_process, send_signal

MOST_COMMANDS = 64
"""Commands that run at once; each is a process that the tasks have less."""

Done = Callable[["int | None", "StartError | None"], None]
"""Told the exit code, or None for one that was not done in time; or why the command did not run."""


class Command:
    """One command while it runs."""

    __slots__ = ("done", "ends", "forked", "started", "task_id", "timed_out")

    def __init__(self, task_id: str, forked: Forked, started: int, ends: float, done: Done) -> None:
        self.task_id = task_id
        self.forked = forked
        self.started = started
        self.ends = ends
        self.done = done
        self.timed_out = False


class Commands:
    """The commands of one launcher."""

    def __init__(self) -> None:
        self._running: dict[int, Command] = {}
        self.guard = Guard()

    def start(self, order: Order, seconds: float, done: Done) -> None:
        """Run a command; `done` is called once it has ended.

        Raises
        ------
        StartError
            If that is known at once.
        """
        if len(self._running) >= MOST_COMMANDS:
            raise StartError(
                f"{MOST_COMMANDS} commands run beside tasks already; ask again when one is done.",
                refused=False,
            )
        forked = fork_task(order)
        process = read_process(forked.pid)
        started = 0 if process is None else process.started
        try:
            others = [(pid, command.started) for pid, command in self._running.items()]
            self.guard.watch((forked.pid, started), others)
        except OSError as error:
            forked.abandon()
            raise StartError(f"No process could guard a command: {error}", refused=False) from error
        ends = time.monotonic() + seconds
        self._running[forked.pid] = Command(order.task_id, forked, started, ends, done)
        forked.release()

    def ending(self, pid: int) -> bool:
        """Take note that a child has ended but is not reaped yet; return whether it is a command.

        What its process group still holds is killed; the child's id cannot be another's until it is reaped.
        """
        if pid not in self._running:
            return False
        try:
            os.killpg(pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # it did not come as far as its own session, or nothing but itself is in it
        return True

    def ended(self, pid: int, status: int) -> None:
        """Tell how a command went."""
        command = self._running.pop(pid)
        self.guard.release(pid)
        # Whole by now: the process is dead, and its program never had the descriptor.
        message = b""
        while text := _read(command.forked.outcome):
            message += text
        os.close(command.forked.outcome)
        error = read_outcome(message)
        code = os.waitstatus_to_exitcode(status)
        if error is not None or command.timed_out:
            command.done(None, error)
        else:
            command.done(code if code >= 0 else 128 - code, None)

    def tick(self, now: float) -> float | None:
        """Kill what has had its time; return when to look again."""
        late = {pid: command for pid, command in self._running.items() if command.ends <= now}
        if late:
            snapshot = Snapshot(late.keys(), since=min(command.started for command in late.values()))
            for pid, command in late.items():
                command.timed_out = True
                command.ends = now + 1.0  # and again, should it have forked meanwhile
                for process in snapshot.of_session(pid):
                    send_signal(process, signal.SIGKILL)
        return min((command.ends for command in self._running.values()), default=None)

    def of_task(self, task_id: str) -> bool:
        """Whether a command of this task runs."""
        return any(command.task_id == task_id for command in self._running.values())


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 4096)
    except BlockingIOError:
        return b""

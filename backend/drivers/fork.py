"""The careful fork and exec of one task, or of a command beside one.

The new process waits until its process id has been journaled; if the launcher dies before that, it ends
without a trace, so nothing ever runs that nobody knows of. What goes wrong after that, up to and
including the exec, comes back through a pipe as one sentence.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings  # noqa: F401 - os.execvpe imports it, when the task's account may not reach it any more
from collections.abc import Mapping, Sequence

from .order import Order, StartError
from .prepare import prepare
from .proctree import MARKER


class Forked:
    """A new process that waits for its release.

    Attributes
    ----------
    pid
        Its process id, which is also that of the task's session.
    outcome
        Descriptor that ends when the task's program runs, or gives the reason why it does not
        (see `read_outcome`).
    """

    __slots__ = ("_gate", "outcome", "pid")

    def __init__(self, pid: int, gate: int, outcome: int) -> None:
        self.pid = pid
        self.outcome = outcome
        self._gate = gate

    def release(self) -> None:
        """Let the process become the task."""
        try:
            os.write(self._gate, b"g")
        except BrokenPipeError:
            pass  # killed already; its end says so
        os.close(self._gate)

    def abandon(self) -> None:
        """Let the process end without having done anything."""
        os.close(self._gate)
        os.close(self.outcome)


def fork_task(order: Order) -> Forked:
    """Fork a process that will become the task once it is released.

    Raises
    ------
    StartError
        If the system has no room for another process now.
    """
    descriptors: list[int] = []
    try:
        descriptors += os.pipe()
        descriptors += os.pipe()
        # No signal may fall between the fork and the task's own dispositions, where nobody would act on it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _become_task(order, gate=descriptors[0], outcome=descriptors[3])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError as error:
        for descriptor in descriptors:
            os.close(descriptor)
        raise StartError(
            f"No process could be made for task {order.task_id}: {error.strerror}", refused=False
        ) from error
    gate, release, outcome, report = descriptors
    os.close(gate)
    os.close(report)
    os.set_blocking(outcome, False)
    return Forked(pid, release, outcome)


def read_outcome(message: bytes) -> StartError | None:
    """Return why a task did not start, from all that its `Forked.outcome` gave; None if it runs."""
    if not message:
        return None
    return StartError(message[1:].decode(errors="replace"), refused=message[:1] == b"R")


def _become_task(order: Order, gate: int, outcome: int) -> None:
    """Become the task, in the new process; never return."""
    try:
        # First of all the launcher's lock and sockets: they must not outlive it in here.
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in (gate, outcome):
                try:
                    os.close(int(name))
                except OSError:
                    pass  # the listing's own
        if not os.read(gate, 1):
            os._exit(0)
        try:
            prepare(order)
            environment = {**order.environment, MARKER: order.task_id}
            _execute(order.command, environment)
        except StartError as error:
            kind = b"R" if error.refused else b"L"
            os.write(outcome, kind + str(error).encode(errors="replace")[:4000])
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os.write(outcome, b"LThe launcher failed in the new process; launcher.log says how.")
    finally:
        os._exit(127)


def _execute(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Replace this process by the command, looked up on the environment's own PATH."""
    program = command[0]
    try:
        os.execvpe(program, list(command), environment)  # noqa: S606 - no shell, on purpose
    except FileNotFoundError as error:
        if "/" in program and os.path.lexists(program):
            sentence = f"cannot run {program}: the interpreter or link that it names is not there"
        else:
            sentence = f"command not found: {program}"
        raise StartError(sentence) from error
    except OSError as error:
        raise StartError.from_os_error(f"cannot run {program}", error) from error

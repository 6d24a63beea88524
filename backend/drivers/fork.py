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
from collections.abc import Callable

from .order import Order, StartError
from .prepare import prepare
from .proctree import MARKER

TYPE_CHECKING = False  # as typing's, whose import would cost the launcher a megabyte
if TYPE_CHECKING:
    from typing import NoReturn, TypeVar

    Become = TypeVar("Become")


class Forked:
    """A new process that waits for its release.

    Attributes
    ----------
    pid
        Its process id, which is also that of the task's session.
    outcome
        Descriptor that ends when the task's program runs, or gives the reason why it does not
        (see `read_outcome`).
    template
        Kind of the template that it was forked from, or None.
    """

    __slots__ = ("_gate", "outcome", "pid", "template")

    def __init__(self, pid: int, gate: int, outcome: int, template: str | None = None) -> None:
        self.pid = pid
        self.outcome = outcome
        self.template = template
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
                gate, outcome = descriptors[0], descriptors[3]
                become_task(lambda: order if os.read(gate, 1) else None, execute, gate, outcome)
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
    _, reason = split_outcome(message)
    return StartError(reason[1:].decode(errors="replace"), refused=reason[:1] == b"R") if reason else None


def split_outcome(message: bytes) -> tuple[str, bytes]:
    """Return why a task was executed although a template was there, or nothing, and the rest."""
    if message[:1] != b"E":
        return "", message
    why, _, rest = message[1:].partition(b"\n")
    return why.decode(errors="replace"), rest


def become_task(
    receive: Callable[[], Order | None], run: Callable[[Order], Become], gate: int, outcome: int
) -> Become:
    """Become a task, in the new process.

    Parameters
    ----------
    receive
        Waits for the release and returns the order, or None to end without a trace.
    run
        Runs the command in the process that is made fit for it. What it returns, should
        it return, is returned.
    gate, outcome
        The two descriptors that lead back; they are closed when `run` has returned, or by exec.
    """
    try:
        # First of all the launcher's lock and sockets: they must not outlive it in here.
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in (gate, outcome):
                try:
                    os.close(int(name))
                except OSError:
                    pass  # the listing's own
        order = receive()
        if order is None:
            os._exit(0)
        try:
            prepare(order)
            result = run(order)
        except StartError as error:
            kind = b"R" if error.refused else b"L"
            os.write(outcome, kind + str(error).encode(errors="replace")[:4000])
            os._exit(127)
    except BaseException:
        try:
            sys.excepthook(*sys.exc_info())
            os.write(outcome, b"LThe launcher failed in the new process; launcher.log says how.")
        finally:
            os._exit(127)
    os.close(gate)
    os.close(outcome)
    return result


def execute(order: Order) -> NoReturn:
    """Replace this process by the command, looked up on the environment's own PATH.

    Raises
    ------
    StartError
        If that cannot be done.
    """
    program = order.command[0]
    environment = {**order.environment, MARKER: order.task_id}
    try:
        os.execvpe(program, list(order.command), environment)  # noqa: S606 - no shell, on purpose
    except FileNotFoundError as error:
        if "/" in program and os.path.lexists(program):
            sentence = f"cannot run {program}: the interpreter or link that it names is not there"
        else:
            sentence = f"command not found: {program}"
        raise StartError(sentence) from error
    except OSError as error:
        raise StartError.from_os_error(f"cannot run {program}", error) from error

"""A template: a quiet process that has imported what tasks need, and is forked into them.

Run by `templates` in the launcher, to which it is bound by one socket: it ends when
that does, and when the launcher does. It has no task's environment and is told no task's order. Each message
on the socket brings the two descriptors of one new task; the process that is forked tells its id through the
first, gets its order there once that has been journaled, and goes on as `fork.become_task` has it. It is a
child of the launcher's, as a task has to be, since the process between the two ends at once.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from ..fork import become_task, execute
from ..order import Bind, Order, StartError
from .child import become, run
from .imports import Stock, Unfit, check_quiet
from .visible import end_with_parent, show, show_own_files

_MOST_REASON = 500  # bytes


def main(arguments: list[str]) -> Callable[[], None]:
    """Be a template for as long as the launcher wants one; return, in a task's process, what to run.

    Parameters
    ----------
    arguments
        Kind of template, descriptor of the socket, the launcher's process id, and the layout of its
        orders, which must be ours.
    """
    kind, descriptor, launcher, layout = arguments
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    end_with_parent(signal.SIGKILL)
    connection = socket.socket(fileno=int(descriptor))
    connection.set_inheritable(False)
    if os.getppid() != int(launcher):
        os._exit(0)
    try:
        if layout != ",".join(Order.__slots__):
            raise Unfit("hubfleet is not the version of the launcher any more")
        stock = Stock(kind)
        show([f"hubfleet: template of {kind}s".encode()], [], f"hf-{kind}".encode())
        check_quiet(connection.fileno())
    except BaseException as error:
        if not isinstance(error, Unfit):
            sys.excepthook(*sys.exc_info())
        _tell(connection, unfit=str(error) or repr(error))
        os._exit(1)
    _tell(connection, ready=True)
    return _serve(connection, kind, stock)


def _serve(connection: socket.socket, kind: str, stock: Stock) -> Callable[[], None]:
    own = os.getpid()
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 16, 2)
        if not message:
            os._exit(0)
        if reason := stock.changed():
            _tell(connection, stale=reason)
            os._exit(0)
        gate, outcome = descriptors
        try:
            child = os.fork()
            if child == 0:
                middle = os.getpid()
                if os.fork() != 0:
                    os._exit(0)
                break
            os.waitpid(child, 0)
        except OSError:
            if os.getpid() != own:
                os._exit(1)
        # The launcher, which finds nobody at the other end, executes what could not be forked.
        os.close(gate)
        os.close(outcome)
    while os.getppid() == middle:
        time.sleep(0.0002)
    for descriptor in (gate, outcome):
        os.set_inheritable(descriptor, False)
    connection.detach()  # closed with all others
    receive = partial(_receive, gate)
    program = become_task(receive, partial(_become_or_execute, kind, stock, outcome), gate, outcome)
    if os.geteuid() != 0:
        # Only now that nothing leads back to the launcher: other processes of the account may look in.
        show_own_files()
    return partial(run, program, stock)


def _receive(gate: int) -> Order | None:
    """Tell who we are, and wait for the order; return None if nobody wants us any more."""
    try:
        with socket.socket(fileno=os.dup(gate)) as channel:
            channel.send(str(os.getpid()).encode())
            message, descriptors, _, _ = socket.recv_fds(channel, 16, 1)
    except (BrokenPipeError, ConnectionResetError):
        return None
    if not message:
        return None
    with open(descriptors[0], "rb") as file:
        file.seek(0)
        return unpack(file.read())


def _become_or_execute(kind: str, stock: Stock, outcome: int, order: Order) -> Callable[[], None]:
    try:
        return become(order, kind, stock)
    except Unfit as unfit:
        reason = " ".join(str(unfit).split())
        # The launcher may be gone, which must not end the task.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        with suppress(BrokenPipeError):
            os.write(outcome, b"E" + reason.encode(errors="replace")[:_MOST_REASON] + b"\n")
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        execute(order)
        raise StartError("the program was not executed") from unfit  # not reached


def unpack(content: bytes) -> Order:
    """Return the order that the launcher packed."""
    order = Order.__new__(Order)
    for name, value in json.loads(content).items():
        setattr(order, name, value)
    order.mounts = [Bind(**mount) for mount in order.mounts]  # type: ignore[arg-type]
    return order


def _tell(connection: socket.socket, **message: object) -> None:
    try:
        connection.send(json.dumps(message).encode())
    except OSError:
        os._exit(0)  # nobody wants to know any more

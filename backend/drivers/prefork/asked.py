"""One process that a template is asked for, as the launcher sees it: from the request to its release.

The template is sent two descriptors, and the process that it forks is at their other ends: the gate, through
which it tells its id and waits for its order, and the outcome, as for every process that becomes a task.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable

from ..fork import Forked
from ..order import Order

Arrived = Callable[["Forked | None"], None]
"""Told of the new process, which waits for its release, or that there is none."""


class Asked:
    """A process that a template was asked for.

    Attributes
    ----------
    descriptor
        It becomes readable when there is something to `take`.
    """

    __slots__ = ("_arrived", "_gate", "_kind", "_order", "_outcome", "descriptor")

    def __init__(self, kind: str, order: Order, gate: socket.socket, outcome: int, arrived: Arrived) -> None:
        self._kind = kind
        self._order = order
        self._gate = gate
        self._outcome = outcome
        self._arrived = arrived
        self.descriptor = gate.fileno()

    @classmethod
    def send(cls, template: socket.socket, kind: str, order: Order, arrived: Arrived) -> Asked:
        """Ask a template for a process; `arrived` is called once, by `settle`.

        Raises
        ------
        OSError
            If it cannot be asked.
        """
        gate, far_gate = socket.socketpair()
        try:
            outcome, far_outcome = os.pipe()
            try:
                socket.send_fds(template, [b"fork"], [far_gate.fileno(), far_outcome])
            except OSError:
                os.close(outcome)
                raise
            finally:
                os.close(far_outcome)
        except OSError:
            gate.close()
            raise
        finally:
            far_gate.close()
        gate.setblocking(False)
        return cls(kind, order, gate, outcome, arrived)

    def take(self) -> int | None:
        """Return the id that the new process tells, or None if there will be no process.

        Raises
        ------
        BlockingIOError
            If neither is known yet.
        """
        try:
            message = self._gate.recv(16)
        except BlockingIOError:
            raise
        except OSError:
            return None
        return int(message) if message.isdigit() else None

    def settle(self, pid: int | None) -> None:
        """Hand the process on, or tell that there is none, which also ends one that comes yet."""
        forked = None
        if pid is None:
            self._gate.close()
            os.close(self._outcome)
        else:
            os.set_blocking(self._outcome, False)
            self._gate.setblocking(True)
            forked = _Ordered(pid, self._gate.detach(), self._outcome, self._kind, self._order)
        self._arrived(forked)


class _Ordered(Forked):
    """A process forked from a template, which is told its order with its release."""

    __slots__ = ("_order",)

    def __init__(self, pid: int, gate: int, outcome: int, kind: str, order: Order) -> None:
        super().__init__(pid, gate, outcome, kind)
        self._order = order

    def release(self) -> None:
        """Let the process become the task; it is the first to hear of which.

        The order is read now and not before: its control groups are made for a process that is there.
        """
        with socket.socket(fileno=self._gate) as gate:
            try:
                memory = _write(self._order)
                try:
                    socket.send_fds(gate, [b"g"], [memory])
                finally:
                    os.close(memory)
            except (BrokenPipeError, ConnectionResetError):
                pass  # killed already; its end says so
            except OSError:
                # It would end as if it had done its work. Nobody has reaped it, so the id is its own.
                os.kill(self.pid, signal.SIGKILL)


def _write(order: Order) -> int:
    """Return a descriptor of an order, in memory, as `template.unpack` takes it."""
    memory = os.memfd_create("order", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(_pack(order))
    except OSError:
        os.close(memory)
        raise
    return memory


def _pack(order: Order) -> bytes:
    return json.dumps(
        {name: getattr(order, name) for name in Order.__slots__},
        default=lambda part: {name: getattr(part, name) for name in part.__slots__},
    ).encode()

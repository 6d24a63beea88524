"""Ports that tests have for themselves, whatever other tests of this machine run beside them.

A lock on a file stands for each port or range, and goes with the process that holds it.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import fcntl
import functools
import itertools
import os
import random
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

_PATIENCE_SECONDS = 240.0
_PORTS = itertools.cycle(random.sample(range(10000, 14000), 4000))
_LOCKS: collections.deque[IO[str]] = collections.deque(maxlen=100)
_HUB_LOCKS: collections.deque[IO[str]] = collections.deque(maxlen=10)


def free_port() -> int:
    """Return a port that nobody uses, and that no other tests are given before it is bound.

    It may take long until that, on a busy machine, and what finds a port taken then meets somebody else's
    backend. So a port is locked, and is none of those that the kernel gives to outgoing connections.
    """
    for port in itertools.islice(_PORTS, 4000):
        lock = (_lock_directory() / str(port)).open("w")
        with contextlib.suppress(OSError), socket.socket() as probe:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            probe.bind(("127.0.0.1", port))
            _LOCKS.append(lock)
            return port
        lock.close()
    raise OSError("all ports of the tests are in use")


@contextlib.contextmanager
def keeping(port: int) -> Iterator[None]:
    """Have the backend give the port of a task to no other one, as by chance it could when the task ends.

    At another address of this machine it can be held beside the task.
    """
    with socket.create_server(("127.0.0.2", port)):
        yield


def hub_ports() -> str:
    """Return a range of ports for a hub's tasks that no other tests' hub gives to its own.

    The spawner takes whatever answers at a server's port for the server, and a program that fails leaves the
    port to which it was assigned to others.
    """
    lock, (first, last) = _free_block(range(24500, 32500, 200), 200)
    _HUB_LOCKS.append(lock)
    return f"{first}-{last}"


@functools.cache
def backend_ports() -> tuple[int, int]:
    """Return the range of ports that this process's backends give to their tasks.

    Backends of two processes, between whose look and whose tasks' `bind` time passes, would share ports.
    """
    lock, found = _free_block(range(14000, 22401, 1400), 1400)
    atexit.register(lock.close)  # and so kept until then
    return found


def _free_block(firsts: Sequence[int], size: int) -> tuple[IO[str], tuple[int, int]]:
    """Return a block that nobody has, if need be when other tests of this machine have come to their end."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        for first in random.sample(firsts, len(firsts)):
            lock = (_lock_directory() / f"tasks-{first}").open("w")
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock, (first, first + size - 1)
            lock.close()
        if time.monotonic() > deadline:
            raise OSError("all ports for the tasks of tests are in use")
        time.sleep(0.1)


def _lock_directory() -> Path:
    directory = Path(tempfile.gettempdir()) / f"hubfleet-test-ports-{os.geteuid()}"
    directory.mkdir(exist_ok=True)
    return directory

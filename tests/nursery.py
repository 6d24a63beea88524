"""Backends that start in milliseconds, for hundreds of tests that start one each.

A process that has imported the backend forks it instead of starting a new Python each time. From there on
it is the real thing: the same command, its own process, session, environment and signals. What is read from
the environment at import it has read before: a test of that starts a `RunningBackend`. Only its clock can
be set: what the variable TEST_CLOCK_HOURS says is added to the time.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path

_PROGRAM = """
import json, os, signal, sys
from datetime import timedelta
import hubfleet.api.wire as wire
right = wire.now
wire.now = lambda: right() + timedelta(hours=float(os.environ.get("TEST_CLOCK_HOURS", "0")))
from hubfleet.api.cli import main
import hubfleet.backend.cli, hubfleet.backend.service, hubfleet.backend.drivers.process

def tell(*words):
    os.write(1, (json.dumps(words) + "\\n").encode())

def reap(*_):
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        tell(pid, os.waitstatus_to_exitcode(status))

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests
signal.signal(signal.SIGCHLD, reap)
for line in sys.stdin:
    order = json.loads(line)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])  # that no end is told before its begin
    pid = os.fork()
    if pid:
        tell(pid, None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
        continue
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
    os.setsid()
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    null = os.open(os.devnull, os.O_RDWR)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.close(log)
    os.close(null)
    os.environ.clear()
    os.environ.update(order["environment"])
    try:
        main(order["arguments"])
    except SystemExit as end:
        sys.stdout.flush()
        os._exit(end.code if isinstance(end.code, int) else 1)
    os._exit(0)
"""


class Forked:
    """A process that a nursery has forked; as much of a `subprocess.Popen` as its users need."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.ended = threading.Event()

    def poll(self) -> int | None:
        """Return how it ended, or None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int | None:
        """Return how it ended, once it has."""
        if not self.ended.wait(timeout):
            raise subprocess.TimeoutExpired(f"the forked process {self.pid}", timeout or 0)
        return self.returncode

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless it has ended, which may not have been told yet."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)


class Nursery:
    """Forks backends until the process that holds it ends."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._born: queue.SimpleQueue[Forked] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def fork(self, arguments: list[str], environment: dict[str, str], log: Path) -> Forked:
        """Start ``hubfleet`` with these arguments, and no other environment than this."""
        order = {"arguments": arguments, "environment": environment, "log": str(log)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return self._born.get(timeout=60)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        living: dict[int, Forked] = {}
        for line in self._process.stdout:
            pid, code = json.loads(line)
            if code is None:
                living[pid] = Forked(pid)
                self._born.put(living[pid])
            else:
                ended = living.pop(pid)
                ended.returncode = code
                ended.ended.set()


@functools.cache
def nursery() -> Nursery:
    """Return this process's nursery, which ends when nobody holds the other end of its pipe."""
    return Nursery()

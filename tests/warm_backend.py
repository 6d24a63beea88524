"""A backend that starts in milliseconds, for tests that start it hundreds of times.

A process that has imported the backend forks it instead of starting a new Python each time.
From there on it is the real thing: the same command, its own process, its own signals.
Only its clock can be set: what the variable TEST_CLOCK_HOURS says is added to the time.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from conftest import RunningBackend

from hubfleet.api.errors import BackendError

_NURSERY = """
import json, os, signal, sys
from datetime import timedelta
import hubfleet.api.wire as wire
right = wire.now
wire.now = lambda: right() + timedelta(hours=float(os.environ.get("TEST_CLOCK_HOURS", "0")))
from hubfleet.api.cli import main
import hubfleet.backend.cli, hubfleet.backend.service, hubfleet.backend.drivers.process
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        null = os.open(os.devnull, os.O_RDWR)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        os.environ.clear()
        os.environ.update(order["environment"])
        try:
            main(order["arguments"])
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        os._exit(0)
    print(pid, flush=True)
"""


class WarmBackend(RunningBackend):
    """A `RunningBackend` that is forked from a process which has imported it."""

    def __init__(self, state_dir: Path, ports: tuple[int, int], **options: str) -> None:
        super().__init__(state_dir, ports, **options)
        self.pid: int | None = None
        self._nursery = subprocess.Popen(
            [sys.executable, "-c", _NURSERY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self) -> None:
        """Start the backend without waiting for it."""
        order = {
            "arguments": self.command()[3:],  # without the interpreter
            "environment": self.whole_environment(),
            "log": str(self.log),
        }
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(json.dumps(order) + "\n")
        self._nursery.stdin.flush()
        self.pid = int(self._nursery.stdout.readline())

    async def start(self) -> None:
        self.begin()
        deadline = time.monotonic() + 30
        while True:
            try:
                return await self.client.ping()
            except BackendError:
                assert self._lives(), f"the backend ended:\n{self.log.read_text()[-4000:]}"
                assert time.monotonic() < deadline, f"it does not answer:\n{self.log.read_text()[-4000:]}"
                await asyncio.sleep(0.01)

    def _lives(self) -> bool:
        return self.pid is not None and os.path.exists(f"/proc/{self.pid}")

    async def _end(self, signum: signal.Signals) -> None:
        if self._lives():
            assert self.pid is not None
            os.kill(self.pid, signum)
            deadline = time.monotonic() + 20
            while self._lives():
                assert time.monotonic() < deadline, "the backend does not end"
                await asyncio.sleep(0.002)

    async def destroy(self) -> None:
        await super().destroy()
        self._nursery.kill()
        self._nursery.wait()

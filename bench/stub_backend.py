"""The backend as it is, but for its driver, which starts nothing: as many tasks as one likes cost no process.

What is measured with it is the hub. `StubBackend` runs this file as the backend's process. Its tasks have
addresses of `stub_servers`, which answers in their stead.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from hubfleet.api.cli import main
from hubfleet.backend import service
from hubfleet.backend.drivers import Offer, Output, TaskExit, TaskSpec, Template, Usage

# An address of this machine at which nobody else listens, and of this bench alone if several run at once.
HOST = os.environ.setdefault("BENCH_STUB_HOST", f"127.7.{os.getpid() >> 8 & 255}.{os.getpid() & 255}")
# Not those that other backends give: they look whether a port is free at any address of the machine.
FIRST, LAST = 50000, 58999


class StubDriver:
    """A driver whose tasks run as soon as they are started, and end as soon as they are signalled.

    As tasks outlive a backend, a file tells the next one which run.
    """

    def __init__(self, state_dir: Path, **settings: Any) -> None:
        self.running: set[str] = set()
        self.file = (state_dir / "stub-tasks").open("a+", buffering=1)
        self.file.seek(0)
        for line in self.file:
            (self.running.add if line[0] == "+" else self.running.discard)(line[1:].rstrip())
        self.ended: asyncio.Queue[TaskExit] = asyncio.Queue()
        self.pids = itertools.count(1 << 22)  # more than a process id can be

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def offers(self) -> Sequence[Offer]:
        return [Offer(HOST, 1e6, 1e9, 1e9, ports=(FIRST, LAST))]

    def cannot(self, app: Any) -> list[Any]:
        return []

    async def recover(self) -> Mapping[str, TaskExit | None]:
        return dict.fromkeys(self.running)

    async def free_ports(self, host: str, count: int, reserved: frozenset[int]) -> list[int]:
        free = (port for port in range(FIRST, LAST + 1) if port not in reserved)
        return list(itertools.islice(free, count))

    async def taken_ports(self, host: str, ports: Sequence[int]) -> set[int]:
        return set()

    async def start(self, spec: TaskSpec) -> int:
        self.running.add(spec.task_id)
        self.file.write(f"+{spec.task_id}\n")
        return next(self.pids)

    async def signal(self, task_id: str, signum: int) -> None:
        if task_id in self.running:
            self.running.discard(task_id)
            self.file.write(f"-{task_id}\n")
            self.ended.put_nowait(TaskExit(task_id, None, signum))

    async def forget(self, task_id: str) -> None: ...

    async def read_output(self, task_id: str, name: str, offset: int, length: int) -> Output | None:
        return None

    async def discard(self, task_id: str) -> None: ...

    async def kept(self) -> Set[str]:
        return set()

    async def stats(self) -> Mapping[str, Usage]:
        return {}

    async def templates(self) -> Sequence[Template]:
        return []

    async def execute(self, spec: TaskSpec, command: Sequence[str], seconds: float) -> int | None:
        return 0

    async def exits(self) -> AsyncIterator[TaskExit]:
        while True:
            yield await self.ended.get()


def stub_servers() -> subprocess.Popen[str]:
    """Return a process that answers at all addresses of stub tasks; kill it in the end."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("stub_servers.py")), HOST, str(FIRST), str(LAST)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline(), "the stub servers do not listen"
    return process


class Delay:
    """A TCP proxy that passes on what a backend answers so many seconds later, in order."""

    def __init__(self, port: int, seconds: float) -> None:
        self.to, self.seconds = port, seconds
        self.tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Listen; return the address."""
        self.server = await asyncio.start_server(self._connect, "127.0.0.1", 0, backlog=1024)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Listen no longer, and hang up."""
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind = await asyncio.open_connection("127.0.0.1", self.to)
        for source, target, delay in ((reader, behind[1], 0.0), (behind[0], writer, self.seconds)):
            task = asyncio.create_task(self._pass_on(source, target, delay))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, delay: float
    ) -> None:
        clock = asyncio.get_running_loop().time
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                due, chunk = await waiting.get()
                await asyncio.sleep(max(0.0, due - clock()))
                if not chunk:
                    target.close()
                    return
                target.write(chunk)

        sender = asyncio.create_task(send())
        try:
            while chunk := await source.read(1 << 16):
                waiting.put_nowait((clock() + delay, chunk))
            waiting.put_nowait((clock() + delay, b""))
            await sender
        except ConnectionError:
            target.close()
        finally:
            sender.cancel()


if __name__ == "__main__":
    service.ProcessDriver = StubDriver  # type: ignore[assignment,misc]
    sys.exit(main(sys.argv[1:]))

"""Processes that hold a cluster manager each and obey, and the services that these need."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from family import Family, Known, spent
from ports import free_port

HERE = Path(__file__).parent
ANSWER_SECONDS = 200
AT_REST, AT_REST_OF_ONE = 0.2, 0.03  # processor seconds a second, of all and of each process
_GATEWAY = """
c.DaskGateway.backend_class = "dask_gateway_server.backends.local.UnsafeLocalBackend"
c.DaskGateway.authenticator_class = "dask_gateway_server.auth.SimpleAuthenticator"
c.DaskGateway.address = "127.0.0.1:{server}"
c.Proxy.address = "127.0.0.1:{proxy}"
c.Proxy.tcp_address = "127.0.0.1:{tcp}"
c.ClusterConfig.worker_memory = "400 M"
c.LocalBackend.clusters_directory = "{folder}"
"""
_COMMANDS = f"""
c.ClusterConfig.scheduler_cmd = [{sys.executable!r}, "-m", "distributed.cli.dask_scheduler"]
c.ClusterConfig.worker_cmd = [{sys.executable!r}, "-m", "distributed.cli.dask_worker"]
"""


class Refused(Exception):
    """A cluster manager did not do what it was told; the message is its error."""


class Driven:
    """A process that holds a cluster manager, which is started when it is needed first.

    Parameters
    ----------
    settings
        For `clusters.MAKERS`: which it is, and what it needs.
    services
        That work for it.

    Attributes
    ----------
    why
        What tells why something failed, where its own error does not.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *services: Family) -> None:
        self.folder, self.settings = folder, dict(settings)
        self._own = Family.new()
        self.family = self._own.and_(*services)
        self.process: asyncio.subprocess.Process | None = None
        self.why: Callable[[], str] = str

    async def do(self, what: str, **arguments: Any) -> dict[str, Any]:
        """Let it do something.

        Raises
        ------
        Refused
            It did not. If it said nothing it was ended, and the next order starts another.
        """
        process = self.process or await self._start()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._tell(process, {"do": what, **arguments})
                answer = await self._answer(process)
        except BaseException as error:
            self.end()
            if isinstance(error, TimeoutError):
                raise Refused(f"{what}: no answer in {ANSWER_SECONDS} s") from None
            raise
        if "error" in answer:
            raise Refused(f"{what}: {answer['error']}")
        return answer

    async def _start(self) -> asyncio.subprocess.Process:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, str(HERE / "cluster_driver.py")),
                env=self._own.environment(with_programs()),
                cwd=self.folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        self.process = process
        await self._tell(process, {**self.settings, "folder": str(self.folder)})
        return process

    async def _tell(self, process: asyncio.subprocess.Process, what: Mapping[str, Any]) -> None:
        assert process.stdin is not None
        process.stdin.write((json.dumps(what) + "\n").encode())
        await process.stdin.drain()

    async def _answer(self, process: asyncio.subprocess.Process) -> dict[str, Any]:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise Refused(f"its process ended: {last_line(self.folder / 'log')}")
        found: dict[str, Any] = json.loads(line)
        return found

    @asynccontextmanager
    async def cluster(self, encrypted: bool) -> AsyncIterator[None]:
        """Have a cluster; whatever goes wrong, nothing of it is left."""
        try:
            await self.do("open", encrypted=encrypted)
            yield
            await self.do("close")
        except BaseException as error:
            self.end()
            if isinstance(error, Refused) and (why := self.why()):
                raise Refused(f"{error} ({why})") from None
            raise

    async def at_rest(self, seconds: float = 3) -> dict[Known, float]:
        """Return what its processes have used when they use next to nothing any more, or after so long.

        Each worker that has nothing to do still uses something: it tells the scheduler that it lives.
        """
        begun, used = time.monotonic(), self.family.cpu()
        looked = begun
        while time.monotonic() < begun + seconds:
            await asyncio.sleep(0.1)
            before, used, past, looked = used, self.family.cpu(), looked, time.monotonic()
            if spent(before, used) < (looked - past) * (AT_REST + AT_REST_OF_ONE * len(used)):
                break
        return used

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid if self.process is not None else 0

    def end(self) -> None:
        """Kill it, and what it has started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process = None
        self._own.end()


class Gateway:
    """A dask-gateway-server with its local backend, which starts all as its own user.

    Parameters
    ----------
    repaired
        Whether it is told the commands by which distributed starts a scheduler and a worker today. Those that
        it takes by itself went out of distributed with 2026.6.
    """

    def __init__(self, folder: Path, repaired: bool) -> None:
        self.folder, self.repaired = folder, repaired
        self.family = Family(str(folder))
        server, proxy, tcp = free_port(), free_port(), free_port()
        self.address = f"http://127.0.0.1:{proxy}"
        self.settings = {"address": self.address, "proxy_address": f"gateway://127.0.0.1:{tcp}"}
        folder.mkdir(parents=True)
        text = _GATEWAY.format(server=server, proxy=proxy, tcp=tcp, folder=folder / "clusters")
        (folder / "config.py").write_text(text + (_COMMANDS if repaired else ""))
        self._listens = (server, proxy, tcp)

    async def start(self) -> None:
        """Start it; return when it answers."""
        with (self.folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                str(Path(sys.executable).with_name("dask-gateway-server")),
                *("--config", str(self.folder / "config.py")),
                env=self.family.environment(with_programs()),
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(60):
            for port in self._listens:
                while not listens(port):
                    if process.returncode is not None:
                        raise Refused(f"dask-gateway-server ended: {last_line(self.folder / 'log')}")
                    await asyncio.sleep(0.05)

    def why(self) -> str:
        """Return the last error of its log, for what it answers tells nothing."""
        return last_line(self.folder / "log", "Error: ")

    async def destroy(self) -> None:
        """End it, and its clusters."""
        self.family.end()
        shutil.rmtree(self.folder / "clusters", ignore_errors=True)


def with_programs() -> dict[str, str]:
    """Return our environment, in which this Python's programs come first."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"}


def listens(port: int) -> bool:
    """Whether somebody listens at a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def last_line(path: Path, holding: str = "") -> str:
    """Return the last line of a log that holds such a text."""
    lines = (line.strip() for line in path.read_text(errors="replace").splitlines())
    found = [line for line in lines if line and holding in line]
    return found[-1] if found else "its log says nothing"

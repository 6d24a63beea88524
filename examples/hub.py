"""A hub of one's own, as `jupyterhub_config.py` makes it: started, waited for, stopped."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CONFIGURATION = Path(__file__).resolve().parent.parent / "jupyterhub_config.py"
START_SECONDS, STOP_SECONDS = 120.0, 90.0
BACKEND_SECONDS = 45.0  # the hub looks after its services every 30 s
LEAST_DISK_BYTES = 50_000_000  # databases, logs and a few notebooks


class HubFailed(Exception):
    """The hub did not start; the message says why, as far as it is known."""


@dataclass(frozen=True)
class Ports:
    """The ports of a hub and its parts."""

    public: int = 8000
    hub: int = 8081
    proxy_api: int = 8001
    backend: int = 8090
    tasks: str = "31000-32000"

    @classmethod
    def free(cls) -> Ports:
        """Return ports that nobody uses now, and that the kernel gives to no outgoing connection."""
        chance = secrets.SystemRandom()
        found: list[int] = []
        for port in chance.sample(range(10000, 24500), 1000):
            with contextlib.suppress(OSError), socket.socket() as probe:
                probe.bind(("127.0.0.1", port))
                found.append(port)
            if len(found) == 4:
                break
        first = chance.randrange(24500, 32500, 200)
        return cls(*found, tasks=f"{first}-{first + 199}")

    def require_free(self) -> None:
        """Refuse ports that are taken, before anything is started.

        Raises
        ------
        HubFailed
            Naming the port, and what to do.
        """
        for what, port in vars(self).items():
            if what == "tasks":
                continue
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise HubFailed(
                        f"port {port} ({what.replace('_', ' ')}) cannot be had: {error.strerror}; stop what "
                        f"uses it, or choose another: {VARIABLES[what]}={port + 1000} make demo"
                    ) from error


VARIABLES = {
    "public": "HUBFLEET_PORT",
    "hub": "HUBFLEET_PORT_HUB",
    "proxy_api": "HUBFLEET_PORT_PROXY_API",
    "backend": "HUBFLEET_PORT_BACKEND",
}


@dataclass
class Hub:
    """One running hub.

    Parameters
    ----------
    state
        Where it keeps everything.
    environment
        Variables beside those that `jupyterhub_config.py` reads.
    arguments
        Further arguments of ``jupyterhub``.
    """

    state: Path
    ports: Ports = field(default_factory=Ports)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    environment: Mapping[str, str] = field(default_factory=dict)
    configuration: Path = CONFIGURATION
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where people go."""
        return f"http://127.0.0.1:{self.ports.public}"

    @property
    def backend_url(self) -> str:
        """Where the backend's Marathon API is."""
        return f"http://127.0.0.1:{self.ports.backend}"

    @property
    def backend_token(self) -> str:
        """The administrator's token of the backend."""
        return (self.state / "backend_token").read_text().strip()

    @property
    def log(self) -> Path:
        """What the hub, the proxy and the backend write."""
        return self.state / "hub.log"

    def start(self) -> None:
        """Start, and return when the login page answers.

        Raises
        ------
        HubFailed
            It does not.
        """
        self.ports.require_free()
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        free = shutil.disk_usage(self.state).free
        if free < LEAST_DISK_BYTES:
            raise HubFailed(
                f"the disk of {self.state} is full: {free / 1e6:.0f} MB are free, "
                f"{LEAST_DISK_BYTES / 1e6:.0f} MB are needed; make room, or name another HUBFLEET_STATE"
            )
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(self.configuration), *self.arguments],
                cwd=self.state,
                env={
                    **os.environ,
                    "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
                    "HUBFLEET_STATE": str(self.state),
                    "HUBFLEET_URL_PUBLIC": self.url,
                    "HUBFLEET_PORT_HUB": str(self.ports.hub),
                    "HUBFLEET_PORT_PROXY_API": str(self.ports.proxy_api),
                    "HUBFLEET_PORT_BACKEND": str(self.ports.backend),
                    "HUBFLEET_TASK_PORTS": self.ports.tasks,
                    "HUBFLEET_PASSWORD": self.password,
                    **self.environment,
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us, who then stop it in order
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None:
                raise HubFailed(
                    f"the hub ended while it started. The end of {self.log}:\n{self.last_lines()}"
                )
            if time.monotonic() > deadline:
                self.stop()
                raise HubFailed(
                    f"the hub does not answer after {START_SECONDS:.0f} s. The end of {self.log}:\n"
                    + self.last_lines()
                )
            time.sleep(0.05)

    def _answers(self) -> bool:
        # The backend first: a login that comes before it would find no place to start a server.
        for url in (f"{self.backend_url}/ping", f"{self.url}/hub/login"):
            try:
                with urllib.request.urlopen(url, timeout=5) as response:
                    if response.status != 200:
                        return False
            except OSError:
                return False
        return True

    def stop(self) -> None:
        """Stop the hub and with it its users' servers; return when they are gone.

        Servers whose backend has gone are not: nobody can end them, and the next hub of this state
        finds them. See `wait_for_backend`.
        """
        if self.process is None or self.process.poll() is not None:
            return
        had_backend = self.backend_answers()
        # Not SIGINT, which a hub that was started in a shell's background may be deaf to while it starts.
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if had_backend:
            self._wait_for_end_of_backend()

    def backend_answers(self) -> bool:
        """Whether there is a backend now."""
        try:
            urllib.request.urlopen(f"{self.backend_url}/ping", timeout=2).close()
        except OSError:
            return False
        return True

    def wait_for_backend(self) -> bool:
        """Wait until the hub has replaced a backend that was killed; return whether there is one."""
        assert self.process is not None
        deadline = time.monotonic() + BACKEND_SECONDS
        while not (answers := self.backend_answers()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        return answers

    def _wait_for_end_of_backend(self) -> None:
        """The backend ends a moment after the hub, and the launcher after it."""
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if not self.backend_answers() and not (self.state / "backend" / "launcher.sock").exists():
                return
            time.sleep(0.05)

    def last_lines(self, count: int = 15) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

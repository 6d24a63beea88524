"""Home for tests: real processes that are spoken to over their real socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hubfleet.backend.drivers.proctree import read_process

DEADLINE = 60.0
PATH = "/usr/local/bin:/usr/bin:/bin"
DAEMON = "setsid sh -c 'sh -c \"echo \\$\\$ > pid; exec sleep 60\" & exit 0'"
"""A command that leaves a process behind, in a session of its own."""

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run tasks as another account")


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.005)
    raise AssertionError(f"not within {DEADLINE} s: {what}")


def lives(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and not process.dead


def is_gone(pid: int) -> bool:
    return not lives(pid)


def kill_all_below(path: Path) -> None:
    """Kill what works below a directory, or has been started for it, whatever it has done to its ancestry."""
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid() or not lives(int(entry.name)):
                continue
            try:
                here = (entry / "cwd").readlink().is_relative_to(path)
                if here or os.fsencode(path) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.005)


class Connection:
    """A client of the launcher that waits for its replies and keeps the exits it is told of."""

    def __init__(self, state_dir: Path) -> None:
        directory = os.open(state_dir, os.O_RDONLY)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        try:
            self.socket.connect(f"/proc/self/fd/{directory}/launcher.sock")
        finally:
            os.close(directory)
        self.lines = self.socket.makefile("rb")
        self.exits: dict[str, tuple[int | None, int | None]] = {}

    def close(self) -> None:
        self.lines.close()
        self.socket.close()

    def send(self, verb: str, **fields: Any) -> str:
        request_id = uuid.uuid4().hex
        self.socket.sendall(json.dumps({"id": request_id, "verb": verb, **fields}).encode() + b"\n")
        return request_id

    def receive(self) -> dict[str, Any]:
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the launcher closed the connection")
        message: dict[str, Any] = json.loads(line)
        if "exit" in message:
            exit_ = message["exit"]
            self.exits[exit_["task_id"]] = (exit_["exit_code"], exit_["signal"])
        return message

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        request_id = self.send(verb, **fields)
        while True:
            message = self.receive()
            if message.get("id") == request_id and "exit" not in message:
                return message

    def exit_of(self, task_id: str) -> tuple[int | None, int | None]:
        while task_id not in self.exits:
            self.receive()
        return self.exits[task_id]

    def tasks(self) -> dict[str, dict[str, Any]]:
        return {task["task_id"]: task for task in self.ask("list")["ok"]["tasks"]}


class Home:
    """A state directory, its launchers, and the tasks of one test."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.name = uuid.uuid4().hex[:8]
        self.connections: list[Connection] = []

    def launch(self, command: list[str] | None = None, **settings: Any) -> Connection:
        """Start a launcher, as a person would, and connect to it."""
        command = command or [sys.executable, "-m", "hubfleet.backend.drivers.launcher", str(self.state_dir)]
        deadline = time.monotonic() + DEADLINE
        while True:
            subprocess.run(command, check=True, timeout=DEADLINE, **settings)
            if connection := self.connected():
                return connection
            # It leaves after a second without a client, which a busy machine may let pass.
            assert time.monotonic() < deadline

    def connect(self) -> Connection:
        self.connections.append(Connection(self.state_dir))
        return self.connections[-1]

    def connected(self) -> Connection | None:
        """Return a connection, if there is a launcher now that takes it, and does not just leave."""
        try:
            connection = self.connect()
            connection.ask("hello")
        except OSError:
            return None
        return connection

    def id_of(self, name: str) -> str:
        return f"{name}.{self.name}"

    def sandbox(self, name: str) -> Path:
        return self.state_dir / "sandboxes" / self.id_of(name)

    def order(self, name: str, command: list[str] | str, **changes: Any) -> dict[str, Any]:
        """Return the fields of a start; a command that is a text is the shell's."""
        return {
            "task_id": self.id_of(name),
            "command": ["sh", "-c", command] if isinstance(command, str) else command,
            "environment": {"PATH": PATH},
            "sandbox": str(self.sandbox(name)),
            "user": None,
            **changes,
        }

    def read(self, name: str, file: str = "stdout") -> str:
        try:
            return (self.sandbox(name) / file).read_text()
        except FileNotFoundError:
            return ""

    def pid_from(self, name: str, file: str = "pid") -> int:
        """Wait until a task has written a process id to a file of its sandbox."""
        return int(wait_until(lambda: self.read(name, file).endswith("\n") and self.read(name, file), file))

    def kill_launcher(self, connection: Connection) -> None:
        pid = connection.ask("hello")["ok"]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not lives(pid), "the launcher dies")

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        kill_all_below(self.state_dir)

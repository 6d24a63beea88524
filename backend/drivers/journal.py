"""What the launcher must not forget: an append-only file with one JSON line per event.

A line is written before anybody is told of what it says. It outlives the launcher, not the machine:
lines are not synced one by one, because after a reboot no task is left to be found.
Neither commands nor environments are in it, since they hold secrets.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable

NAME = "launcher.journal"
_NEW_NAME = "launcher.journal.new"


class Record:
    """One task as the journal knows it.

    Attributes
    ----------
    pid, started, boot
        Process id of the task's leader, its start time in clock ticks since boot, and which boot.
    ended, exit_code, signal
        Whether it has ended, and how; both None if nobody could see how.
    mem
        MiB that it may use; 0 for no limit.
    excess
        How much more it used, if it ended for that.
    """

    __slots__ = (
        "boot",
        "ended",
        "excess",
        "exit_code",
        "mem",
        "pid",
        "sandbox",
        "signal",
        "started",
        "task_id",
    )

    def __init__(self, task_id: str, pid: int, started: int, boot: str, sandbox: str, mem: float = 0) -> None:
        self.task_id = task_id
        self.pid = pid
        self.started = started
        self.boot = boot
        self.sandbox = sandbox
        self.mem = mem
        self.excess: str | None = None
        self.ended = False
        self.exit_code: int | None = None
        self.signal: int | None = None

    def lines(self) -> list[dict[str, object]]:
        """Return the events that tell of this task."""
        start: dict[str, object] = {
            "event": "start",
            "task_id": self.task_id,
            "pid": self.pid,
            "started": self.started,
            "boot": self.boot,
            "sandbox": self.sandbox,
            "mem": self.mem,
        }
        exit_: dict[str, object] = {
            "event": "exit",
            "task_id": self.task_id,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "excess": self.excess,
        }
        return [start, exit_] if self.ended else [start]


class Journal:
    """The journal of one state directory.

    Parameters
    ----------
    directory
        Descriptor of the state directory; kept by the caller.
    log
        Called with a sentence about anything a person should know.
    """

    def __init__(self, directory: int, log: Callable[[str], None]) -> None:
        self._directory = directory
        self._log = log
        self._file = -1
        self._backlog: list[bytes] = []
        self.lines = 0

    @property
    def behind(self) -> bool:
        """Whether lines wait to be written because the disk did not take them."""
        return bool(self._backlog)

    def load(self) -> dict[str, Record]:
        """Return every task that has not been forgotten. A line torn by a crash is dropped."""
        try:
            with open(NAME, "rb", opener=self._open_here) as file:
                content = file.read()
        except FileNotFoundError:
            return {}
        records: dict[str, Record] = {}
        *whole, torn = content.split(b"\n")
        if torn:
            self._log(f"The journal's last line was torn by a crash and is dropped ({len(torn)} bytes).")
        for number, line in enumerate(whole, 1):
            try:
                _apply(records, json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                self._log(f"Line {number} of the journal makes no sense and is dropped: {error!r}")
        return records

    def rewrite(self, records: Iterable[Record]) -> None:
        """Replace the journal by one that holds these tasks and nothing else."""
        lines = [_encode(line) for record in records for line in record.lines()]
        with open(_NEW_NAME, "wb", opener=self._open_new) as file:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        os.rename(_NEW_NAME, NAME, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        if self._file >= 0:
            os.close(self._file)
        self._file = os.open(NAME, os.O_WRONLY | os.O_APPEND, dir_fd=self._directory)
        self._backlog.clear()
        self.lines = len(lines)

    def append(self, line: dict[str, object]) -> None:
        """Write one event.

        Raises
        ------
        OSError
            If it could not be written. Nothing of it is left behind then.
        """
        self.catch_up()
        self._write(_encode(line))

    def append_or_keep(self, line: dict[str, object]) -> None:
        """Write one event that has happened anyhow; what the disk does not take is tried again later."""
        self._backlog.append(_encode(line))
        try:
            self.catch_up()
        except OSError as error:
            self._log(f"The journal cannot be written and is kept in memory: {error}")

    def catch_up(self) -> None:
        """Write what could not be written before; raises OSError if it still cannot."""
        while self._backlog:
            self._write(self._backlog[0])
            del self._backlog[0]

    def _write(self, line: bytes) -> None:
        size = os.fstat(self._file).st_size
        written = os.write(self._file, line)
        if written < len(line):
            # The disk filled up in mid-line: what follows must not be glued to the stump.
            os.ftruncate(self._file, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.lines += 1

    def _open_here(self, name: str, flags: int) -> int:
        return os.open(name, flags, 0o600, dir_fd=self._directory)

    def _open_new(self, name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o600, dir_fd=self._directory)


def _encode(line: dict[str, object]) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _apply(records: dict[str, Record], line: dict[str, object]) -> None:
    """Let one event happen to what is known so far."""
    event, task_id = line["event"], line["task_id"]
    if not isinstance(task_id, str):
        raise TypeError(f"the task id is {task_id!r}")
    if event == "start":
        pid, started, boot, sandbox = line["pid"], line["started"], line["boot"], line["sandbox"]
        if not (isinstance(pid, int) and isinstance(started, int)):
            raise TypeError(f"the process is {pid!r}, started at {started!r}")
        mem = line.get("mem", 0)  # older launchers wrote none
        if not isinstance(mem, (int, float)):
            raise TypeError(f"the memory is {mem!r}")
        records[task_id] = Record(task_id, pid, started, str(boot), str(sandbox), mem)
    elif event == "exit":
        record = records[task_id]
        exit_code, signum = line["exit_code"], line["signal"]
        record.ended = True
        record.exit_code = exit_code if isinstance(exit_code, int) else None
        record.signal = signum if isinstance(signum, int) else None
        excess = line.get("excess")
        record.excess = excess if isinstance(excess, str) else None
    elif event == "forget":
        records.pop(task_id, None)
    else:
        raise ValueError(f"the event is {event!r}")

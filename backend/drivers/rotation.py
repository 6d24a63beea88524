"""Keeps what tasks write to stdout and stderr from filling the disk, for as long as the launcher lives.

The head of a file that has become too long is freed, and its end stays. Where the file system can free the
inside of a file (ext4, xfs, btrfs, tmpfs) nothing is copied, nothing that the task writes meanwhile is lost,
and offsets into the file keep their meaning: what is freed reads as nothing (a hole). Elsewhere the end is
copied to the front, and what is written in those milliseconds is lost.

The files are their task's: it may have put a link or something else in their place, which is then left alone.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable, Iterable

from .journal import Record

NAMES = ("stdout", "stderr")

KEPT_BYTES = 10 << 20
"""How much stays of one file when its head is freed; twice as much is the most there may be."""

_LONGEST_FILE = 1 << 40
"""Where even a file that is a hole for the most part begins anew: ext4 knows none beyond 16 TiB."""

_FIRST_SECONDS, _SHORTEST_SECONDS, _LONGEST_SECONDS = 0.5, 0.05, 3.0
_BLOCK = 4096
_KEEP_SIZE, _PUNCH_HOLE = 1, 2

_fallocate = ctypes.CDLL(None, use_errno=True).fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


class _Watch:
    """When to look at the output of a task again, and what was seen at the last time."""

    __slots__ = ("at", "due", "sizes")

    def __init__(self, now: float) -> None:
        self.at = now
        self.due = now + _FIRST_SECONDS
        self.sizes = [0] * len(NAMES)


class Rotation:
    """Looks at the output of the running tasks, the more often the faster it grows.

    Parameters
    ----------
    log
        Called with a sentence about anything a person should know.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._watches: dict[str, _Watch] = {}
        self._due = 0.0
        self.kept_bytes = KEPT_BYTES

    def tick(self, now: float, running: Callable[[], Iterable[Record]]) -> float | None:
        """Shorten what is too long; return when to be called again, on the clock of `now`, or None."""
        if now < self._due:
            return self._due
        watches: dict[str, _Watch] = {}
        for record in running():
            watch = watches[record.task_id] = self._watches.get(record.task_id) or _Watch(now)
            if watch.due <= now:
                self._look(record, watch, now)
        self._watches = watches
        if not watches:
            self._due = 0.0
            return None
        # A task that starts meanwhile is not told of, so a look is due soon in any case.
        self._due = min(now + _FIRST_SECONDS * 2, *(watch.due for watch in watches.values()))
        return self._due

    def _look(self, record: Record, watch: _Watch, now: float) -> None:
        """Shorten the output of a task where need be, and reckon when it could be too long again."""
        wait = _LONGEST_SECONDS
        for index, name in enumerate(NAMES):
            try:
                status = os.stat(f"{record.sandbox}/{name}", follow_symlinks=False)
            except OSError:
                continue
            used = min(status.st_size, status.st_blocks * 512)
            if used > 2 * self.kept_bytes or status.st_size > _LONGEST_FILE:
                try:
                    used = shorten(record.sandbox, name, self.kept_bytes)
                except OSError as error:
                    self._log(f"The {name} of task {record.task_id} cannot be shortened: {error}")
            grown = status.st_size - watch.sizes[index]
            watch.sizes[index] = status.st_size
            if grown > 0 and now > watch.at:
                # At twice the speed seen, since a task that began in mid-interval writes faster than that.
                room = max(0, 2 * self.kept_bytes - used)
                wait = min(wait, room * (now - watch.at) / (2 * grown))
        watch.at = now
        watch.due = now + max(wait, _SHORTEST_SECONDS)


def shorten(sandbox: str, name: str, kept_bytes: int) -> int:
    """Free the head of a task's output if it is longer than twice what is kept.

    Returns
    -------
    int
        How many bytes there are now.

    Raises
    ------
    OSError
        If it cannot be done. A file that is no plain output of the task is left alone without a word.
    """
    directory = os.open(sandbox, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        owner = os.fstat(directory).st_uid
        file = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        status = os.fstat(file)
        # A second name, or another owner: a hard link to what may be anybody's.
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid != owner:
            return 0
        begin = first_byte(file, status.st_size)
        if status.st_size > _LONGEST_FILE or (
            status.st_size - begin > 2 * kept_bytes
            and not _free_head(file, (status.st_size - kept_bytes) // _BLOCK * _BLOCK)
        ):
            move_end_to_front(file, kept_bytes)
        size = os.fstat(file).st_size
        return size - first_byte(file, size)
    finally:
        os.close(file)


def first_byte(file: int, size: int) -> int:
    """Return where the content of a file begins that may begin with a hole."""
    try:
        return os.lseek(file, 0, os.SEEK_DATA) if size else 0
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size
        return 0


def _free_head(file: int, length: int) -> bool:
    """Make a hole of the first bytes; return False if the file system cannot."""
    if _fallocate(file, _PUNCH_HOLE | _KEEP_SIZE, 0, length) == 0:
        return True
    error = ctypes.get_errno()
    if error in (errno.EOPNOTSUPP, errno.ENOSYS):
        return False
    raise OSError(error, os.strerror(error))


def move_end_to_front(file: int, kept_bytes: int) -> None:
    """Copy the end of a file to its front and cut off the rest; a writer that appends goes on behind it."""
    size = os.fstat(file).st_size
    begin, place = max(0, size - kept_bytes), 0
    while begin < size and (chunk := os.pread(file, min(1 << 20, size - begin), begin)):
        place += os.pwrite(file, chunk, place)
        begin += len(chunk)
    os.ftruncate(file, place)

"""Removes what ended tasks have left, of which they may have made as much, and as deep, as they pleased.

Directories that lie in others are moved up before their turn comes. So neither the stack nor the open
descriptors grow with the depth, nor the memory with the number of files; and no link is followed.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import uuid
from collections.abc import Callable
from itertools import count

MOST_SECONDS = 60.0
"""For one try, since it holds a thread; the next one goes on where it has come to."""

Kept = Callable[["os.DirEntry[str]"], bool]
"""Whether an entry stays."""


def remove(name: str, parent: int) -> None:
    """Remove an entry of a directory, if it is there, with all that is below it.

    Raises
    ------
    OSError
        Something cannot be removed, or it is too much for one try.
    """
    if _unlinked(name, parent):
        return
    directory = _open(name, parent)
    try:
        empty(directory)
    finally:
        os.close(directory)
    os.rmdir(name, dir_fd=parent)


def empty(directory: int, kept: Kept = lambda entry: False) -> None:
    """Remove what is in a directory, but for the entries of its own that are kept.

    Raises
    ------
    OSError
        As `remove`.
    """
    _Emptying(directory, kept).run()


class _Emptying:
    def __init__(self, directory: int, kept: Kept) -> None:
        self._directory = directory
        self._kept = kept
        self._ends = time.monotonic() + MOST_SECONDS
        self._prefix, self._numbers = uuid.uuid4().hex, count()

    def run(self) -> None:
        self._clear(self._directory, self._kept, self._dissolve)

    def _clear(self, directory: int, kept: Kept, others: Callable[[str], None]) -> None:
        """Unlink all but directories, which are left to `others`, until there is nothing more."""
        found = True
        while found:  # what comes and goes while a directory is read may be passed over
            found = False
            with os.scandir(directory) as entries:
                for entry in entries:
                    if kept(entry):
                        continue
                    if time.monotonic() > self._ends:
                        raise OSError(errno.ETIMEDOUT, f"there is more than goes in {MOST_SECONDS:g} s")
                    found = True
                    if not _unlinked(entry.name, directory):
                        others(entry.name)

    def _dissolve(self, name: str) -> None:
        """Remove a directory; those in it become its neighbours."""
        inner = _open(name, self._directory)

        def move_up(below: str) -> None:
            neighbour = f"{self._prefix}-{next(self._numbers)}"
            os.rename(below, neighbour, src_dir_fd=inner, dst_dir_fd=self._directory)

        try:
            self._clear(inner, lambda entry: False, move_up)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=self._directory)


def _unlinked(name: str, parent: int) -> bool:
    """Remove an entry unless it is a directory; then see to it that it can be entered and moved."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        if os.geteuid() != 0:  # root has no need of it, and should it be a link by now, it leads nowhere new
            os.chmod(name, stat.S_IRWXU, dir_fd=parent)
        return False
    return True


def _open(name: str, parent: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)

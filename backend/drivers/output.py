"""The sandboxes of a state directory as the backend sees them: output is read, everything else removed.

A sandbox belongs to its task, which may have laid links in it that point anywhere. So nothing here follows
one: everything is reached through descriptors of the directories above it, whose own owner is the backend.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .base import Output
from .removal import empty, remove
from .rotation import NAMES, first_byte


class Sandboxes:
    """The directory that holds a sandbox for each task, by the task's id. All calls block.

    Parameters
    ----------
    path
        It can be written by nobody but the backend's account.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, task_id: str, name: str, offset: int, length: int) -> Output | None:
        """Return a part of a task's ``stdout`` or ``stderr``, or None if there is no such output.

        Parameters
        ----------
        offset
            From the start; if negative, from the end.
        length
            Most bytes.
        """
        if name not in NAMES:
            return None
        try:
            with self._sandbox(task_id) as sandbox:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                file = os.open(name, flags, dir_fd=sandbox)
                owner = os.fstat(sandbox).st_uid
        except OSError:
            return None
        try:
            status = os.fstat(file)
            if not _is_output(status, owner):
                return None
            size = status.st_size
            begin = max(first_byte(file, size), offset if offset >= 0 else size + offset)
            content = os.pread(file, max(0, min(length, size - begin)), begin)
            return Output(content, min(begin, size), size)
        finally:
            os.close(file)

    def strip(self, task_id: str) -> None:
        """Remove all of a sandbox but the output, and close what stays to the task's account.

        Raises
        ------
        OSError
            If something cannot be removed.
        """
        try:
            if os.geteuid() != 0 and _is_plain(task_id) and not (self._path / task_id).is_symlink():
                (self._path / task_id).chmod(stat.S_IRWXU)  # it is our own, but may have been closed to us
            with self._sandbox(task_id) as sandbox:
                owner = os.fstat(sandbox).st_uid
                empty(sandbox, lambda entry: _is_kept(entry, owner))
                if owner != os.geteuid():
                    os.fchown(sandbox, os.geteuid(), os.getegid())
        except FileNotFoundError:
            pass

    def discard(self, task_id: str) -> None:
        """Remove what is left of a sandbox.

        Raises
        ------
        OSError
            If something cannot be removed.
        """
        if not _is_plain(task_id):
            return
        parent = os.open(self._path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            remove(task_id, parent)
        finally:
            os.close(parent)

    def task_ids(self) -> set[str]:
        """Return the ids of the tasks of which something is left."""
        return set(os.listdir(self._path))

    @contextmanager
    def _sandbox(self, task_id: str) -> Iterator[int]:
        """Open a sandbox; raises FileNotFoundError if there is none."""
        if not _is_plain(task_id):
            raise FileNotFoundError(task_id)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        sandbox = os.open(self._path / task_id, flags)
        try:
            yield sandbox
        finally:
            os.close(sandbox)


def _is_plain(name: str) -> bool:
    """Whether a name is one of a directory's entries, and not a way out of it."""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def _is_output(status: os.stat_result, owner: int) -> bool:
    """Whether a file is what a task wrote: no device or pipe, and no other name of somebody's file.

    A sandbox that is our own has been stripped, or its task can read all that we can anyhow.
    """
    known = owner in (status.st_uid, os.geteuid())
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and known


def _is_kept(entry: os.DirEntry[str], owner: int) -> bool:
    return entry.name in NAMES and _is_output(entry.stat(follow_symlinks=False), owner)

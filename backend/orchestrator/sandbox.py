"""What can be read of a task from its sandbox."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def last_lines(path: Path, most_bytes: int = 4096, most_lines: int = 20) -> str:
    """Return the end of a text file; empty if there is none or it cannot be read.

    The file is the task's own: what is in its place may be a link, which is not followed,
    or a pipe, which is not waited for.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return ""
            text = os.pread(descriptor, most_bytes, max(0, status.st_size - most_bytes))
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    return "\n".join(text.decode("utf-8", "replace").splitlines()[-most_lines:])

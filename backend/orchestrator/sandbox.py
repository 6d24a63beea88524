"""What can be read of a task from its sandbox."""

from __future__ import annotations

import os
from pathlib import Path


def last_lines(path: Path, most_bytes: int = 4096, most_lines: int = 20) -> str:
    """Return the end of a text file; empty if there is none or it cannot be read.

    The file is the task's own, so a link in its place is not followed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(max(0, os.fstat(descriptor).st_size - most_bytes))
        text = file.read(most_bytes).decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-most_lines:])

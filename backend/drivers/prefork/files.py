"""What the disk was like when a template imported its modules, in as few objects as will do.

A look at an object counts its references up and down, which writes to it, and the first write to a page after
a fork copies the page. The template looks at all of these before each fork: as a dictionary, they cost every
worker 1.3 MiB, the pages that the template left to it when it looked the next time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

_END = "\0"  # which is in no path


class Files:
    """Files and directories, and what they were when this was made.

    Parameters
    ----------
    paths
        Some may be named more than once, and need not be there.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        found = dict.fromkeys(paths)
        self._paths = "".join(path + _END for path in found)
        self._states = "".join(_state(path) + _END for path in found)

    def __iter__(self) -> Iterator[str]:
        start = 0
        while (end := self._paths.find(_END, start)) >= 0:
            yield self._paths[start:end]
            start = end + 1

    def changed(self) -> str:
        """Return the path of the first that is not what it was; empty if all are."""
        start = 0
        for path in self:
            state = _state(path) + _END
            if not self._states.startswith(state, start):
                return path
            start += len(state)
        return ""


def _state(path: str) -> str:
    try:
        status = os.stat(path)
    except OSError:
        return "none"
    return f"{status.st_mtime_ns} {status.st_size} {status.st_ino}"

"""One backend per state directory, and how it lives under a hub that starts and stops it.

JupyterHub stops its managed services *before* its users' servers, so a backend that ended
with the hub's signal could not end those servers (``app.py``, `cleanup`). Therefore what
the hub starts is only a *front*: it ends when it is told to, while the backend behind it
serves until the hub itself is gone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import time
from pathlib import Path

log = logging.getLogger("hubfleet.backend")

_TAKE_OVER_SECONDS = 20.0
_LEAST_LIFE_SECONDS = 2.0  # between two starts of a backend that keeps being killed


class AlreadyRunning(Exception):
    """Another backend serves from this state directory."""


class StateLock:
    """The right to be the backend of a state directory; it ends with the process.

    Parameters
    ----------
    state_dir
        The directory, which exists.
    """

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "backend.lock"
        self._file = open(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+")  # noqa: SIM115

    def acquire(self, take_over: bool = False) -> int | None:
        """Take the lock.

        Parameters
        ----------
        take_over
            Ask the backend that holds it to end, and wait for that: under a hub, what
            holds it is the backend of a hub that was killed, or of a front that was.

        Returns
        -------
        int or None
            The backend that was asked to end, if one was.

        Raises
        ------
        AlreadyRunning
            Another backend holds it.
        """
        deadline = time.monotonic() + (_TAKE_OVER_SECONDS if take_over else 0)
        asked: int | None = None
        while not self._try():
            holder = self._holder()
            if time.monotonic() >= deadline:
                raise AlreadyRunning(
                    f"another backend{f' (process {holder})' if holder else ''} serves from "
                    f"{self._path.parent}; stop it first, or give this one its own --state-dir"
                )
            if take_over and holder and holder != asked:
                asked = holder
                log.info("asking the backend that is there (process %d) to make room", holder)
                try:
                    os.kill(holder, signal.SIGTERM)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()
        return asked

    def release(self) -> None:
        """Let another backend have it."""
        self._file.close()

    def _try(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _holder(self) -> int | None:
        self._file.seek(0)
        text = self._file.read().strip()
        return int(text) if text.isdigit() else None


def split_front() -> int:
    """Fork into a front, which stays here, and the backend, which returns.

    The front ends at once when it is told to (SIGINT or SIGTERM), and with the backend's
    own status when the backend ends. A backend that is killed it replaces: the hub looks
    after its services only every 30 s.

    Returns
    -------
    int
        In the backend: a descriptor of the process that started the front (the hub),
        readable when that process is gone.
    """
    hub_gone = os.pidfd_open(os.getppid())
    handlers = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    while True:
        for signum in handlers:
            signal.signal(signum, lambda *_: os._exit(0))
        begun = time.monotonic()
        backend = os.fork()
        if backend == 0:
            for signum, handler in handlers.items():
                signal.signal(signum, handler)
            os.setsid()
            return hub_gone
        # Should the front be killed, nobody can end the backend but the hub's end, and a new
        # front, which takes over.
        _, status = os.waitpid(backend, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(os.waitstatus_to_exitcode(status))
        log.error("the backend was ended by signal %d; starting another one", os.WTERMSIG(status))
        time.sleep(max(0.0, _LEAST_LIFE_SECONDS - (time.monotonic() - begun)))

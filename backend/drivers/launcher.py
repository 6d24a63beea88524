"""The launcher: the small process that forks the tasks of one state directory and outlives the backend.

Run as ``python -m hubfleet.backend.drivers.launcher <state directory>``, or with less memory by
`hubfleet.backend.drivers.launcher_client`. The command returns once the launcher can be reached, which
is a process of its own by then: of no terminal, no session and no starter. In the state directory are

``launcher.sock``
    where it is spoken to (`hubfleet.backend.drivers.launcher_server` has the protocol),
``launcher.lock``
    held while it lives, so that there is only one,
``launcher.journal``
    what it must not forget,
``launcher.log``
    what a person should know; there only if there is something.

It leaves by itself, with its files, when nobody needs it. SIGTERM does not end it while it has tasks.
A supervisor that kills by control group (systemd's ``KillMode=control-group``) kills it and them.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import sys
import time
from contextlib import suppress

from .isolation.cgroups import Groups
from .isolation.hierarchies import find_groups
from .journal import NAME as JOURNAL
from .journal import Journal
from .launcher_server import Server

SOCKET = "launcher.sock"
LOCK = "launcher.lock"
LOG = "launcher.log"
WITHOUT_GROUPS = "--without-groups"
"""Argument of a launcher that leaves the machine's control groups alone."""

_PR_SET_CHILD_SUBREAPER = 36
_LONGEST_LOG = 1 << 20
_READY = b"+"


def main(arguments: list[str]) -> int:
    """Start a launcher, unless one runs already; return 0 if one does now."""
    use_groups = WITHOUT_GROUPS not in arguments
    arguments = [argument for argument in arguments if argument != WITHOUT_GROUPS]
    if len(arguments) != 1:
        print(f"usage: launcher [{WITHOUT_GROUPS}] <state directory>", file=sys.stderr)
        return 2
    try:
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2:
                with suppress(OSError):  # the listing's own
                    os.close(int(name))
        path = os.path.abspath(arguments[0])
        os.makedirs(path, mode=0o700, exist_ok=True)
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        ready, report = os.pipe()
        if os.fork() == 0:
            os.setsid()
            if os.fork() != 0:
                os._exit(0)
            os.close(ready)
            _live(path, directory, report, use_groups)
            os._exit(0)
        os.close(report)
        os.wait()
        with open(ready, "rb") as file:
            answer = file.read()
    except OSError as error:
        answer = str(error).encode()
    if answer != _READY:
        reason = answer.decode(errors="replace") or f"it died; {LOG} may say why"
        print(f"The launcher for {arguments[0]} did not start: {reason}", file=sys.stderr)
    return 0 if answer == _READY else 1


def _live(path: str, directory: int, report: int, use_groups: bool) -> None:
    """Be the launcher; say through `report` once it can be reached, or why it cannot."""
    os.umask(0o077)
    os.chdir("/")
    try:
        lock = _take_lock(directory)
        if lock is None:
            os.write(report, _READY)
            return
        _redirect_output(directory)
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            error = ctypes.get_errno()
            raise OSError(error, f"cannot become a subreaper: {os.strerror(error)}")
        listener = _listen(directory)
        journal = Journal(directory, _log)
        groups = find_groups(directory, _log) if use_groups else Groups({})
        server = Server(listener, journal, groups, _log)
        server.supervisor.adopt(path)
    except OSError as error:
        os.write(report, str(error).encode(errors="replace"))
        return
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return
    os.write(report, _READY)
    os.close(report)
    try:
        server.run()
    except BaseException:
        # The lock ends with this process; the tasks run on, and the next launcher finds them.
        sys.excepthook(*sys.exc_info())
        return
    groups.close()
    _clean_up(directory, keep_journal=bool(server.supervisor.tasks))


def _clean_up(directory: int, *, keep_journal: bool) -> None:
    """Leave no file behind that holds nothing."""
    names = [SOCKET]
    if not keep_journal:
        names.append(JOURNAL)
    if os.fstat(2).st_size == 0:
        names.append(LOG)
    # The lock last, so that nobody finds a socket or a journal that a new launcher owns already.
    for name in [*names, LOCK]:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)


def _take_lock(directory: int) -> int | None:
    """Return the descriptor that holds the lock, or None if another launcher holds it."""
    while True:
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=directory)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        # A launcher that leaves removes the file: a lock on what it removed holds nobody off.
        with suppress(FileNotFoundError):
            if os.stat(LOCK, dir_fd=directory).st_ino == os.fstat(lock).st_ino:
                return lock
        os.close(lock)


def _redirect_output(directory: int) -> None:
    """Let the standard streams go of the starter's, and errors be written to the log."""
    null = os.open(os.devnull, os.O_RDWR)
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    if os.fstat(log).st_size > _LONGEST_LOG:
        os.ftruncate(log, 0)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    os.close(log)


def _listen(directory: int) -> socket.socket:
    """Return the listening socket; the caller holds the lock, so one that is there is a dead launcher's."""
    with suppress(FileNotFoundError):
        os.unlink(SOCKET, dir_fd=directory)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    # Through the descriptor, since a socket's own path may not be longer than 107 bytes.
    listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
    os.chmod(SOCKET, 0o600, dir_fd=directory)
    listener.listen(64)
    return listener


def _log(sentence: str) -> None:
    with suppress(OSError):
        print(time.strftime("%Y-%m-%d %H:%M:%S"), sentence, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

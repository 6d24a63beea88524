"""The process that ends a launcher's commands when the launcher dies: nobody else would know of them.

Tasks are to outlive their launcher, and are found again. A command is of use only while somebody
waits for what it has to say; without the launcher none does, nor would anybody hold it to its time. So the
launcher tells this process, through a pipe, which commands run; the pipe ends with the launcher,
however it dies, and then what it told of last is killed.

It is there from the first command on, and leaves with the launcher.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable

from .proctree import Identity, Snapshot, read_process, send_signal


class Guard:
    """A launcher's end of the pipe.

    Attributes
    ----------
    pid
        The guard's process id, or -1 while there is none.
    """

    __slots__ = ("_pipe", "pid")

    def __init__(self) -> None:
        self._pipe = self.pid = -1

    def watch(self, command: Identity, others: Iterable[Identity]) -> None:
        """Have a command ended with the launcher; `others` are those that run by now.

        Raises
        ------
        OSError
            If there is no guard, and the system has no room for one.
        """
        if not self._tell(_begun(command)):
            self._start()
            if not self._tell(b"".join(map(_begun, [command, *others]))):
                raise OSError("the guard of commands died at once")

    def release(self, pid: int) -> None:
        """Say that a command has ended."""
        self._tell(b"%d\n" % pid)

    def _tell(self, lines: bytes) -> bool:
        """Return whether there is a guard that can be told."""
        try:
            return self._pipe >= 0 and os.write(self._pipe, lines) == len(lines)
        except OSError:
            return False

    def _start(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = self.pid = -1
        told, pipe = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(told)
            os.close(pipe)
            raise
        if pid == 0:
            _guard(told)
        os.close(told)
        os.set_blocking(pipe, False)
        self._pipe, self.pid = pipe, pid


def _begun(command: Identity) -> bytes:
    return b"%d %d\n" % command


def _guard(told: int) -> None:
    """Be the guard; never return."""
    try:
        signal.set_wakeup_fd(-1)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        # Above all the other end of the pipe, and the launcher's lock.
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != told:
                try:
                    os.close(int(name))
                except OSError:
                    pass  # the listing's own
        os.setsid()
        _end_all(_listen(told))
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def _listen(told: int) -> dict[int, int]:
    """Return the commands that ran when the launcher died: process ids, and when each was started."""
    running: dict[int, int] = {}
    rest = b""
    while text := os.read(told, 65536):
        *lines, rest = (rest + text).split(b"\n")
        for line in lines:
            pid, _, started = line.partition(b" ")
            if started:
                running[int(pid)] = int(started)
            else:
                running.pop(int(pid), None)
    return running


def _end_all(running: dict[int, int]) -> None:
    """Kill the sessions of commands, twice, for what forks while it is looked for."""
    for _ in range(2 if running else 0):
        snapshot = Snapshot(running.keys(), since=min(running.values()))
        for pid, started in running.items():
            leader = read_process(pid)
            if leader is not None and leader.started != started:
                continue  # it is another's by now, so of the command nothing is left
            for process in snapshot.of_session(pid):
                send_signal(process, signal.SIGKILL)

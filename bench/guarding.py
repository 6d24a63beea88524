"""Runs one script of the bench so that nothing of it is left: no process, control group or temporary file.

Whatever a script starts, and what that starts, may leave its parent, its session and its process group, and
the script itself may be killed. So this process is the one that Linux gives orphans to (a *subreaper*): what
is left of a script when it has ended is what has become this process's child, and is killed. If this process
is killed, the script is told to end and ends its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from hubfleet.backend.drivers.isolation.hierarchies import sweep_abandoned

_LIBC = ctypes.CDLL(None, use_errno=True)
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_HEARD = {signal.SIGCHLD, signal.SIGINT, signal.SIGTERM}
PREFIX = "hb-"  # short, as paths of sockets are limited
_PROJECT = Path(__file__).resolve().parent.parent  # of no use to those who read the results elsewhere
GRACE_SECONDS = 30
"""How long a script that was told to end may take to end what it has started."""


@dataclass
class Outcome:
    """How a script ended, and what it took.

    Parameters
    ----------
    failure
        Why it is not done, or nothing.
    wall, cpu
        Its seconds, and the processor seconds of it and of all that it started and that has ended.
    left
        The command lines of processes that it left, which were killed.
    interrupted
        Whether the bench is to end.
    """

    failure: str = ""
    wall: float = 0.0
    cpu: float = 0.0
    left: list[str] = field(default_factory=list)
    interrupted: bool = False


def adopt_orphans() -> None:
    """Become the parent of what the processes below leave behind; once, before any is started."""
    if _LIBC.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot become the parent of orphans")


def remove_abandoned(place: Path) -> None:
    """Remove the temporary folders of runs that were killed: their names say of which process they were."""
    for folder in place.glob(f"{PREFIX}*-*"):
        pid = folder.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def guarded(command: Sequence[str], seconds: float) -> Outcome:
    """Run a script to its end, or end it; return when nothing of it is left.

    Parameters
    ----------
    seconds
        After which it is told to end; `GRACE_SECONDS` later it is killed.
    """
    outcome, own = Outcome(), os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # they are waited for, so that none comes between
    begun, used = time.monotonic(), _used()

    def in_the_script() -> None:
        _LIBC.prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        if os.getppid() != own:  # it ended before it could be told
            os._exit(1)

    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{own}-", ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            command,
            env={**os.environ, "TMPDIR": folder},
            start_new_session=True,  # Ctrl-C reaches this process alone, which then tells the script
            preexec_fn=in_the_script,
        )
        try:
            outcome.failure, outcome.interrupted = _wait(process, begun + seconds, seconds)
        finally:
            outcome.left = end_orphans()
            sweep_abandoned()  # the control groups of backends that were killed
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
    outcome.wall, outcome.cpu = time.monotonic() - begun, _used() - used
    return outcome


def _wait(process: subprocess.Popen[bytes], ends_at: float, seconds: float) -> tuple[str, bool]:
    """Return why a script is not done, and whether the bench is to end."""
    failure, interrupted = "", False
    while not _reaped(process):
        left = ends_at - time.monotonic()
        if left <= 0:
            if failure:
                process.kill()
            else:
                failure = f"it was not done in {seconds:.0f} s, and was told to end"
                process.terminate()
            ends_at = time.monotonic() + GRACE_SECONDS
            continue
        heard = signal.sigtimedwait(_HEARD, left)
        if heard is not None and heard.si_signo != signal.SIGCHLD:
            interrupted = True
            if not failure:
                failure = f"the bench was interrupted ({signal.Signals(heard.si_signo).name})"
                process.terminate()
                ends_at = time.monotonic() + GRACE_SECONDS
    code = process.returncode
    if not failure and code:
        failure = (
            f"it ended with status {code}" if code > 0 else f"it was killed ({signal.Signals(-code).name})"
        )
    return failure, interrupted


def _reaped(process: subprocess.Popen[bytes]) -> bool:
    """Take note of all that has ended; return whether the script has."""
    while process.returncode is None:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if pid == 0:
            return False
        if pid == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
    return True


def end_orphans(seconds: float = 30) -> list[str]:
    """Kill all processes below this one, and return their command lines when none is left."""
    found: dict[int, str] = {}
    ends_at = time.monotonic() + seconds
    while children := psutil.Process().children(recursive=True):
        assert time.monotonic() < ends_at, f"these processes cannot be killed: {children}"
        for child in children:
            with contextlib.suppress(psutil.Error):
                if child.status() != psutil.STATUS_ZOMBIE:
                    found.setdefault(child.pid, " ".join(child.cmdline()).replace(f"{_PROJECT}/", "")[:200])
                    child.kill()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.02)
    return list(found.values())


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime

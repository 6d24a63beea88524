"""The launcher's templates: warm processes from which tasks are forked instead of executed.

There is at most one of each kind, made at its first need or when the backend asks for it, and only for the
backend's own interpreter and environment. Nobody ever waits for one: while it is not there, a task is
executed; and so it is when the template, or the process forked from it, finds anything unusual.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping
from functools import partial

from ..order import Order
from ..proctree import MARKER
from .asked import Arrived, Asked
from .line import KINDS, read_command

ANSWER_SECONDS = 3.0
"""A template that has forked nothing for so long, although it was asked to, hangs."""

READY_SECONDS = 120.0
"""So does one that is not ready after so long."""

_MOST_REASON = 500  # characters
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 300.0
"""Seconds before a template that ended is made again, longer each time."""

_PROVEN_SECONDS = 60.0
"""Whoever lives longer was not ended by its own fault."""

# What tasks of a kind have in their environment, and libraries read while they are loaded: hubfleet.workers.
_ENVIRONMENTS = {
    "worker": {
        "MALLOC_TRIM_THRESHOLD_": "65536",
        "MKL_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
}

# A directory that nobody can make: a template has no home, and what it imports must not make itself one.
_NO_HOME = "/dev/null"

# The launcher's own package, as it was itself started; a task's process goes on where `main` returns.
_BOOT = """\
import sys
del sys.path[0]
import types
package = types.ModuleType("hubfleet_launcher")
package.__path__ = [sys.argv[1]]
sys.modules[package.__name__] = package
from hubfleet_launcher.prefork.template import main
main(sys.argv[2:])()
"""

TYPE_CHECKING = False  # as typing's, whose import would cost the launcher a megabyte
if TYPE_CHECKING:
    from typing import NoReturn


class _Template:
    """One template process."""

    __slots__ = ("asked", "connection", "pid", "ready", "since", "started")

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.connection = connection
        self.ready = False
        self.asked: list[Asked] = []
        self.started = time.monotonic()
        self.since = self.started  # when it was last heard of, while something is expected of it


class _Account:
    """What has become of one kind of template."""

    __slots__ = ("cold", "executed", "forked", "not_before", "pause", "reason", "template", "wanted")

    def __init__(self) -> None:
        self.template: _Template | None = None
        self.wanted = False
        self.not_before = 0.0
        self.pause = _FIRST_PAUSE
        self.forked = 0
        self.executed = 0
        self.cold = 0  # executed, since there was no template
        self.reason = ""


class Templates:
    """The templates of one launcher.

    Parameters
    ----------
    watch, unwatch
        Have a callback called when a descriptor becomes readable, or no more.
    log
        Called with a sentence about anything a person should know.
    """

    def __init__(
        self,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        log: Callable[[str], None],
    ) -> None:
        self._watch = watch
        self._unwatch = unwatch
        self._log = log
        self._python: str | None = None
        self._environment: Mapping[str, str] = {}
        self._accounts = {kind: _Account() for kind in KINDS}

    def configure(self, python: str | None, environment: Mapping[str, str], warm: Collection[str]) -> None:
        """Take the backend's word on what templates there are to be.

        Parameters
        ----------
        python
            Interpreter of the backend's own environment; None for no templates.
        environment
            What every task has in its environment, as far as it is not the task's own.
        warm
            Kinds to be made at once.
        """
        if (python, environment) != (self._python, self._environment):
            self.end()
            self._python, self._environment = python, environment
            self._accounts = {kind: _Account() for kind in KINDS}
        for kind in warm:
            if kind in self._accounts:
                self._make(kind)

    def ask(self, order: Order, arrived: Arrived) -> str | None:
        """Have a process forked for an order; return the kind of template, or None if there is none.

        If there is, `arrived` is called once, later.
        """
        if self._python is None or not order.prefork:
            return None
        line = read_command(order.command, order.environment)
        if line is None:
            return None
        template = self._accounts[line.kind].template
        if template is None or not template.ready:
            self._accounts[line.kind].cold += 1
            self._make(line.kind)
            return None
        try:
            asked = Asked.send(template.connection, line.kind, order, arrived)
        except OSError:
            # It has just ended, or has more to do than it takes; or we have no descriptor left.
            return None
        if not template.asked:
            template.since = time.monotonic()
        template.asked.append(asked)
        self._watch(asked.descriptor, partial(self._hear_child, template, asked))
        return line.kind

    def give_up(self) -> None:
        """Wait no longer for what was asked for."""
        for account in self._accounts.values():
            if account.template is not None:
                self._abandon(account.template)

    def note(self, kind: str, reason: str) -> None:
        """Take note of a task that was forked, or of the reason why its process executed the command."""
        account = self._accounts[kind]
        account.forked += not reason
        account.executed += bool(reason)
        account.reason = reason or account.reason

    def describe(self) -> list[dict[str, object]]:
        """Return what there is of each kind."""
        return [
            {
                "kind": kind,
                "pid": None if account.template is None else account.template.pid,
                "ready": account.template is not None and account.template.ready,
                "forked": account.forked,
                "executed": account.executed,
                "cold": account.cold,
                "reason": account.reason,
            }
            for kind, account in self._accounts.items()
        ]

    @property
    def pids(self) -> set[int]:
        """The process ids of the templates, ready or not."""
        return {account.template.pid for account in self._accounts.values() if account.template is not None}

    def ended(self, pid: int) -> None:
        """Take note that a child has ended, which is not reaped yet and may be a template."""
        for kind, account in self._accounts.items():
            template = account.template
            if template is not None and template.pid == pid:
                self._hear(kind, template)
                if account.template is template:
                    self._let_go(kind, "it was killed")

    def tick(self, now: float) -> float | None:
        """Let go of a template that hangs, and make those anew that ended; return when to look again."""
        times = []
        for kind, account in self._accounts.items():
            template = account.template
            if template is None and account.wanted:
                self._make(kind)
                if account.template is None:
                    times.append(account.not_before)
            elif template is not None and (template.asked or not template.ready):
                due = template.since + (ANSWER_SECONDS if template.ready else READY_SECONDS)
                if due <= now:
                    self._let_go(
                        kind, "it did not fork in time" if template.ready else "it was not ready in time"
                    )
                    due = account.not_before
                times.append(due)
        return min(times, default=None)

    def end(self) -> None:
        """End all templates; what was forked from them runs on."""
        for kind in self._accounts:
            self._let_go(kind, "")

    def _make(self, kind: str) -> None:
        """Start a template, unless there is one or the last one has ended only just now."""
        account = self._accounts[kind]
        account.wanted = self._python is not None
        if account.template is not None or self._python is None or time.monotonic() < account.not_before:
            return
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptor = theirs.fileno()
        theirs.set_inheritable(True)
        home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        arguments = [home, kind, str(descriptor), str(os.getpid()), ",".join(Order.__slots__)]
        # What the interpreter needs, and the marker of who started us.
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", MARKER) if name in os.environ}
        own = {**_ENVIRONMENTS.get(kind, {}), "HOME": _NO_HOME}
        environment = {**kept, **self._environment, **own}
        try:
            pid = os.fork()
            if pid == 0:
                _execute_template(self._python, [self._python, "-c", _BOOT, *arguments], environment)
        except OSError as error:
            ours.close()
            self._fail(account, f"no process could be made for it: {error.strerror}")
            return
        finally:
            theirs.close()
        ours.setblocking(False)
        account.template = _Template(pid, ours)
        self._watch(ours.fileno(), partial(self._hear, kind, account.template))

    def _hear(self, kind: str, template: _Template) -> None:
        """Take what a template says of itself."""
        try:
            message = json.loads(template.connection.recv(65536) or b"{}")
        except BlockingIOError:
            return
        except (OSError, ValueError, RecursionError):
            message = {}
        if not isinstance(message, dict):
            message = {}
        if message.get("ready"):
            template.ready = True
            return
        reason = message.get("unfit") or message.get("stale") or "it ended"
        self._let_go(kind, str(reason)[:_MOST_REASON])
        if "stale" in message:
            # Not its fault: the next one may be made at once, of what is there now.
            account = self._accounts[kind]
            account.not_before, account.pause = 0.0, _FIRST_PAUSE
            self._make(kind)

    def _hear_child(self, template: _Template, asked: Asked) -> None:
        """Take the word of a new process, or note that there will be none."""
        try:
            found = asked.take()
        except BlockingIOError:
            return
        template.asked.remove(asked)
        template.since = time.monotonic()
        self._unwatch(asked.descriptor)
        asked.settle(found)

    def _let_go(self, kind: str, reason: str) -> None:
        account = self._accounts[kind]
        template, account.template = account.template, None
        if template is None:
            return
        self._unwatch(template.connection.fileno())
        template.connection.close()
        if template.ready and time.monotonic() > template.started + _PROVEN_SECONDS:
            account.pause = _FIRST_PAUSE
        if reason:
            self._fail(account, reason)
        # It ends by itself, unless it hangs.
        try:
            os.kill(template.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._abandon(template)

    def _fail(self, account: _Account, reason: str) -> None:
        account.reason = f"the template is gone: {reason}"
        account.not_before = time.monotonic() + account.pause
        account.pause = min(account.pause * 2, _LONGEST_PAUSE)

    def _abandon(self, template: _Template) -> None:
        abandoned, template.asked = template.asked, []
        for asked in abandoned:
            self._unwatch(asked.descriptor)
            asked.settle(None)


def _execute_template(python: str, arguments: list[str], environment: Mapping[str, str]) -> NoReturn:
    """Become a template, in the new process."""
    try:
        # Not posix_spawn, which leaves two signals of the C library's own ignored.
        os.setsid()
        for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(signum, signal.SIG_DFL)
        os.execve(python, arguments, environment)  # noqa: S606 - no shell, on purpose
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(127)

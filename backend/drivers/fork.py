"""The careful fork and exec of one task.

The new process waits until its process id has been journaled; if the launcher dies before that, it ends
without a trace, so nothing ever runs that nobody knows of. What goes wrong after that, up to and
including the exec, comes back through a pipe as one sentence.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import errno
import os
import pwd
import signal
import sys
from collections.abc import Mapping, Sequence

from .proctree import MARKER

_ENDS_IN_TIME = frozenset(
    {
        errno.EAGAIN,
        errno.EDQUOT,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOSPC,
        errno.ESTALE,
        errno.ETIMEDOUT,
        errno.ETXTBSY,
    }
)
"""Errors that say something of the moment and nothing of the task: it may well start later."""


class StartError(Exception):
    """A task was not started; the message says why.

    Parameters
    ----------
    message
        A sentence for the person who can act.
    refused
        True if the same order will never work, False if it may work later.
    """

    def __init__(self, message: str, *, refused: bool = True) -> None:
        super().__init__(message)
        self.refused = refused

    @classmethod
    def from_os_error(cls, doing: str, error: OSError) -> StartError:
        """Return what an error of the system means for the task."""
        reason = error.strerror or str(error)
        return cls(f"{doing}: {reason}", refused=error.errno not in _ENDS_IN_TIME)


class Order:
    """What to run, checked: the fields of `hubfleet.backend.drivers.TaskSpec`."""

    __slots__ = ("command", "environment", "sandbox", "task_id", "user")

    def __init__(
        self,
        task_id: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        sandbox: str,
        user: str | None,
    ) -> None:
        self.task_id = task_id
        self.command = command
        self.environment = environment
        self.sandbox = sandbox
        self.user = user

    @classmethod
    def from_request(cls, request: Mapping[str, object]) -> Order:
        """Return the order that a request holds.

        Raises
        ------
        StartError
            If a field is missing, of the wrong type, or cannot be given to a process.
        """
        task_id, command, environment, sandbox, user = (
            request.get(name) for name in ("task_id", "command", "environment", "sandbox", "user")
        )
        if not _is_text(task_id) or not task_id:
            raise StartError("A start needs a task_id: a text that is not empty and holds no zero byte.")
        if not isinstance(command, list) or not command or not all(map(_is_text, command)) or not command[0]:
            raise StartError(
                f"The command of task {task_id} must be a list of texts without zero bytes, program first."
            )
        if not isinstance(environment, dict) or not all(map(_is_text, environment.values())):
            raise StartError(f"The environment of task {task_id} must map names to texts without zero bytes.")
        for name in environment:
            if not _is_text(name) or not name or "=" in name:
                raise StartError(f"The environment of task {task_id} holds {name!r}, which cannot be a name.")
        if not _is_text(sandbox) or not os.path.isabs(sandbox):
            raise StartError(f"The sandbox of task {task_id} must be an absolute path, not {sandbox!r}.")
        if user is not None and not _is_text(user):
            raise StartError(f"The user of task {task_id} must be the name of an account, not {user!r}.")
        return cls(task_id, command, environment, sandbox, user)


TYPE_CHECKING = False  # as typing's, whose import would cost the launcher a megabyte
if TYPE_CHECKING:
    from typing import TypeGuard


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and "\0" not in value


class Forked:
    """A new process that waits for its release.

    Attributes
    ----------
    pid
        Its process id, which is also that of the task's session.
    outcome
        Descriptor that ends when the task's program runs, or gives the reason why it does not
        (see `read_outcome`).
    """

    __slots__ = ("_gate", "outcome", "pid")

    def __init__(self, pid: int, gate: int, outcome: int) -> None:
        self.pid = pid
        self.outcome = outcome
        self._gate = gate

    def release(self) -> None:
        """Let the process become the task."""
        try:
            os.write(self._gate, b"g")
        except BrokenPipeError:
            pass  # killed already; its end says so
        os.close(self._gate)

    def abandon(self) -> None:
        """Let the process end without having done anything."""
        os.close(self._gate)
        os.close(self.outcome)


def fork_task(order: Order) -> Forked:
    """Fork a process that will become the task once it is released.

    Raises
    ------
    StartError
        If the system has no room for another process now.
    """
    descriptors: list[int] = []
    try:
        descriptors += os.pipe()
        descriptors += os.pipe()
        # No signal may fall between the fork and the task's own dispositions, where nobody would act on it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _become_task(order, gate=descriptors[0], outcome=descriptors[3])
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    except OSError as error:
        for descriptor in descriptors:
            os.close(descriptor)
        raise StartError(
            f"No process could be made for task {order.task_id}: {error.strerror}", refused=False
        ) from error
    gate, release, outcome, report = descriptors
    os.close(gate)
    os.close(report)
    os.set_blocking(outcome, False)
    return Forked(pid, release, outcome)


def read_outcome(message: bytes) -> StartError | None:
    """Return why a task did not start, from all that its `Forked.outcome` gave; None if it runs."""
    if not message:
        return None
    return StartError(message[1:].decode(errors="replace"), refused=message[:1] == b"R")


def _become_task(order: Order, gate: int, outcome: int) -> None:
    """Become the task, in the new process; never return."""
    try:
        # First of all the launcher's lock and sockets: they must not outlive it in here.
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in (gate, outcome):
                try:
                    os.close(int(name))
                except OSError:
                    pass  # the listing's own
        if not os.read(gate, 1):
            os._exit(0)
        try:
            _prepare(order)
            environment = {**order.environment, MARKER: order.task_id}
            _execute(order.command, environment)
        except StartError as error:
            kind = b"R" if error.refused else b"L"
            os.write(outcome, kind + str(error).encode(errors="replace")[:4000])
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os.write(outcome, b"LThe launcher failed in the new process; launcher.log says how.")
    finally:
        os._exit(127)


def _prepare(order: Order) -> None:
    """Make this process fit for the task: session, account, sandbox, standard files, signals."""
    os.setsid()
    os.umask(0o022)
    account = find_account(order.user)
    doing = f"The sandbox {order.sandbox} cannot be used"
    try:
        os.makedirs(os.path.dirname(order.sandbox), exist_ok=True)
        try:
            os.mkdir(order.sandbox, 0o700)
        except FileExistsError:
            pass
        # Entered before the change of account, which may not be allowed to walk the path.
        sandbox = os.open(order.sandbox, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        os.fchdir(sandbox)
        if account is not None:
            os.fchown(sandbox, account.pw_uid, account.pw_gid)
            doing = f"The task cannot become {order.user}"
            os.initgroups(account.pw_name, account.pw_gid)
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
        # Opened as the task's account: what lies in a sandbox may be a link laid by its owner.
        doing = f"The task's output cannot be written to {order.sandbox}"
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
            os.dup2(os.open(name, flags, 0o600), descriptor)
    except OSError as error:
        raise StartError.from_os_error(doing, error) from error
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def find_account(user: str | None) -> pwd.struct_passwd | None:
    """Return the account to change to, or None to stay what we are.

    Raises
    ------
    StartError
        If there is no such account, or we are not root and it is not ours.
    """
    if user is None:
        return None
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise StartError(
            f"There is no account {user!r} on this machine: make it, or name one that there is as the user."
        ) from None
    if os.geteuid() == 0:
        return account
    if account.pw_uid == os.geteuid():
        return None
    raise StartError(
        f"The task is to run as {user!r}, but only root can change accounts and the backend runs with"
        f" user id {os.geteuid()}: run the backend as root, or leave the user out."
    )


def _execute(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Replace this process by the command, looked up on the environment's own PATH."""
    program = command[0]
    try:
        os.execvpe(program, list(command), environment)  # noqa: S606 - no shell, on purpose
    except FileNotFoundError as error:
        if "/" in program and os.path.lexists(program):
            sentence = f"cannot run {program}: the interpreter or link that it names is not there"
        else:
            sentence = f"command not found: {program}"
        raise StartError(sentence) from error
    except OSError as error:
        raise StartError.from_os_error(f"cannot run {program}", error) from error

"""What a new process does to itself before it becomes a task: session, account, sandbox, files, signals.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
import pwd
import resource
import signal

from .isolation import mounts
from .order import Order, StartError


def prepare(order: Order) -> None:
    """Make this process fit for its task.

    No descriptor is left open but the standard ones and those that were open before.

    Raises
    ------
    StartError
        If that cannot be done; the message says why.
    """
    for entrance in order.groups:
        _enter(entrance)
    os.setsid()
    os.umask(0o022)
    account = find_account(order.user)
    who = mounts.Who(account)
    _limit()
    doing = f"The sandbox {order.sandbox} cannot be used"
    try:
        if order.beside is None:
            _make_sandbox(order.sandbox, account)
        before = os.stat(order.sandbox, follow_symlinks=False)
        if order.beside is not None:
            doing = "The command cannot have the task's view of the file system"
            mounts.enter(order.beside)
        elif order.mounts:
            mounts.mount_all(order.mounts, order.sandbox, who)
        doing = f"The sandbox {order.sandbox} cannot be used"
        # Entered before the change of account, which may not be allowed to walk the path.
        sandbox = os.open(order.sandbox, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        if not os.path.samestat(before, os.fstat(sandbox)):
            raise StartError(f"A mount covers the sandbox {order.sandbox}: choose another container path.")
        os.fchdir(sandbox)
        os.close(sandbox)
        doing = f"The task cannot become {order.user}"
        if account is not None:
            who.become()
        if order.mounts:
            mounts.give_up_privileges()
        # Opened as the task's account: what lies in a sandbox may be a link laid by its owner.
        doing = f"The task's output cannot be written to {order.sandbox}"
        _redirect(os.devnull, os.O_RDONLY, 0)
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            if order.beside is None:
                _redirect(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, descriptor)
            else:
                _redirect(os.devnull, os.O_WRONLY, descriptor)
    except OSError as error:
        raise StartError.from_os_error(doing, error) from error
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _enter(entrance: str) -> None:
    """Enter a control group; here and not in the launcher, since the kernel may take its time over it."""
    try:
        file = os.open(entrance, os.O_WRONLY)
        try:
            os.write(file, b"0")
        finally:
            os.close(file)
    except OSError as error:
        raise StartError(f"The control group {entrance} cannot be entered: {error}", refused=False) from error


def _make_sandbox(path: str, account: pwd.struct_passwd | None) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    if account is not None:
        sandbox = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        os.fchown(sandbox, account.pw_uid, account.pw_gid)
        os.close(sandbox)


def _limit() -> None:
    """Leave no core files, which hold secrets and fill disks; allow as many open files as may be."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _redirect(path: str, flags: int, descriptor: int) -> None:
    opened = os.open(path, flags, 0o600)
    os.dup2(opened, descriptor)
    if opened != descriptor:
        os.close(opened)


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

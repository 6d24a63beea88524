"""A task's own view of the file system: parts of the host at other places, in a mount namespace of its own.

As root the namespace is made as it is; otherwise within a user namespace, in which the task's account is
mapped to itself and nothing else. Where a mount point is missing, it is made as the task's account where
that is at home: in what it may write; as root, which may write everywhere, in its home directory, in what
all may write, and in what is mounted for it to write to. Elsewhere the directory is shown again, from a small
file system of the task's own, with the missing part added: nothing is made on the host that the account could
not have made.

After the first mount the new process, still root, must look nothing up by name that a mount may have changed:
no accounts, no modules.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from ..order import Bind, StartError

_MOST_SHOWN = 512
"""Entries of a directory that is shown again: each is a mount."""

_NEW_USER, _NEW_MOUNTS = 0x10000000, 0x00020000
_RECURSIVE, _SLAVE = 1 << 14, 1 << 19
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT, _SETATTR = 428, 429, 430, 431, 432, 442
_CLONE, _CLOEXEC, _NOFOLLOW, _EMPTY, _WHOLE = 1, 0o2000000, 0x100, 0x1000, 0x8000
_FROM_EMPTY, _TO_EMPTY = 0x4, 0x40
_SET_STRING, _CREATE = 1, 6
_READ_ONLY = 1
_NO_NEW_PRIVILEGES = 38

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "namespace")]


class Who:
    """As whom a task runs: looked up before anything is mounted."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, account: pwd.struct_passwd | None) -> None:
        if account is None:
            self.uid, self.gid, self.groups = os.geteuid(), os.getegid(), os.getgroups()
            try:
                self.home = pwd.getpwuid(self.uid).pw_dir
            except KeyError:
                self.home = ""
        else:
            self.uid, self.gid, self.home = account.pw_uid, account.pw_gid, account.pw_dir
            self.groups = os.getgrouplist(account.pw_name, account.pw_gid)

    def become(self) -> None:
        """Be this account from now on."""
        if os.geteuid() == 0:
            os.setgroups(self.groups)
            os.setgid(self.gid)
            os.setuid(self.uid)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """Be this account for a while."""
        if os.geteuid() != 0 or self.uid == 0:
            yield
            return
        own = os.getgroups()
        os.setgroups(self.groups)
        os.setegid(self.gid)
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(own)


def can_mount() -> bool:
    """Whether tasks can have mounts here, found out by trying in another process."""
    child = os.fork()
    if child == 0:
        try:
            _own_namespace()
            _set_read_only(_clone("/"), _WHOLE)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


def mount_all(binds: Sequence[Bind], sandbox: str, who: Who) -> None:
    """Give this process a view of its own, with all that is to be mounted.

    Raises
    ------
    StartError
        If a path is not there, cannot be reached by the account, or cannot be mounted on.
    """
    _own_namespace()
    trees = []
    for bind in binds:
        target = os.path.normpath(os.path.join(sandbox, bind.target))
        inside = target.startswith(sandbox + "/")
        if not os.path.isabs(bind.target) and not inside:
            raise StartError(f"The container path {bind.target} leads out of the sandbox.")
        if target == "/" or (sandbox + "/").startswith(target + "/"):
            raise StartError(f"The container path {bind.target} would cover the task's sandbox.")
        try:
            # Opened as the account: what it cannot reach on the host it does not get by a mount.
            with who.acting():
                source = os.open(bind.source, os.O_PATH)
            tree = _clone("", source)
            if bind.read_only:
                _set_read_only(tree, _WHOLE)
        except OSError as error:
            raise StartError.from_os_error(f"The host path {bind.source} cannot be mounted", error) from error
        trees.append((target, tree, stat.S_ISDIR(os.fstat(source).st_mode), bind.read_only))
        os.close(source)
    mounted: dict[str, bool] = {}  # whether read-only
    for target, tree, is_directory, read_only in sorted(trees, key=lambda each: each[0].count("/")):
        try:
            if os.path.exists(target):
                if os.path.isdir(target) != is_directory:
                    raise StartError(
                        f"The container path {target} cannot be mounted on: one is a directory, one is not."
                    )
            else:
                _make(target, is_directory, who, sandbox, mounted)
            _attach(tree, target)
            os.close(tree)
            mounted[target] = read_only
        except OSError as error:
            raise StartError.from_os_error(
                f"The container path {target} cannot be mounted on", error
            ) from error


def enter(pid: int) -> None:
    """Take the view of a running task, if it has one of its own; as root, a view and nothing else.

    The task may have made its namespaces itself. In a user namespace root has no number, and no way
    back to another account, but owns what is root's all the same. So root stays outside of it, and of what
    is executed in the view nothing gains privileges.

    Raises
    ------
    OSError
        If that cannot be had.
    """
    for name, kind in (("user", _NEW_USER), ("mnt", _NEW_MOUNTS)):
        if kind == _NEW_USER and os.geteuid() == 0:
            continue
        namespace = os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY)
        try:
            if not os.path.samestat(os.fstat(namespace), os.stat(f"/proc/self/ns/{name}")):
                _check(_libc.setns(namespace, kind))
                give_up_privileges()
        finally:
            os.close(namespace)


def give_up_privileges() -> None:
    """Let no program that is executed gain any: a set-user-id one would trust what has been mounted."""
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))


def _own_namespace() -> None:
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _check(_libc.unshare(_NEW_MOUNTS))
    else:
        _check(_libc.unshare(_NEW_USER | _NEW_MOUNTS))
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{uid} {uid} 1"),
            ("gid_map", f"{gid} {gid} 1"),
        ):
            file = os.open(f"/proc/self/{name}", os.O_WRONLY)
            os.write(file, text.encode())
            os.close(file)
    # What the host mounts later is seen; what is mounted here stays here.
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_RECURSIVE | _SLAVE), None))


def _make(target: str, is_directory: bool, who: Who, sandbox: str, mounted: Mapping[str, bool]) -> None:
    """Make a mount point and what is missing above it, really (in the sandbox always) or in a view."""
    missing: list[str] = []
    there = target
    while not os.path.lexists(there):
        there, name = os.path.split(there)
        missing.insert(0, name)
    if not os.path.isdir(there):
        raise StartError(f"The container path {target} cannot be made: {there} is no directory.")
    if _is_within(target, sandbox) or _at_home(there, who, mounted):
        with who.acting():
            _make_below(os.open(there, os.O_PATH | os.O_DIRECTORY), missing, is_directory)
        return
    view = _show_again(there)
    _make_below(os.dup(view), missing, is_directory)
    _set_read_only(view, 0)
    os.close(view)


def _at_home(directory: str, who: Who, mounted: Mapping[str, bool]) -> bool:
    if os.stat(directory).st_mode & stat.S_IWOTH:
        return True
    if who.uid == 0:
        # By where it truly is: a link that somebody has laid in a volume leads nowhere else.
        true = os.path.realpath(directory)
        if who.home not in ("", "/") and _is_within(true, who.home):
            return True
        around = [target for target in mounted if _is_within(true, os.path.realpath(target))]
        return bool(around) and not mounted[max(around, key=len)]
    with who.acting():
        return os.access(directory, os.W_OK | os.X_OK, effective_ids=True)


def _is_within(path: str, directory: str) -> bool:
    return (path + "/").startswith(directory.rstrip("/") + "/")


def _make_below(directory: int, names: Sequence[str], is_directory: bool) -> None:
    """Make directories in each other, the last one a file perhaps; closes the descriptor."""
    for name in names[:-1]:
        os.mkdir(name, 0o755, dir_fd=directory)
        inner = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=directory)
        os.close(directory)
        directory = inner
    if is_directory:
        os.mkdir(names[-1], 0o755, dir_fd=directory)
    else:
        os.close(os.open(names[-1], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=directory))
    os.close(directory)


def _show_again(directory: str) -> int:
    """Cover a directory by one of our own that shows the same; return a descriptor of it."""
    names = os.listdir(directory)
    if len(names) > _MOST_SHOWN:
        raise StartError(
            f"{directory} has more than {_MOST_SHOWN} entries, so nothing can be added to it for one task:"
            " make the mount point on the host, or choose another container path.",
        )
    status = os.stat(directory)
    entries = []
    for name in names:
        path = os.path.join(directory, name)
        mode = os.lstat(path).st_mode
        entries.append((name, mode, os.readlink(path) if stat.S_ISLNK(mode) else _clone(path)))
    context = _check(_libc.syscall(_FSOPEN, b"tmpfs", 1))
    options = {b"mode": b"%o" % stat.S_IMODE(status.st_mode)}
    if os.geteuid() == 0:
        options |= {b"uid": b"%d" % status.st_uid, b"gid": b"%d" % status.st_gid}
    for option, value in options.items():
        _check(_libc.syscall(_FSCONFIG, context, _SET_STRING, option, value, 0))
    _check(_libc.syscall(_FSCONFIG, context, _CREATE, None, None, 0))
    view = _check(_libc.syscall(_FSMOUNT, context, 1, 0))
    os.close(context)
    _attach(view, directory)
    if directory == "/":
        os.fchdir(view)
        os.chroot(".")
    for name, mode, shown in entries:
        if isinstance(shown, str):
            os.symlink(shown, name, dir_fd=view)
            continue
        _make_below(os.dup(view), [name], stat.S_ISDIR(mode))
        _attach(shown, name, view)
        os.close(shown)
    return view


def _clone(path: str, directory: int = -100) -> int:
    flags = _CLONE | _CLOEXEC | _WHOLE | (_NOFOLLOW if path else _EMPTY)
    return _check(_libc.syscall(_OPEN_TREE, directory, os.fsencode(path), flags))


def _attach(tree: int, target: str, directory: int | None = None) -> None:
    point = os.open(target, os.O_PATH, dir_fd=directory)
    _check(_libc.syscall(_MOVE_MOUNT, tree, b"", point, b"", _FROM_EMPTY | _TO_EMPTY))
    os.close(point)


def _set_read_only(tree: int, flags: int) -> None:
    attributes = _Attributes(set=_READ_ONLY)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    _check(_libc.syscall(_SETATTR, tree, b"", _EMPTY | flags, ctypes.byref(attributes), size))


def _check(result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result

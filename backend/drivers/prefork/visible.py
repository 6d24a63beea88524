"""What others see of this process in ``/proc``: its arguments, environment and name.

A forked process shows those of the process that it was forked from, and whoever looks for a task by them,
`ps`, an administrator or our own launcher, would not find it. The kernel takes others from anywhere in the
process's memory, given all at once (`prctl`, ``PR_SET_MM_MAP``), for which no privilege is needed.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_MM = 35
_PR_SET_MM_MAP = 14

# From proc(5): number of the field in /proc/self/stat, the first being 1.
_FIELDS = {
    "start_code": 26,
    "end_code": 27,
    "start_stack": 28,
    "start_data": 45,
    "end_data": 46,
    "start_brk": 47,
}


class _Map(ctypes.Structure):
    """The kernel's ``struct prctl_mm_map``."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("start_code", "end_code", "start_data", "end_data")),
        *((name, ctypes.c_uint64) for name in ("start_brk", "brk", "start_stack")),
        *((name, ctypes.c_uint64) for name in ("arg_start", "arg_end", "env_start", "env_end", "auxv")),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.sbrk.restype = ctypes.c_void_p
_libc.sbrk.argtypes = [ctypes.c_ssize_t]
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]


def show(arguments: Sequence[bytes], environment: Sequence[bytes], name: bytes) -> None:
    """Show these arguments, this environment (``NAME=value``) and this name, cut to 15 bytes.

    Raises
    ------
    OSError
        If the kernel does not let us (it has no ``CONFIG_CHECKPOINT_RESTORE``). Nothing is changed then.
    """
    shown_arguments = b"".join(argument + b"\0" for argument in arguments)
    shown_environment = b"".join(variable + b"\0" for variable in environment)
    start = _keep(shown_arguments + shown_environment)
    end = start + len(shown_arguments)
    # What is in it apart from these stays as it is; the fields that are not told here are not ours to change.
    wanted = _Map(
        **_read_fields(),
        arg_start=start,
        arg_end=end,
        env_start=end,
        env_end=end + len(shown_environment),
        exe_fd=0xFFFFFFFF,
    )
    reference, size = ctypes.byref(wanted), ctypes.c_ulong(ctypes.sizeof(wanted))
    # Last, since what is done in between may move it.
    wanted.brk = _libc.sbrk(0)
    _check(_libc.prctl(_PR_SET_MM, ctypes.c_ulong(_PR_SET_MM_MAP), reference, size, ctypes.c_ulong(0)))
    _check(_libc.prctl(_PR_SET_NAME, name[:15] + b"\0", 0, 0, 0))


def show_own_files() -> None:
    """Give this process's account its files in ``/proc``, as exec would; changing the account took them."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0))


def end_with_parent(signum: int) -> None:
    """Have a signal sent to this process when its parent ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0))


def _keep(content: bytes) -> int:
    """Return the address of a copy that stays for as long as the process."""
    read_write, private_anonymous = 0x1 | 0x2, 0x02 | 0x20
    address = _libc.mmap(None, max(len(content), 1), read_write, private_anonymous, -1, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        _check(-1)
    ctypes.memmove(address, content, len(content))
    return int(address)


def _read_fields() -> dict[str, int]:
    with open("/proc/self/stat", "rb") as file:
        stat = file.read()
    fields = stat[stat.rindex(b")") + 2 :].split()
    return {name: int(fields[number - 3]) for name, number in _FIELDS.items()}


def _check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))

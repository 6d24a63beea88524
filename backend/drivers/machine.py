"""What this machine has: processors and memory within our control group's limits, disk, free ports."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import shutil
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

MIB = 1 << 20
_TRIES_PER_TURN = 100
_CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus() -> float:
    """Return the processors that our processes may use, by affinity and by control group quota."""
    cpus = float(len(os.sched_getaffinity(0)))
    for directory in _control_groups("cpu"):
        # cgroup v2: "max 100000" or "150000 100000"; v1: two files, and a quota of -1 for none.
        quota, _, period = _read(directory / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(directory / "cpu.cfs_quota_us"), _read(directory / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            cpus = min(cpus, int(quota) / int(period))
    return cpus


def usable_memory() -> float:
    """Return the memory, in MiB, that our processes may use: the machine's, or a control group's limit."""
    memory = int(psutil.virtual_memory().total)
    for directory in _control_groups("memory"):
        limit = _read(directory / "memory.max") or _read(directory / "memory.limit_in_bytes")
        if limit.isdigit():
            memory = min(memory, int(limit))
    return memory / MIB


def free_disk(path: Path) -> float:
    """Return the free disk space, in MiB, of the file system that holds a directory."""
    return shutil.disk_usage(path).free / MIB


async def find_free_ports(
    host: str, count: int, port_range: tuple[int, int], reserved: frozenset[int]
) -> list[int]:
    """Return up to `count` TCP ports that nobody listens on, in no particular order.

    Parameters
    ----------
    host
        Name or address that tasks are reached at. A port counts as free if
        it can be bound on it and on all addresses. If it is none of this
        machine's own (behind NAT, say), all addresses must do.
    port_range
        The first port and the last one.
    reserved
        Ports to leave out.
    """
    addresses = await _addresses(host)
    candidates = [port for port in range(port_range[0], port_range[1] + 1) if port not in reserved]
    # At random, so that a port just given up is not the next one given out.
    random.shuffle(candidates)
    free: list[int] = []
    for tried, port in enumerate(candidates, 1):
        if len(free) >= count:
            break
        if _is_free(port, addresses):
            free.append(port)
        if tried % _TRIES_PER_TURN == 0:
            await asyncio.sleep(0)
    return free


async def find_taken_ports(host: str, ports: Iterable[int]) -> set[int]:
    """Return which of some TCP ports somebody holds, seen as in `find_free_ports`."""
    addresses = await _addresses(host)
    return {port for port in ports if not _is_free(port, addresses)}


async def _addresses(host: str) -> list[tuple[int, Any]]:
    """Return what a port must be free on: all addresses, and those of a host."""
    addresses: list[tuple[int, Any]] = [(socket.AF_INET, ("0.0.0.0", 0))]  # noqa: S104 - never listened on
    try:
        for family, _, _, _, address in await asyncio.get_running_loop().getaddrinfo(
            host, None, type=socket.SOCK_STREAM
        ):
            addresses.append((family, address))
    except socket.gaierror:
        pass  # not a name that this machine can resolve, so not an address that it has
    return addresses


def _is_free(port: int, addresses: Iterable[tuple[int, Any]]) -> bool:
    return all(_can_bind(family, (address[0], port, *address[2:])) for family, address in addresses)


def _can_bind(family: int, address: tuple[object, ...]) -> bool:
    # Without SO_REUSEADDR, since the task may not set it: a port on which connections linger is not free.
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(address)
        except OSError as error:
            return error.errno == errno.EADDRNOTAVAIL
    return True


def _control_groups(controller: str) -> Iterator[Path]:
    """Yield the directories whose limits bind this process, from its own control group up to the root."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        # In a container the path may be the host's, of which only the root is to be seen here.
        relative = Path(path.lstrip("/"))
        for directory in (relative, *relative.parents):
            yield _CGROUPS / controllers / directory


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""

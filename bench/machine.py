"""On what it was measured: the machine, what else it did meanwhile, and the versions of what took part."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PACKAGES = (
    *("hubfleet", "jupyterhub", "jupyter-server", "jupyterlab", "configurable-http-proxy", "tornado"),
    *("pydantic", "requests", "SQLAlchemy", "dask", "distributed", "marathon"),
)
"""What every script may measure; those that measure others add their versions (`Part.measured_with`)."""


def about_the_machine() -> dict[str, Any]:
    """Return what the figures of a machine depend on."""
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": processor,
        "processors": len(os.sched_getaffinity(0)),
        "memory": f"{memory / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "cgroups": cgroup_version(),
    }


def cgroup_version(mounted: Path = Path("/sys/fs/cgroup")) -> str:
    """Return which version of control groups the machine has: v2, v1, both or none."""
    if (mounted / "cgroup.controllers").exists():
        return "v2"
    if (mounted / "unified" / "cgroup.controllers").exists():
        return "v1 and v2"
    return "v1" if (mounted / "memory").exists() else "none"


def cpu_of(pid: int) -> float:
    """Return the processor seconds that a process has used, without its children.

    Its own clock, as `clock_getcpuclockid` names it, which is finer than the ticks of 10 ms in /proc.
    """
    return time.clock_gettime((~pid << 3) | 2)


def versions_of(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of those packages that this Python has."""
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def versions() -> dict[str, str]:
    """Return the versions of Python, of SQLite and of the packages that every script may measure."""
    return {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version, **versions_of()}


def load() -> float:
    """Return how many processes wanted a processor over the last minute."""
    return round(os.getloadavg()[0], 1)


def busy_seconds(stat: str | None = None) -> tuple[float, float]:
    """Return the processor seconds that the machine has used since it started, and those it was denied.

    Those that it was denied are the time that a host gave to its other machines (``steal``).

    Parameters
    ----------
    stat
        The text of ``/proc/stat``, else read.
    """
    words = (stat or Path("/proc/stat").read_text()).split("\n", 1)[0].split()[1:9]
    user, nice, system, _idle, _wait, irq, softirq, steal = (int(word) for word in words)
    tick = os.sysconf("SC_CLK_TCK")
    return (user + nice + system + irq + softirq) / tick, steal / tick

"""Which control groups can be used here, found out by trying; and what killed launchers left of theirs.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from .cgroups import CONTROLLERS, PREFIX, TRACKERS, UNIFIED, Groups, attempt, children, read, remove_tree

_HOLD_TRIES, _HOLD_PAUSE_SECONDS = 100, 0.01


def find_groups(state_dir: int, log: Callable[[str], None]) -> Groups:
    """Return the groups that can be used for the tasks of a state directory, found out by trying.

    Parameters
    ----------
    state_dir
        Descriptor of the state directory.
    log
        Called with a sentence about what a person should know.
    """
    status = os.fstat(state_dir)
    name = f"{PREFIX}{status.st_dev:x}-{status.st_ino:x}"
    groups = Groups({})
    for controllers, unified, own in _hierarchies():
        if UNIFIED in groups.bases and not set(controllers) & set(CONTROLLERS):
            continue
        wanted = [each for each in controllers if each in CONTROLLERS or each in TRACKERS]
        if not wanted and not unified:
            continue
        for parent in _parents(own) if unified else [own]:
            _sweep_abandoned(parent, name)
            base = os.path.join(parent, name)
            try:
                if not _hold(groups, base):
                    log(f"The control group {base} belongs to another launcher and is left to it.")
                    continue
                usable = _prepare(parent, base, wanted, unified)
                if not usable or not _try_out(base):
                    remove_tree(base)
                    continue
            except OSError:
                continue
            for controller in usable:
                groups.bases.setdefault(controller, base)
            break
    if "cpu" in groups.bases:
        _weigh(groups.bases["cpu"])
    return groups


def _hold(groups: Groups, base: str) -> bool:
    """Make a base and keep it; until then whoever sweeps may have it for a moment, and remove it."""
    for _ in range(_HOLD_TRIES):
        os.makedirs(base, exist_ok=True)
        try:
            if groups.hold(base):
                return True
        except FileNotFoundError:
            pass
        time.sleep(_HOLD_PAUSE_SECONDS)
    return False


def _prepare(parent: str, base: str, wanted: list[str], unified: bool) -> list[str]:
    """Return the controllers that the groups in a base have."""
    if not unified:
        return wanted
    for directory in (parent, base):
        for name in wanted:
            # Refused where processes are in the group itself, as they are without delegation.
            attempt(os.path.join(directory, "cgroup.subtree_control"), f"+{name}")
    return [UNIFIED, *(set(wanted) & set(read(os.path.join(base, "cgroup.subtree_control")).split()))]


def _try_out(base: str) -> bool:
    """Whether a process can be put into a group there."""
    trial = os.path.join(base, "trial")
    os.makedirs(trial, exist_ok=True)
    try:
        child = os.fork()
        if child == 0:
            os._exit(0 if attempt(os.path.join(trial, "cgroup.procs"), "0") else 1)
        return os.waitpid(child, 0)[1] == 0
    finally:
        os.rmdir(trial)


def _weigh(base: str) -> None:
    """Let all tasks together weigh what the machine has, against what runs beside our own group."""
    cpus = len(os.sched_getaffinity(0))
    if not attempt(os.path.join(base, "cpu.weight"), str(min(10000, cpus * 100))):
        attempt(os.path.join(base, "cpu.shares"), str(min(262144, cpus * 1024)))


def _hierarchies() -> list[tuple[list[str], bool, str]]:
    """Return each hierarchy's controllers, whether it is version 2, and our own group's directory."""
    own = {}
    for line in read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    found = []
    for line in read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        root, mounted = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            directory = _within(mounted, root, own.get("", "/"))
            found.append((read(os.path.join(directory, "cgroup.controllers")).split(), True, directory))
        elif kind == "cgroup":
            for controllers, path in own.items():
                names = controllers.split(",")
                if controllers and set(names) <= set(options.split(",")):
                    found.append((names, False, _within(mounted, root, path)))
    # Version 2 first: what it has is not looked for elsewhere.
    return sorted(found, key=lambda hierarchy: not hierarchy[1])


def _within(mounted: str, root: str, path: str) -> str:
    """Return where a group's path is seen; in a container only the container's own part may be."""
    inside = path[len(root) :] if path == root or path.startswith(root.rstrip("/") + "/") else "/"
    directory = os.path.join(mounted, inside.lstrip("/"))
    return directory.rstrip("/") if os.path.isdir(directory) else mounted


def _parents(own: str) -> list[str]:
    """Return where groups may be made: in ours, or beside it where that has been delegated to us.

    ``systemd`` says so by an attribute; that our group is a leaf of what was delegated is what
    ``DelegateSubgroup=`` is for.
    """
    above = os.path.dirname(own)
    for attribute in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(above, attribute) == b"1":
                return [above, own]
        except OSError:
            pass
    return [own]


def _sweep_abandoned(parent: str, own: str) -> None:
    """Remove the empty groups of launchers that were killed and whose state is gone."""
    for name in os.listdir(parent) if os.path.isdir(parent) else ():
        base = os.path.join(parent, name)
        if name.startswith(PREFIX) and name != own and os.path.isdir(base):
            other = Groups({})
            try:
                if other.hold(base):
                    for child in children(base):
                        remove_tree(os.path.join(base, child))
                    os.rmdir(base)
            except OSError:
                pass  # its tasks still run, or it is not ours
            finally:
                other.let_go()


def sweep_abandoned() -> None:
    """Remove all empty groups that killed launchers have left."""
    for _, _, own in _hierarchies():
        _sweep_abandoned(own, "")

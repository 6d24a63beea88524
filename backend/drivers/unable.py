"""What processes of one machine cannot give an app, and which driver could. Pure.

Nothing is passed over in silence: what an app asks for and would not get is refused. What
makes no difference here is taken: an executor's resources (there is no executor), the
unreachable strategy (this machine is never lost to itself), `MESOS_` health checks (probed
as the others are).
"""

from __future__ import annotations

from collections.abc import Iterator

from hubfleet.api.app import App, HostVolume
from hubfleet.api.rules import Violation

_ELSEWHERE = "the drivers for Docker Swarm and Nomad could, and Marathon"
_MARATHON = "Marathon could"


NO_MOUNTS = (
    "this machine lets the process driver mount nothing: that takes Linux 5.12, and root or user namespaces"
)


def not_given_to_processes(app: App, *, mounts: bool = True) -> list[Violation]:
    """Return what plain processes cannot give an app, all of it.

    Parameters
    ----------
    mounts
        Whether tasks can have mount namespaces here.
    """
    return [*_container(app), *_volumes(app, mounts), *_surroundings(app)]


def _container(app: App) -> Iterator[Violation]:
    container = app.container
    if container is None:
        return
    if container.docker is not None:
        yield Violation(
            "/container/docker",
            f"the process driver runs commands of this machine and no images; {_ELSEWHERE}",
        )
    elif app.cmd is None and not app.args:
        yield Violation("/", "without an image there must be a command: give 'cmd' or 'args'")
    if container.linux_info is not None:
        yield Violation(
            "/container/linuxInfo", f"the process driver confines no system calls or memory; {_MARATHON}"
        )


def _volumes(app: App, mounts: bool) -> Iterator[Violation]:
    volumes = [] if app.container is None else app.container.volumes
    if volumes and not mounts:
        yield Violation("/container/volumes", f"{NO_MOUNTS}; {_ELSEWHERE}")
        return
    for index, volume in enumerate(volumes):
        path = f"/container/volumes({index})"
        if not isinstance(volume, HostVolume):
            yield Violation(
                path, f"the process driver makes no volumes of its own, it has only host paths; {_MARATHON}"
            )
        elif not volume.host_path.startswith("/"):
            yield Violation(f"{path}/hostPath", "must be absolute: there is nothing it could be relative to")


def _surroundings(app: App) -> Iterator[Violation]:
    if not app.on_host_network:
        yield Violation("/networks", f"the process driver knows only the host's own network; {_ELSEWHERE}")
    if app.secrets or any(not isinstance(value, str) for value in app.env.values()):
        yield Violation(
            "/secrets", f"the process driver has no store of secrets; give their values in 'env'; {_MARATHON}"
        )
    limits = app.resource_limits
    if limits is not None and limits.mem is not None and limits.mem != app.mem:
        yield Violation(
            "/resourceLimits/mem",
            f"the process driver holds a task to its 'mem', for the others' sake; ask for more; {_MARATHON}",
        )
    if limits is not None and isinstance(limits.cpus, float):
        yield Violation(
            "/resourceLimits/cpus",
            "the process driver parts cpus by shares, and leaves to a task what nobody else uses; "
            f'ask for "unlimited"; {_MARATHON}',
        )
    if app.executor not in ("", "//cmd"):
        yield Violation(
            "/executor", f"the process driver runs commands itself, without executors; {_MARATHON}"
        )
    if app.tty:
        yield Violation("/tty", f"the process driver gives tasks no terminal; {_ELSEWHERE}")
    if app.check is not None:
        yield Violation(
            "/check",
            "the process driver makes no checks that are only told of: nothing would follow from one, and "
            "older clients (the Python package marathon) cannot read an app that has one; use healthChecks, "
            f"with maxConsecutiveFailures 0 to kill nothing; {_MARATHON}",
        )

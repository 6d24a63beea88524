"""A server's app, from values alone: no I/O, no hub, so that it can be read and tested by itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from shlex import quote
from typing import Any

from hubfleet.api import environment, labels
from hubfleet.api.app import (
    App,
    Container,
    Docker,
    HealthCheck,
    Network,
    PortDefinition,
    UnreachableStrategy,
    UpgradeStrategy,
)
from hubfleet.api.ids import dask_path, segment, server_app_id

from .options import Choice

PORT_NAME = "notebook"
# Jupyter Server ends its kernels on SIGTERM; Mesos' own 3 s are not enough for several.
KILL_GRACE_SECONDS = 10

# The first character rules out "." and "..", "--x-" what `segment` may return: so a name that
# is kept never meets one that was replaced.
_PLAIN_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*")


@dataclass(frozen=True, kw_only=True)
class Server:
    """All that decides a server's app.

    Parameters
    ----------
    prefix, user, server, hub_id
        Whose server it is: first part of the app id, the names as the hub has them
        (the server's is empty for the default one), and the hub's own mark.
    command
        Program and arguments; no shell reads them.
    base_path
        Path of the server's URLs, such as ``/user/alice/``.
    choice
        Resources and image.
    env
        Environment; values of None are left out.
    listen_ip
        Address that the server binds; empty for all.
    home_dir
        Directory that is made, entered and given as ``HOME``; empty for the backend's sandbox.
    root_dir
        Directory that the server shows, to be made as well; empty for the home.
    health_failures
        After so many failed health checks in a row the backend replaces the task; 0 for never.
    """

    prefix: str
    user: str
    server: str
    hub_id: str
    command: Sequence[str]
    base_path: str
    choice: Choice
    env: Mapping[str, Any] = field(default_factory=dict)
    listen_ip: str = ""
    home_dir: str = ""
    root_dir: str = ""
    volumes: Sequence[Mapping[str, Any]] = ()
    constraints: Sequence[Sequence[Any]] = ()
    unreachable_strategy: Mapping[str, Any] | str | None = None
    run_as: str | None = None
    health_failures: int = 0

    @property
    def app_id(self) -> str:
        """The id of the server's app."""
        return server_app_id(self.prefix, self.user, self.server)

    @property
    def labels(self) -> dict[str, str]:
        """The labels that tie the app to this hub, user and server."""
        return self.marks(self.hub_id, self.user, self.server)

    @staticmethod
    def marks(hub_id: str, user: str, server: str) -> dict[str, str]:
        """Return the labels by which a hub knows the app of a user's server again."""
        return {labels.HUB: hub_id, labels.USER: user, labels.SERVER: server}


def build_app(server: Server) -> App:
    """Return the app that runs a server.

    Raises
    ------
    ValueError
        The configuration makes no legal app; the message says which part.
    """
    return App(
        id=server.app_id,
        cmd=shell_line(server.command, server.listen_ip, server.home_dir, server.root_dir),
        cpus=server.choice.cpu,
        mem=server.choice.mem,
        disk=server.choice.disk,
        gpus=server.choice.gpu,
        instances=1,
        user=server.run_as,
        env={name: str(value) for name, value in server.env.items() if value is not None},
        labels=server.labels,
        constraints=[[str(part) for part in constraint] for constraint in server.constraints],
        container=_container(server),
        networks=[Network(mode="host")],
        port_definitions=[PortDefinition(port=0, name=PORT_NAME)],
        health_checks=[
            HealthCheck(
                protocol="HTTP",
                path=api_path(server.base_path),
                port_index=0,
                grace_period_seconds=300,
                interval_seconds=10,
                timeout_seconds=20,
                max_consecutive_failures=server.health_failures,
            )
        ],
        # Two servers of one user must not run side by side on one home: the old ends first.
        upgrade_strategy=UpgradeStrategy(minimum_health_capacity=0, maximum_over_capacity=0),
        task_kill_grace_period_seconds=KILL_GRACE_SECONDS,
        **_unreachable(server.unreachable_strategy),
    )


def api_path(base_path: str) -> str:
    """Return the path that a Jupyter server answers without a login."""
    return base_path.rstrip("/") + "/api"


def shell_line(command: Sequence[str], listen_ip: str = "", home_dir: str = "", root_dir: str = "") -> str:
    """Return what ``/bin/sh -c`` runs in the sandbox: make the directories, then become the server.

    The only thing that the shell expands is ``$PORT0``, the port that the backend gave
    the task; the command line is where jupyterhub-singleuser lets it win over
    ``JUPYTERHUB_SERVICE_URL``, which is written before any port is known.

    Raises
    ------
    ValueError
        The command is empty, or a directory is not one that can be made.
    """
    if not command:
        raise ValueError("c.Spawner.cmd is empty; it names the program of the server")
    if home_dir and not home_dir.startswith("/"):
        raise ValueError(f"c.MarathonSpawner.home_dir is a path from the root, got {home_dir!r}")
    steps = [
        f"mkdir -p -m 0700 -- {_shell_path(path)}"
        for path in dict.fromkeys([home_dir, root_dir])
        if path and (path == "~" or not re.match(r"~[^/]", path))
    ]
    if home_dir:
        steps.append(f"cd -- {_shell_path(home_dir)}")
    words = ["exec", *map(quote, command)]
    if listen_ip:
        words.append(f"--ip={quote(listen_ip)}")
    words.append("--port=$PORT0")
    line = " && ".join([*steps, " ".join(words)])
    if "\0" in line:
        raise ValueError("neither the server's command nor its directories may hold a NUL character")
    return line


def _shell_path(path: str) -> str:
    if path == "~":
        return '"$HOME"'
    return f'"$HOME"/{quote(path[2:])}' if path.startswith("~/") else quote(path)


def path_part(value: str) -> str:
    """Return one part of a path, or the name of a volume, that stands for a text and for no other.

    A text that is harmless as it stands is kept (``alice``, ``alice@example.org``);
    any other becomes its `segment`, so that none climbs (``..``, ``/``) or meets another.
    """
    if _PLAIN_PART.fullmatch(value) and "--x-" not in value:
        return value
    return segment(value) if value else ""


def path_namespace(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template's names with each text made a `path_part`."""
    return {name: path_part(value) if isinstance(value, str) else value for name, value in namespace.items()}


def format_volumes(
    volumes: Sequence[Mapping[str, Any]], format_name: Callable[[str], str]
) -> list[dict[str, Any]]:
    """Return Marathon volume objects whose paths and external name are filled in."""
    formatted = []
    for volume in volumes:
        copy = dict(volume)
        for key in ("containerPath", "hostPath"):
            if copy.get(key):
                copy[key] = format_name(copy[key])
        if isinstance(copy.get("external"), Mapping) and copy["external"].get("name"):
            copy["external"] = {**copy["external"], "name": format_name(copy["external"]["name"])}
        formatted.append(copy)
    return formatted


def backend_env(prefix: str, user: str, urls: str) -> dict[str, str]:
    """Return the variables by which a server finds the backend and its own place there."""
    return {environment.BACKEND_URL: urls, environment.DASK_GROUP: dask_path(prefix, user)}


def _container(server: Server) -> Container | None:
    volumes = [dict(volume) for volume in server.volumes]
    image, force = server.choice.image, server.choice.force_pull
    docker = Docker(image=image, force_pull_image=force) if image else None
    container = Container.from_wire({"type": "MESOS", "volumes": volumes})
    return container.model_copy(update={"docker": docker}) if docker or volumes else None


def _unreachable(strategy: Mapping[str, Any] | str | None) -> dict[str, Any]:
    if strategy is None:
        return {}
    if isinstance(strategy, Mapping):
        return {"unreachable_strategy": UnreachableStrategy.from_wire(strategy)}
    return {"unreachable_strategy": strategy}

"""The configuration of a server's app beyond its resources: network, files, checks, and the last word."""

from __future__ import annotations

from typing import Any

from traitlets import Callable, CaselessStrEnum, Dict, HasTraits, Integer, List, Unicode, Union, default

from .build import ONE_AT_A_TIME
from .ports import MODES, Ports


class NetworkTraits(HasTraits):
    """Where a server listens, and what else does."""

    network_mode = CaselessStrEnum(
        list(MODES),
        help="""
        The network of the servers: ``HOST``, ``BRIDGE`` or ``CONTAINER`` (also ``USER``, as Docker had it).

        On the host's network a server listens at the port that the scheduler gives it (``$PORT0``), or at
        `Spawner.port`. In a container it listens at the first of `ports`, to which the scheduler maps
        a port of the host. ``CONTAINER`` takes a `network_name`.

        Default: ``HOST``; ``BRIDGE`` if `ports` is set, which means nothing on the host's network.
        """,
    ).tag(config=True)

    @default("network_mode")
    def _bridge_for_ports(self) -> str:
        return "BRIDGE" if self.ports else "HOST"

    network_name = Unicode(
        help="""
        Name of the network that the containers join, with `network_mode` ``CONTAINER``.

        Example::

            c.MarathonSpawner.network_mode = "CONTAINER"
            c.MarathonSpawner.network_name = "dcos"
        """,
    ).tag(config=True)

    ports = List(
        Integer(min=1, max=65535),
        help="""
        Ports inside the container; the server listens at the first. Only in a container's network.

        Default: 8888, or `Spawner.port` where that is set.

        Example::

            c.MarathonSpawner.ports = [8888, 22]
        """,
    ).tag(config=True)

    extra_ports = Dict(
        key_trait=Unicode(),
        value_trait=Integer(min=0, max=65535),
        help="""
        Further ports of each server by name, such as for a Dask scheduler in a notebook.

        0 lets the scheduler choose. The backend tells the server each as ``$PORT_<NAME>``, in capitals.

        Example::

            c.MarathonSpawner.extra_ports = {"scheduler": 0, "dashboard": 0}
        """,
    ).tag(config=True)

    @property
    def server_ports(self) -> Ports:
        """The network and ports of this server."""
        spawner: Any = self  # which has the port from JupyterHub
        return Ports(
            mode=MODES[self.network_mode.upper()],
            network=self.network_name,
            port=spawner.port or (self.ports[0] if self.ports and self.network_mode != "HOST" else 0),
            further=self.ports[1:],
            named=self.extra_ports,
        )


class AppTraits(NetworkTraits):
    """What else an app has."""

    container_type = CaselessStrEnum(
        ["MESOS", "DOCKER"],
        default_value="MESOS",
        help="""
        Which of Marathon's containers runs an image: Mesos' own, or Docker's.

        Marathonspawner 0.4.0 used ``DOCKER``.
        """,
    ).tag(config=True)

    app_labels = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="""
        Labels of each server's app. Every name of the template namespace may be used in the values.

        Labels that hubfleet itself sets (``HUBFLEET_…``) go before them.

        Example::

            c.MarathonSpawner.app_labels = {"team": "physics", "owner": "{username}"}
        """,
    ).tag(config=True)

    fetch = List(
        Union([Unicode(), Dict()]),
        help="""
        What is fetched into the sandbox before a server starts: addresses, or Marathon's fetch objects.

        Archives are unpacked. Every name of the template namespace may be used in an address, and is made
        safe as a part of one.

        Example::

            c.MarathonSpawner.fetch = [
                "https://example.org/course.tar.gz",
                {"uri": "https://example.org/{username}/start.sh", "executable": True, "extract": False},
            ]
        """,
    ).tag(config=True)

    secrets = Dict(
        help="""
        Marathon's secrets that servers may use: a name for the app, and where the value comes from.

        Names of the template namespace are made safe as a part of a path. A variable of `environment`
        takes the value by ``{"secret": name}``, a file of `volumes` by ``"secret": name``.

        Example::

            c.MarathonSpawner.secrets = {"database": {"source": "/jupyter/{username}/database"}}
            c.MarathonSpawner.environment = {"DATABASE": {"secret": "database"}}
        """,
    ).tag(config=True)

    upgrade_strategy = Dict(
        ONE_AT_A_TIME,
        help="""
        Marathon's upgradeStrategy: how a changed app is replaced.

        Default: the old server ends before the new one starts, since both have the same home.
        """,
    ).tag(config=True)

    health_check_interval = Integer(
        10, min=1, help="Seconds between two health checks of a server by the backend."
    ).tag(config=True)

    health_check_timeout = Integer(20, min=1, help="Seconds that a server has to answer a health check.").tag(
        config=True
    )

    health_check_grace = Integer(
        300, min=0, help="Seconds after its start during which a server's failed health checks do not count."
    ).tag(config=True)

    health_checks = List(
        Dict(),
        default_value=None,
        allow_none=True,
        help="""
        Marathon's health checks in place of hubfleet's own, or an empty list for none.

        Default: an HTTP request for the server's ``api`` at its first port; with `JupyterHub.internal_ssl`
        a TCP connection, since the server then answers only who has a certificate of the hub.

        Example::

            c.MarathonSpawner.health_checks = [{"protocol": "TCP", "portIndex": 0, "intervalSeconds": 30}]
        """,
    ).tag(config=True)

    readiness_checks = List(
        Dict(),
        help="""
        Marathon's readiness checks, which say when a server counts in its deployment.

        The hub does not wait for them: it takes a server for started when it answers.

        Example::

            c.MarathonSpawner.readiness_checks = [{"portName": "notebook", "path": "/"}]
        """,
    ).tag(config=True)

    certs_dir = Unicode(
        help="""
        Directory, shared by the hub and the servers' machines, for certificates (`JupyterHub.internal_ssl`).

        A server finds its own in ``<certs_dir>/<app id>``, as files of mode 0600 that belong to its account
        (`mesos_user`). The hub has to own the directory.

        Default: none is needed with hubfleet's own backend, where certificates travel as the server's token
        does. Marathon shows an app's environment to all who may list apps, so it takes this directory.
        """,
    ).tag(config=True)

    extra_app_config = Dict(
        help="""
        What is merged into the app before it is submitted, in Marathon's JSON.

        The rule is that of JSON Merge Patch (RFC 7396): an object is merged name by name, at any depth; None
        removes; everything else, lists among it, takes the place of what was there. The id, ``instances``
        and hubfleet's labels cannot be changed. Nothing is replaced by templates here.

        Example::

            c.MarathonSpawner.extra_app_config = {
                "taskKillGracePeriodSeconds": 60,
                "container": {"docker": {"parameters": [{"key": "shm-size", "value": "1g"}]}},
                "backoffFactor": None,
            }
        """,
    ).tag(config=True)

    modify_app_hook = Callable(
        None,
        allow_none=True,
        help="""
        Function of the spawner and its app (`hubfleet.api.app.App`), called last before the app is submitted.

        It may change the app, or return another, or the JSON of one; it may be async. The id, ``instances``
        and hubfleet's labels cannot be changed.

        Example::

            async def more_for_physics(spawner, app):
                if any(group.name == "physics" for group in spawner.user.groups):
                    app.labels["queue"] = "physics"

            c.MarathonSpawner.modify_app_hook = more_for_physics
        """,
    ).tag(config=True)

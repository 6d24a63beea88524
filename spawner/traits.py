"""The configuration of `MarathonSpawner`: the old class's traits, mended, and those of the backend."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from traitlets import Any as AnyTrait
from traitlets import Bool, Callable, Dict, Float, HasTraits, Integer, List, Unicode, Union, default

from .options import LEAST_CPU, LEAST_DISK, LEAST_MEM, Offer, Range

MIB = 2**20


class BackendTraits(HasTraits):
    """Where the backend is, and as whom the hub speaks to it."""

    marathon_host = Union(
        [Unicode(), List(Unicode())],
        default_value="",
        help="""
        Address of the Marathon API that runs the servers.

        Several addresses, as a list or separated by commas, are tried in their order
        when one does not answer.

        Example::

            c.MarathonSpawner.marathon_host = "http://127.0.0.1:8081"
            c.MarathonSpawner.marathon_host = ["https://m1.example.org", "https://m2.example.org"]
        """,
    ).tag(config=True)

    marathon_token = Unicode(
        help="""
        Token by which the hub is let in at the backend (``Authorization: token=<token>``).

        Default: the environment variable HUBFLEET_BACKEND_TOKEN.
        """,
    ).tag(config=True)

    @default("marathon_token")
    def _marathon_token_of_environment(self) -> str:
        return os.environ.get("HUBFLEET_BACKEND_TOKEN", "")

    other_backends = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="""
        Further backends on which servers may run: the address of each, and the hub's token there.

        Which one a server runs on is decided by `marathon_host`, which profiles, `user_overrides` and
        `group_overrides` may override with one of these addresses. The hub remembers it for each server.

        Example::

            c.MarathonSpawner.marathon_host = "http://127.0.0.1:8090"
            c.MarathonSpawner.other_backends = {"http://gpus.example.org:8090": "..."}
            c.MarathonSpawner.profile_list = [
                {"display_name": "Small"},
                {
                    "display_name": "GPU",
                    "overrides": {"marathon_host": "http://gpus.example.org:8090", "gpu": 1, "max_gpu": 1},
                },
            ]
        """,
    ).tag(config=True)

    marathon_username = Unicode(help="User name for basic authentication, in place of a token.").tag(
        config=True
    )

    marathon_password = Unicode(help="Password for basic authentication, in place of a token.").tag(
        config=True
    )

    marathon_verify = Union(
        [Bool(), Unicode()],
        default_value=True,
        help="""
        Whether the backend's certificate is verified, or the path of the CA file that it is verified with.
        """,
    ).tag(config=True)

    marathon_client_cert = Unicode(
        help="""
        Path of the certificate (PEM) that the hub shows to a backend which asks its clients for one.

        The file holds the key as well, or `marathon_client_key` names it. Servers are given neither: a user
        who is to start Dask workers at such a backend needs an address of it that asks for no certificate
        (`backend_connect_url`).
        """,
    ).tag(config=True)

    marathon_client_key = Unicode(
        help="Path of the key of `marathon_client_cert`, if it is not in the same file. It has no password.",
    ).tag(config=True)

    marathon_timeout = Float(
        10.0,
        min=0.1,
        help="Seconds that the hub waits for a connection to the backend, and for each of its answers.",
    ).tag(config=True)

    share_backend = Bool(
        True,
        help="""
        Whether servers are told where the backend is, so that users can start Dask workers there.

        They get its address and the group of apps that is theirs (HUBFLEET_URL, HUBFLEET_DASK_GROUP);
        what they may do there is the backend's decision, by their server's own hub token.
        No credential of the hub is ever handed on.
        """,
    ).tag(config=True)

    backend_connect_url = Unicode(
        help="""
        Address of the backend as the servers reach it, if that is not `marathon_host`.
        """,
    ).tag(config=True)


class ServerTraits(HasTraits):
    """What a server's app is made of."""

    app_prefix = Unicode(
        "jupyter",
        help="""
        First part of all app ids: ``/<app_prefix>/<user>/notebook``, and for named servers
        ``/<app_prefix>/<user>/servers/<name>``.

        Each hub that shares a backend with others needs its own.
        """,
    ).tag(config=True)

    hub_id = Unicode(
        help="""
        The mark of this hub on its apps (label HUBFLEET_HUB).

        An app at a server's place is replaced only if it carries this mark, and the names of the user
        and the server.

        Default: a digest of the hub's cookie secret, the one thing that JupyterHub keeps over restarts and
        that no two hubs share; the secret cannot be computed from it. Set it before you change the cookie
        secret while servers run, or when several hub processes stand for the same hub.
        """,
    ).tag(config=True)

    app_image = Unicode(
        "",
        help="""
        Image that the servers run in; empty for none.

        The old spawner's default was ``jupyterhub/singleuser:<version>``. Here it is none, since the
        backend's process driver runs the command on the machine as it is.
        """,
    ).tag(config=True)

    home_dir = Unicode(
        "",
        help="""
        Home directory of the server's process, which is made (mode 0700) where the server runs.

        The server starts in it and has it as ``HOME``, so that notebooks outlive the server: the directory
        that the backend starts a task in is a throw-away one. It has to be a path from the root. Every name
        of the template namespace may be used, and each is made safe as a part of a path: an ordinary name
        stays as it is, any other (``..``, ``a/b``) becomes a text that no other user has.

        Default: empty; ``HOME`` is then what the backend or `environment` says.

        Example::

            c.MarathonSpawner.home_dir = "/srv/homes/{username}"
        """,
    ).tag(config=True)

    marathon_constraints = List(
        List(),
        help="""
        Marathon constraints that say where servers may run.

        Example::

            c.MarathonSpawner.marathon_constraints = [["rack", "GROUP_BY", "2"], ["disk", "LIKE", "ssd.*"]]
        """,
    ).tag(config=True)

    unreachable_strategy = AnyTrait(
        None,
        allow_none=True,
        help="""
        Marathon's unreachableStrategy: when a server on a lost machine is replaced.

        Either ``"disabled"`` or a dict; default: Marathon's own.

        Example::

            c.MarathonSpawner.unreachable_strategy = {
                "inactiveAfterSeconds": 300,
                "expungeAfterSeconds": 600,
            }
        """,
    ).tag(config=True)

    volumes = List(
        Dict(),
        help="""
        Marathon volume objects for the servers' containers.

        In ``containerPath``, ``hostPath`` and ``external.name`` every name of the template namespace may be
        used; `format_volume_name` fills them in.

        Example::

            c.MarathonSpawner.volumes = [
                {"containerPath": "/home/jovyan", "hostPath": "/srv/homes/{username}", "mode": "RW"}
            ]
        """,
    ).tag(config=True)

    format_volume_name = Callable(
        help="""
        Function of a template and the spawner that returns the path or name of a volume.

        Default: fills in the template namespace, each name made safe as a part of a path (see `home_dir`).
        """,
    ).tag(config=True)

    @default("format_volume_name")
    def _safe_volume_name(self) -> Any:
        return lambda template, spawner: spawner.format_path(template)

    cpu = Float(
        1.0,
        help="CPUs of a server, if its user asks for none; `cpu_limit` and `cpu_guarantee` go before it.",
    ).tag(config=True)

    max_cpu = Float(
        2.0, help="Most CPUs that a user may ask for; `cpu_limit`, where set, takes its place."
    ).tag(config=True)

    mem = Float(
        1024.0,
        help="MiB of memory, if the user asks for none; `mem_limit` and `mem_guarantee` go before it.",
    ).tag(config=True)

    max_mem = Float(
        4096.0, help="Most MiB of memory that a user may ask for; `mem_limit`, where set, takes its place."
    ).tag(config=True)

    disk = Float(
        None,
        allow_none=True,
        help="""
        MiB of a server's disk, if its user asks for none.

        Default: 5000 with an `app_image`; 0 without, where a server writes to the machine's own file systems.
        """,
    ).tag(config=True)

    max_disk = Float(20000.0, help="Most MiB of disk that a user may ask for.").tag(config=True)

    gpu = Integer(0, min=0, help="GPUs of a server, if its user asks for none.").tag(config=True)

    max_gpu = Integer(0, min=0, help="Most GPUs that a user may ask for.").tag(config=True)

    mesos_user = Unicode(
        None,
        allow_none=True,
        help="""
        System user that runs the server (the app's ``user``); default: the backend's own.

        JupyterHub's template names are replaced: ``"{username}"`` runs each server as the account
        of its user's name. The backend must then run as root, and refuses names without an account::

            c.MarathonSpawner.mesos_user = "{username}"
            c.MarathonSpawner.home_dir = "/home/{username}"

        A server that runs as root has to be told that it may, by ``c.Spawner.args = ["--allow-root"]``.
        """,
    ).tag(config=True)

    health_check_failures = Integer(
        0,
        min=0,
        help="""
        After how many failed health checks in a row, 10 seconds apart, the backend replaces the server.

        Default: 0 for never. A replaced server loses what its kernels had in memory, and one that does not
        answer may only be busy.
        """,
    ).tag(config=True)

    hub_ip_connect = Unicode(
        help="Deprecated: address of the hub as the servers reach it. Use `JupyterHub.hub_connect_url`.",
    ).tag(config=True)

    hub_port_connect = Integer(
        0,
        help="Deprecated: port of the hub as the servers reach it. Use `JupyterHub.hub_connect_url`.",
    ).tag(config=True)

    def offer(self) -> Offer:
        """Return what the user may choose; JupyterHub's limits and guarantees go before our traits."""
        spawner: Any = self  # which has them from JupyterHub
        mem_limit, mem_guarantee = (spawner.mem_limit or 0) / MIB, (spawner.mem_guarantee or 0) / MIB
        cpu_limit, cpu_guarantee = spawner.cpu_limit or 0, spawner.cpu_guarantee or 0
        disk = self.disk if self.disk is not None else 5000.0 if self.app_image else 0.0
        return Offer(
            cpu=Range(
                default=cpu_limit or max(self.cpu, cpu_guarantee),
                least=max(LEAST_CPU, cpu_guarantee),
                most=cpu_limit or self.max_cpu,
            ),
            mem=Range(
                default=mem_limit or max(self.mem, mem_guarantee),
                least=max(LEAST_MEM, mem_guarantee),
                most=mem_limit or self.max_mem,
                unit="MiB",
            ),
            disk=Range(
                default=disk, least=LEAST_DISK if self.app_image else 0, most=self.max_disk, unit="MiB"
            ),
            gpu=Range(default=self.gpu, least=0, most=self.max_gpu),
            image=self.app_image,
            allowed_images=spawner.named_images(),
            options=spawner.offered(),
            ignored=spawner.let_through(),
        )

    def act_on_deprecated_hub_address(self) -> None:
        """Make `hub_connect_url` of the deprecated address and port, unless it is set itself."""
        spawner: Any = self
        if spawner.hub_connect_url is not None or not (self.hub_ip_connect or self.hub_port_connect > 0):
            return
        url = urlsplit(spawner.hub.api_url)
        host = self.hub_ip_connect or url.hostname or ""
        port = self.hub_port_connect if self.hub_port_connect > 0 else url.port  # -1 was the old default
        netloc = f"[{host}]" if ":" in host else host
        spawner.hub_connect_url = urlunsplit((url.scheme, f"{netloc}:{port}" if port else netloc, "", "", ""))

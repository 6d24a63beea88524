"""What an administrator decides about a backend: the settings ``c.Backend.…``, each with its help.

To add a setting: a trait here, with help that stands alone, and its use in `service.py`.
"""

from __future__ import annotations

from traitlets import Bool, Enum, Float, Int, List, Unicode

from .config_limits import LimitSettings
from .config_tasks import TaskSettings
from .orchestrator.service_ports import RANGE
from .settings import HubApiUrl, PortRange, QuotaLimits, QuotasByName


class Backend(LimitSettings, TaskSettings):
    """The settings of `hubfleet backend`, from the file that it is given as --config.

    What is given on the command line has the last word.
    """

    ip = Unicode(
        "127.0.0.1",
        help="""Address on which the API listens.

        An empty one is every address of this machine. Tokens go over this connection: where others
        can listen in, put a proxy that speaks TLS before it.

            c.Backend.ip = "10.0.0.5"
        """,
    ).tag(config=True)

    port = Int(
        8090,
        min=0,
        max=65535,
        help="""Port on which the API listens; 0 takes a free one.

            c.Backend.port = 8080
        """,
    ).tag(config=True)

    state_dir = Unicode(
        ".hubfleet/backend",
        help="""Where the state and the tasks' sandboxes are kept.

        One backend has one. It must be on a local disk, since SQLite and Unix sockets live in it,
        and it is closed to other accounts.

            c.Backend.state_dir = "/var/lib/hubfleet"
        """,
    ).tag(config=True)

    hostname = Unicode(
        "127.0.0.1",
        help="""Address of this machine's tasks, as the hub and the users' servers reach it.

            c.Backend.hostname = "node1.example.org"
        """,
    ).tag(config=True)

    prefix = Unicode(
        "jupyter",
        help="""Group of the hub's apps.

        It is the spawner's `app_prefix`: the apps of the user alice are under /<prefix>/alice.

            c.Backend.prefix = "hub-of-physics"
        """,
    ).tag(config=True)

    hub_api_url = HubApiUrl(
        None,
        allow_none=True,
        help="""Address of the hub's API, which is asked whose a token is; None is the hub that starts this.

        Set it where something else than the hub starts the backend. Without it users' tokens, and so
        those of their notebooks, open nothing: servers start, but no Dask workers.

            c.Backend.hub_api_url = "http://127.0.0.1:8081/hub/api"
        """,
    ).tag(config=True)

    token_file = Unicode(
        None,
        allow_none=True,
        help="""File with administrators' tokens, one a line. Another comes from HUBFLEET_BACKEND_TOKEN.

        Where no token is given at all, one is made and kept in the file `token` of the state
        directory.

            c.Backend.token_file = "/etc/hubfleet/tokens"
        """,
    ).tag(config=True)

    admin_tokens = List(
        Unicode(),
        help="""Tokens whose holders may do everything, beside those of `token_file`.

        Each has at least 16 characters; `openssl rand -hex 32` makes a good one. Whoever reads the
        configuration file has them, so close it to others, or prefer `token_file`.

            c.Backend.admin_tokens = [os.environ["TOKEN_OF_THE_DEPLOY_JOB"]]
        """,
    ).tag(config=True)

    hub_tokens = List(
        Unicode(),
        help="""Tokens whose holders may do everything with the apps of the hub, those under /<prefix>.

        It is what a spawner needs. Where several hubs share a backend, give each its prefix's token
        in place of an administrator's. A hub's service or user with the scope custom:hubfleet:hub
        may do the same.

            c.Backend.hub_tokens = [os.environ["TOKEN_OF_THE_SPAWNER"]]
        """,
    ).tag(config=True)

    read_tokens = List(
        Unicode(),
        help="""Tokens whose holders see all apps, and change none.

        They see neither the environments of apps nor what tasks print, since both hold what would
        let the reader act as somebody else. A hub's service or user with the scope
        custom:hubfleet:read sees the same.

            c.Backend.read_tokens = [os.environ["TOKEN_OF_THE_DASHBOARD"]]
        """,
    ).tag(config=True)

    open_metrics = Bool(
        False,
        help="""Whether everybody may read the metrics, without a token.

        They name all apps, and so who runs what. Without it a scraper needs a token; one of
        `read_tokens` is enough.

            c.Backend.open_metrics = True
        """,
    ).tag(config=True)

    unknown_tokens_per_minute = Int(
        60,
        min=1,
        help="""Unknown tokens from one address that the hub is asked about within a minute.

        Ten times as many are asked about from all addresses together. Beyond that the answer is 429,
        but for tokens that were good before.

            c.Backend.unknown_tokens_per_minute = 600  # behind a proxy, where all come from one address
        """,
    ).tag(config=True)

    user_quota = QuotaLimits(
        {},
        help="""What one user may have, over all their apps and servers: instances, cpus, mem (MiB), gpus.

        What is left out, or None, has no limit but the machine's. The hub's servers count, but are
        never refused: JupyterHub limits those. Going down is always allowed, also to who is above a
        limit that was lowered. Tasks that still end count until they are gone, and while tasks are
        replaced the surplus that upgradeStrategy.maximumOverCapacity allows counts too.

            c.Backend.user_quota = {"instances": 50, "cpus": 16, "mem": 64 * 1024, "gpus": 0}
        """,
    ).tag(config=True)

    app_quota = QuotaLimits(
        {},
        help="""What any one app of a user may have: instances, cpus, mem (MiB), gpus, over all its instances.

        What is left out, or None, has no limit but the user's.

            c.Backend.app_quota = {"instances": 20}
        """,
    ).tag(config=True)

    group_quotas = QuotasByName(
        {},
        help="""Other quotas for the members of the hub's groups, by the group's name.

        For each resource the word of the most generous of a user's groups counts in place of
        everybody's, also where it is less; None is no limit.

            c.Backend.group_quotas = {
                "physics": {"user": {"cpus": 64, "gpus": 2}, "app": {"instances": 60}},
                "guests": {"user": {"cpus": 2}},
            }
        """,
    ).tag(config=True)

    user_quotas = QuotasByName(
        {},
        help="""Other quotas for single users, by the name that the hub has for them.

        For each resource that is named it counts in place of everybody's and of the groups'.

            c.Backend.user_quotas = {"alice": {"user": {"cpus": None}}}
        """,
    ).tag(config=True)

    accounts = Enum(
        ["server", "shared"],
        default_value="server",
        help="""As which account a user's Dask apps run: the one of the user's server, or also, where there \
is no server to tell, the backend's own. Only root has a choice.

        With "server" an app that no server owns is refused, since nothing tells which account is its
        user's. With "shared" it runs as the backend's own account, which must then not be root's
        where users do not trust each other.

            c.Backend.accounts = "shared"
        """,
    ).tag(config=True)

    cpus = Float(
        None,
        min=0.001,
        allow_none=True,
        help="""Cpus that tasks may reserve in all; beyond the machine's they share. None is the machine's.

        Cpus are shares, not cores: an idle notebook needs none.

            c.Backend.cpus = 256
        """,
    ).tag(config=True)

    mem = Float(
        None,
        min=1,
        allow_none=True,
        help="""MiB of memory that tasks may reserve in all. None is the machine's.

            c.Backend.mem = 48 * 1024
        """,
    ).tag(config=True)

    disk = Float(
        None,
        min=0,
        allow_none=True,
        help="""MiB of disk that tasks may reserve in all. None is what is free at the start.

            c.Backend.disk = 100 * 1024
        """,
    ).tag(config=True)

    ports = PortRange(
        (31000, 32000),
        help="""Ports that tasks are given.

        They must be free of other programs, and apart from the range from which the kernel takes
        ports of outgoing connections (/proc/sys/net/ipv4/ip_local_port_range).

            c.Backend.ports = "20000-24000"
        """,
    ).tag(config=True)

    service_ports = PortRange(
        RANGE,
        help="""Service ports that are given to apps which leave theirs open, with a port of 0.

        They are names, which a load balancer before the apps may be set up by: each is of one app
        and stays the same over all its tasks. Nothing listens on them here.

            c.Backend.service_ports = "40000-50000"
        """,
    ).tag(config=True)

    log_level = Enum(
        ["DEBUG", "INFO", "WARNING", "ERROR"],
        default_value="INFO",
        help="""Least level of what is logged.

            c.Backend.log_level = "WARNING"
        """,
    ).tag(config=True)

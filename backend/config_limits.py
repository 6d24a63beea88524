"""The settings of a backend that keep what is asked of it within limits."""

from __future__ import annotations

from traitlets import Float, Int
from traitlets.config import Configurable

from .orchestrator.limits import DeploymentLimits
from .server.seats import IN_ALL, PER_CALLER


class LimitSettings(Configurable):
    """How much there may be at once, how large, and how slow; set as ``c.Backend.…``."""

    max_apps = Int(
        20_000,
        min=1,
        help="""Apps that there may be in all.

        Each takes room in memory and in the database, with or without instances.

            c.Backend.max_apps = 1000
        """,
    ).tag(config=True)

    max_apps_of_user = Int(
        200,
        min=0,
        help="""Apps that one user may have. The hub's servers count, but are never refused.

            c.Backend.max_apps_of_user = 20
        """,
    ).tag(config=True)

    max_deployments = Int(
        DeploymentLimits.in_all,
        min=1,
        help="""Deployments that may be under way at once. A fifth is kept for the hub and administrators.

        Each is a change that is not carried out yet: one for which there is no room stays one until
        there is, or it is cancelled. What ends apps is always taken.

            c.Backend.max_deployments = 1000
        """,
    ).tag(config=True)

    max_deployments_of_caller = Int(
        DeploymentLimits.of_share,
        min=1,
        help="""Deployments that one user may have under way at once.

            c.Backend.max_deployments_of_caller = 50
        """,
    ).tag(config=True)

    max_labels = Int(
        500,
        min=0,
        help="""Labels that one app may have.

            c.Backend.max_labels = 50
        """,
    ).tag(config=True)

    max_variables = Int(
        1000,
        min=0,
        help="""Variables that an app's environment may have.

            c.Backend.max_variables = 200
        """,
    ).tag(config=True)

    max_request_bytes = Int(
        1024 * 1024,
        min=1024,
        help="""Bytes of the largest request body that is taken. A larger one is answered with 413.

            c.Backend.max_request_bytes = 4 * 1024 * 1024
        """,
    ).tag(config=True)

    max_header_bytes = Int(
        32 * 1024,
        min=1024,
        help="""Bytes of the largest head of a request, all headers together. Beyond it the connection is cut.

            c.Backend.max_header_bytes = 64 * 1024
        """,
    ).tag(config=True)

    body_seconds = Float(
        30.0,
        min=0.1,
        help="""Seconds that the body of a request may take to arrive.

            c.Backend.body_seconds = 300.0
        """,
    ).tag(config=True)

    idle_seconds = Float(
        120.0,
        min=0.1,
        help="""Seconds that a connection may wait for a request, and the head of a request take to arrive.

            c.Backend.idle_seconds = 3600.0
        """,
    ).tag(config=True)

    reader_seconds = Float(
        60.0,
        min=0.1,
        help="""Seconds that a client may leave unread what it is sent; then its connection is cut.

        It goes for readers of the event stream and of tasks' output as well.

            c.Backend.reader_seconds = 300.0
        """,
    ).tag(config=True)

    max_streams = Int(
        IN_ALL,
        min=1,
        help="""Event streams that there may be at once. A fifth is kept for the hub and administrators.

            c.Backend.max_streams = 200
        """,
    ).tag(config=True)

    max_streams_of_caller = Int(
        PER_CALLER,
        min=1,
        help="""Event streams that one user may read at once.

            c.Backend.max_streams_of_caller = 5
        """,
    ).tag(config=True)

    max_connections = Int(
        800,
        min=1,
        help="""Connections that there may be at once.

        Each takes a file descriptor, so stay well below `ulimit -n`.

            c.Backend.max_connections = 4000  # and raise `ulimit -n` above it
        """,
    ).tag(config=True)

    max_connections_of_address = Int(
        600,
        min=1,
        help="""Connections that there may be at once from one address.

        Behind a proxy, and on one machine, all clients have the same address.

            c.Backend.max_connections_of_address = 100
        """,
    ).tag(config=True)

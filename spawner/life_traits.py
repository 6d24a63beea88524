"""The configuration of a server's life: how long it may take to start, and what ends it."""

from __future__ import annotations

from traitlets import Bool, Float, HasTraits, Integer


class LifeTraits(HasTraits):
    """When a start has failed, when a running server has ended, and what is removed with it."""

    start_failures = Integer(
        3,
        min=1,
        help="""
        How often a server's process may end while it starts, before the start has failed.

        The backend starts a process that ended again, as it would a running server's. An end that the next
        attempt cannot mend (no such program, no such image) fails the start at once.
        """,
    ).tag(config=True)

    restart_after_failure = Bool(
        True,
        help="""
        Whether a running server whose process ended badly is started again.

        Its process may be killed, run out of memory, or be on a machine that is lost. The backend then
        starts another one, and the hub routes the user to it; what the kernels had in memory is gone.
        If False, the server is stopped instead, and the hub's log says why it ended.

        A process that ended well (exit status 0: its user or an idle culler shut it down) is never started
        again.
        """,
    ).tag(config=True)

    autotimeout = Integer(
        None,
        allow_none=True,
        min=1,
        help="""
        Seconds without activity after which a server is stopped; default: never.

        Counted from the server's last activity that the hub has heard of, which JupyterHub's
        own reports bring every few minutes. A server whose app has the label ``HUBFLEET_KEEP=true`` is
        never stopped so, and its last activity is told as now, so that jupyterhub-idle-culler leaves it
        alone as well.
        """,
    ).tag(config=True)

    leftover_grace = Float(
        300.0,
        allow_none=True,
        min=0,
        help="""
        Seconds after which an app of this hub that belongs to no server of it is removed.

        Such apps are left where the backend could not be reached until the hub itself was killed. The hub
        looks for them when it starts and every half minute, logs them, and removes those which it finds
        twice and whose definition is older than this. Only apps with the mark of this hub (`hub_id`) are
        looked at. None: they are logged and left alone.
        """,
    ).tag(config=True)

    delete_storage = Bool(
        False,
        help="""
        Whether the storage of a user or named server is deleted when JupyterHub deletes that for ever.

        Deleted is what belongs to them alone: `home_dir` and the volumes whose path or name holds the
        user's name, and for a named server, also the server's. A task on the backend does it, as the
        account and with the volumes of the server. What fails is logged, with the paths.
        """,
    ).tag(config=True)

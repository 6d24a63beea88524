"""The labels by which hubfleet knows its own apps again."""

HUB = "HUBFLEET_HUB"
"""Which hub an app belongs to."""

USER = "HUBFLEET_USER"
"""The name of the user, as the hub has it."""

SERVER = "HUBFLEET_SERVER"
"""The name of the user's server; empty for the default one."""

OWNER = "HUBFLEET_OWNER"
"""The app id without which this app has no reason to be; the backend removes it with its owner."""

LEASE = "HUBFLEET_LEASE"
"""Whole seconds after which the backend removes the app unless its lease is renewed meanwhile."""

CLUSTER = "HUBFLEET_CLUSTER"
"""The name of the Dask cluster, as the user wrote it."""

KEEP = "HUBFLEET_KEEP"
"""``true`` keeps a server from being stopped because nobody uses it."""

PREFORK = "HUBFLEET_PREFORK"
"""Whether tasks may be started from a warm template (``true``, the default) or not (``false``)."""

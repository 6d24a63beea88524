"""The app that is a cluster's scheduler: from settings to its definition, and back. Pure."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from distributed import Security

from hubfleet.api import environment, labels
from hubfleet.api.app import App, Network, PortDefinition
from hubfleet.api.ids import scheduler_app_id

from .place import TOKEN, trusted
from .settings import ClusterSettings
from .tls import scheduler_environment, scheduler_security

SPEC_VARIABLE = "HUBFLEET_CLUSTER"
"""The variable that says to a scheduler what its cluster is, as JSON."""

CPUS, MEM = 0.5, 1024.0
KILL_GRACE_SECONDS = 30


def build_scheduler_app(settings: ClusterSettings, options: Mapping[str, Any], token: str) -> App:
    """Return the app of a scheduler.

    Parameters
    ----------
    settings
        What its cluster is made with.
    options
        What its workers are.
    token
        The credential with which it scales them. It and the certificates are in the
        environment: not in the command line, and shown by the backend to this user only.
    """
    spec = {
        "name": settings.name,
        "n_workers": settings.n_workers,
        "group": settings.group,
        "drain_seconds": settings.drain_seconds,
        "lease_seconds": settings.lease_seconds,
        "idle_timeout": settings.idle_timeout,
        **options,
    }
    own = {labels.CLUSTER: settings.name}
    if settings.owner:
        own[labels.OWNER] = settings.owner
    return App(
        id=scheduler_app_id(settings.group, settings.name),
        cmd=f"exec {shlex.quote(sys.executable)} -m hubfleet.workers.scheduler",
        cpus=CPUS,
        mem=MEM,
        instances=1,
        env={
            **scheduler_environment(settings.security),
            **trusted(),
            SPEC_VARIABLE: json.dumps(spec),
            environment.BACKEND_URL: ",".join(settings.marathon.urls),
            TOKEN: token,
        },
        labels=own,
        networks=[Network(mode="host")],
        port_definitions=[PortDefinition(name="scheduler"), PortDefinition(name="dashboard")],
        # Its successor knows nothing of what it knew, but the cluster of this name can be used again.
        backoff_seconds=1,
        backoff_factor=2.0,
        max_launch_delay_seconds=60.0,
        task_kill_grace_period_seconds=KILL_GRACE_SECONDS,
    )


def security_of(app: App) -> Security:
    """Return the encryption by which the scheduler, or the workers, of an app are spoken to."""
    return scheduler_security({name: value for name, value in app.env.items() if isinstance(value, str)})

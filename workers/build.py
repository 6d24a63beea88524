"""From options to the app whose instances are the workers. Pure: nothing is asked or told here."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from hubfleet.api import labels
from hubfleet.api.app import App, Container, Docker, Network, PortDefinition

from .options import ADDRESS_VARIABLE, WorkerOptions, host_volumes
from .tls import KEY_VARIABLE

DRAIN_MODULE = "hubfleet.workers.drain"
GUARD_MODULE = "hubfleet.workers.guard"

KILL_GRACE_SECONDS = 30
"""From SIGTERM to SIGKILL; longer than `hubfleet.workers.drain.DRAIN_SECONDS`."""

DEATH_TIMEOUT_SECONDS = 60
"""How long a worker looks for a scheduler that is gone before it ends."""

# What a nanny would set before it starts the worker (distributed.yaml, pre-spawn-environ).
_PRE_SPAWN = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def worker_command(options: WorkerOptions) -> str:
    """Return the shell line of a worker; the backend's variables fill in what differs between tasks.

    Notes
    -----
    It is of the form that our backend forks from a warm template instead of executing it
    (``hubfleet.backend.drivers.prefork.line``), which takes a tenth of the time.
    """
    parts = [
        f"exec {shlex.quote(options.python)} -m distributed.cli.dask_worker",
        f'"${ADDRESS_VARIABLE}"',
        "--nanny" if options.nanny else "--no-nanny",
        "--dashboard" if options.dashboard else "--no-dashboard",
        '--name "$MESOS_TASK_ID" --host "$HOST"',
        *_ports(options),
        f"--nthreads {options.nthreads} --memory-limit {options.memory_limit}",
        f"--death-timeout {DEATH_TIMEOUT_SECONDS}",
        f'--local-directory "$MESOS_SANDBOX" --preload {DRAIN_MODULE} --preload {GUARD_MODULE}',
        *(f"--preload {shlex.quote(module)}" for module in options.preload),
    ]
    if options.nanny:
        # SIGTERM comes to the nanny, which would take its worker down with all that it holds.
        parts.append(f"--preload-nanny {DRAIN_MODULE}")
    if options.nworkers > 1:
        parts.append(f"--nworkers {options.nworkers}")
    if options.resources:
        amounts = " ".join(f"{name}={amount!r}" for name, amount in options.resources.items())
        parts.append(f"--resources {shlex.quote(amounts)}")
    if options.lifetime is not None:
        parts.append(f"--lifetime {options.lifetime}s")
    if options.lifetime_stagger is not None:
        parts.append(f"--lifetime-stagger {options.lifetime_stagger}s")
    return " ".join(parts)


def _port_names(options: WorkerOptions) -> list[str]:
    if options.nworkers > 1:
        # `dask worker` takes a range of ports, and those that a Marathon gives are not in a row.
        return []
    return ["worker", "nanny", "dashboard"] if options.nanny else ["worker", "dashboard"]


def _ports(options: WorkerOptions) -> list[str]:
    flags = {
        "worker": '--worker-port "$PORT_WORKER"',
        "nanny": '--nanny-port "$PORT_NANNY"',
        # Without a dashboard a worker still opens its HTTP port; it must be one that is ours.
        "dashboard": '--dashboard-address "$HOST:$PORT_DASHBOARD"',
    }
    return [flags[name] for name in _port_names(options)]


def build_app(
    app_id: str,
    scheduler: str,
    options: WorkerOptions,
    *,
    instances: int = 0,
    cluster: str = "",
    owner: str | None = None,
    lease_seconds: int | None = None,
    tls: Mapping[str, str] | None = None,
) -> App:
    """Return the app of a cluster's workers.

    Parameters
    ----------
    app_id
        Its absolute id.
    scheduler
        Address of the scheduler, as workers reach it.
    options
        What one worker is.
    instances
        How many.
    cluster
        The cluster's name as the user wrote it.
    owner
        The app id with which this app ends.
    lease_seconds
        After which time it ends, unless its lease is renewed.
    tls
        Variables that configure encryption (`hubfleet.workers.tls.worker_environment`).

    Notes
    -----
    There is no health check: a worker that does not work ends by itself
    (``--death-timeout``, or the scheduler drops it), and one that computes without letting
    go of the interpreter would fail a check although all is well.
    """
    own_labels = {labels.CLUSTER: cluster} if cluster else {}
    if owner:
        own_labels[labels.OWNER] = owner
    if lease_seconds is not None:
        own_labels[labels.LEASE] = str(lease_seconds)
    return App(
        id=app_id,
        cmd=worker_command(options),
        cpus=options.cpus,
        mem=options.mem,
        disk=options.disk,
        gpus=options.gpus,
        instances=instances,
        env={**_PRE_SPAWN, **options.env, **(tls or {}), ADDRESS_VARIABLE: scheduler},
        labels={**options.labels, **own_labels},
        constraints=[list(constraint) for constraint in options.constraints],
        container=_container(options),
        networks=[Network(mode="host")],
        port_definitions=[PortDefinition(name=name) for name in _port_names(options)],
        # A worker that dies is wanted back at once; one that cannot start must not burn the machine.
        # Whole seconds, since Marathon takes no others.
        backoff_seconds=1,
        backoff_factor=2.0,
        max_launch_delay_seconds=60.0,
        task_kill_grace_period_seconds=KILL_GRACE_SECONDS,
    )


def without_secrets(app: App) -> App:
    """Return the app as it may be shown: the private key is left out."""
    if KEY_VARIABLE not in app.env:
        return app
    return app.model_copy(update={"env": {**app.env, KEY_VARIABLE: "(the worker's private key, not shown)"}})


def _container(options: WorkerOptions) -> Container | None:
    if not options.image and not options.volumes:
        return None
    docker = Docker(image=options.image) if options.image else None
    return Container(type="MESOS", docker=docker, volumes=[*host_volumes(options.volumes)])

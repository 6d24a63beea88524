"""From options to the app whose instances are the workers. Pure: nothing is asked or told here."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from hubfleet.api import labels
from hubfleet.api.app import App, Container, Docker, Network, PortDefinition

from .checks import known_names, real_number, text, texts, whole_number
from .tls import KEY_VARIABLE

DRAIN_MODULE = "hubfleet.workers.drain"
MEMORY_SHARE = 0.8
"""The worker's own limit, as a share of the app's memory: it must spill before the backend kills it."""

KILL_GRACE_SECONDS = 30
"""From SIGTERM to SIGKILL; longer than `hubfleet.workers.drain.DRAIN_SECONDS`."""

DEATH_TIMEOUT_SECONDS = 60
"""How long a worker looks for a scheduler that is gone before it ends."""

ADDRESS_VARIABLE = "DASK_SCHEDULER_ADDRESS"
_LEAST_MEMORY = 128  # MiB; a worker that has done nothing yet takes 60 (measured, distributed 2026.8)

# What a nanny would set before it starts the worker (distributed.yaml, pre-spawn-environ).
_PRE_SPAWN = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """What one worker is, and gets.

    Parameters
    ----------
    cpus
        Processor cores that the backend reserves.
    mem
        Memory in MiB that the backend reserves; the worker keeps itself to 80 % of it. The
        default of 512 leaves some 350 MiB to data.
    disk
        Disk in MiB that the backend reserves.
    gpus
        GPUs that the backend reserves.
    nthreads
        Tasks that a worker runs at once.
    python
        The interpreter; by default the one that runs now, or ``python`` of the image.
    image
        A Docker image with hubfleet in it, for backends that run images.
    env
        Further variables of the worker's environment.
    labels
        Further labels of the app.
    constraints
        Marathon constraints, such as ``[["hostname", "UNIQUE"]]``.

    Raises
    ------
    TypeError, ValueError
        An option has the wrong type or is out of range.
    """

    cpus: float = 1.0
    mem: float = 512.0
    disk: float = 0.0
    gpus: int = 0
    nthreads: int = 1
    python: str = ""
    image: str | None = None
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    constraints: Sequence[Sequence[str]] = ()

    def __post_init__(self) -> None:
        def become(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        become("cpus", real_number("cpus", self.cpus, 0.001, "cores"))
        become("mem", real_number("mem", self.mem, _LEAST_MEMORY, "MiB"))
        become("disk", real_number("disk", self.disk, 0, "MiB"))
        become("gpus", whole_number("gpus", self.gpus, 0, 1024))
        become("nthreads", whole_number("nthreads", self.nthreads, 1, 1024))
        if self.image is not None:
            text("image", self.image)
        if not self.python:
            become("python", "python" if self.image else sys.executable)
        text("python", self.python)
        become("env", texts("env", self.env))
        become("labels", texts("labels", self.labels))
        become("constraints", _constraints(self.constraints))
        if taken := {ADDRESS_VARIABLE, KEY_VARIABLE} & set(self.env):
            raise ValueError(f"env must not set {', '.join(sorted(taken))}: the cluster sets it itself")
        if taken := {labels.OWNER, labels.CLUSTER} & set(self.labels):
            raise ValueError(f"labels must not set {', '.join(sorted(taken))}: the cluster sets it itself")

    @classmethod
    def of(cls, function: str, options: Mapping[str, Any]) -> WorkerOptions:
        """Return the options given to a function, refusing names that do not exist."""
        known_names(function, options, (option.name for option in fields(cls)))
        return cls(**options)

    @property
    def memory_limit(self) -> int:
        """Bytes of memory that the worker keeps itself to."""
        return int(self.mem * MEMORY_SHARE * 2**20)


def worker_command(options: WorkerOptions) -> str:
    """Return the shell line of a worker; the backend's variables fill in what differs between tasks."""
    return " ".join(
        [
            f"exec {shlex.quote(options.python)} -m distributed.cli.dask_worker",
            f'"${ADDRESS_VARIABLE}"',
            '--no-nanny --no-dashboard --name "$MESOS_TASK_ID" --host "$HOST"',
            # Without a dashboard a worker still opens its HTTP port; it must be one that is ours.
            '--worker-port "$PORT_WORKER" --dashboard-address "$HOST:$PORT_DASHBOARD"',
            f"--nthreads {options.nthreads} --memory-limit {options.memory_limit}",
            f"--death-timeout {DEATH_TIMEOUT_SECONDS}",
            f'--local-directory "$MESOS_SANDBOX" --preload {DRAIN_MODULE}',
        ]
    )


def build_app(
    app_id: str,
    scheduler: str,
    options: WorkerOptions,
    *,
    instances: int = 0,
    cluster: str = "",
    owner: str | None = None,
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
        container=Container(type="MESOS", docker=Docker(image=options.image)) if options.image else None,
        networks=[Network(mode="host")],
        port_definitions=[PortDefinition(name="worker"), PortDefinition(name="dashboard")],
        # A worker that dies is wanted back at once; one that cannot start must not burn the machine.
        backoff_seconds=0.5,
        backoff_factor=2.0,
        max_launch_delay_seconds=60.0,
        task_kill_grace_period_seconds=KILL_GRACE_SECONDS,
    )


def without_secrets(app: App) -> App:
    """Return the app as it may be shown: the private key is left out."""
    if KEY_VARIABLE not in app.env:
        return app
    return app.model_copy(update={"env": {**app.env, KEY_VARIABLE: "(the worker's private key, not shown)"}})


def _constraints(value: Any) -> list[list[str]]:
    wanted = 'constraints must be a list of lists of texts, such as [["hostname", "UNIQUE"]]'
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise TypeError(f"{wanted}, got {value!r}")
    found = []
    for constraint in value:
        if isinstance(constraint, str) or not isinstance(constraint, Sequence):
            raise TypeError(f"{wanted}, got {constraint!r} in it")
        if not 2 <= len(constraint) <= 3 or not all(isinstance(part, str) for part in constraint):
            raise ValueError(
                f"{wanted}; {list(constraint)!r} is not a field, an operator and perhaps a value"
            )
        found.append(list(constraint))
    return found

"""What one worker is, and gets: the options, and what of them is taken. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from pydantic import ValidationError

from hubfleet.api import labels
from hubfleet.api.container import HostVolume

from .checks import duration, known_names, real_number, text, texts, truth, whole_number
from .tls import KEY_VARIABLE

MEMORY_SHARE = 0.8
"""The worker's own limit, as a share of the app's memory: it must spill before the backend kills it."""

ADDRESS_VARIABLE = "DASK_SCHEDULER_ADDRESS"
_LEAST_MEMORY = 128  # MiB; a worker that has done nothing yet takes 60 (measured, distributed 2026.8)
_SEPARATORS = frozenset(" ,=")  # of what `dask worker --resources` takes


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
    nworkers
        Workers in one task of the backend, which share what is reserved for it and come and go
        together; more than one needs `nanny`. ``scale(8)``, ``maximum=8`` and all other numbers count
        workers, not tasks; there are as many tasks as hold them.
    python
        The interpreter; by default the one that runs now, or ``python`` of the image.
    image
        A Docker image with hubfleet in it, for backends that run images.
    volumes
        Directories of the host in the worker, such as ``["/data:/data:ro"]``, or as Marathon
        writes them: ``{"containerPath": "/data", "hostPath": "/data", "mode": "RO"}``.
    env
        Further variables of the worker's environment.
    labels
        Further labels of the app.
    constraints
        Marathon constraints, such as ``[["hostname", "UNIQUE"]]``.
    resources
        What else a task may ask of a worker (``resources=`` in Dask), such as ``{"GPU": 2}``.
    preload
        Modules, or files, that a worker imports when it starts; one or several.
    lifetime
        Time after which a worker hands over what it has, ends, and is replaced, such as
        ``"1 hour"``; for hosts that take no task for longer.
    lifetime_stagger
        By how much `lifetime` may differ between workers, so that they do not end all at once.
    nanny
        Whether a second process watches each worker. The backend does that already, and a
        worker without one starts sooner. ``client.restart()`` has new workers started either way;
        ``client.restart_workers()`` needs it.
    dashboard
        Whether each worker has a dashboard of its own. It takes as long to import as all the
        rest; the scheduler's has most of it.

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
    nworkers: int = 1
    python: str = ""
    image: str | None = None
    volumes: Sequence[str | Mapping[str, str] | HostVolume] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    labels: Mapping[str, str] = field(default_factory=dict)
    constraints: Sequence[Sequence[str]] = ()
    resources: Mapping[str, float] = field(default_factory=dict)
    preload: str | Sequence[str] = ()
    lifetime: str | float | None = None
    lifetime_stagger: str | float | None = None
    nanny: bool = False
    dashboard: bool = False

    def __post_init__(self) -> None:
        def become(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        become("cpus", real_number("cpus", self.cpus, 0.001, "cores"))
        become("mem", real_number("mem", self.mem, _LEAST_MEMORY, "MiB"))
        become("disk", real_number("disk", self.disk, 0, "MiB"))
        become("gpus", whole_number("gpus", self.gpus, 0, 1024))
        become("nthreads", whole_number("nthreads", self.nthreads, 1, 1024))
        become("nworkers", whole_number("nworkers", self.nworkers, 1, 64))
        become("nanny", truth("nanny", self.nanny))
        become("dashboard", truth("dashboard", self.dashboard))
        if self.image is not None:
            text("image", self.image)
        if not self.python:
            become("python", "python" if self.image else sys.executable)
        text("python", self.python)
        become("volumes", tuple(host_volumes(self.volumes)))
        become("env", texts("env", self.env))
        become("labels", texts("labels", self.labels))
        become("constraints", _constraints(self.constraints))
        become("resources", _resources(self.resources))
        become("preload", _preload(self.preload))
        for name in ("lifetime", "lifetime_stagger"):
            if getattr(self, name) is not None:
                become(name, duration(name, getattr(self, name), 0.1))
        self._check_together()

    def _check_together(self) -> None:
        if self.nworkers > 1 and not self.nanny:
            raise ValueError(f"nworkers={self.nworkers} needs nanny=True: `dask worker` has it so")
        if self.mem / self.nworkers < _LEAST_MEMORY:
            raise ValueError(
                f"mem must be at least {_LEAST_MEMORY} MiB for each worker; "
                f"got {self.mem:g} for nworkers={self.nworkers}"
            )
        if self.lifetime_stagger is not None and self.lifetime is None:
            raise ValueError("lifetime_stagger means nothing without lifetime: give both, or neither")
        if taken := {ADDRESS_VARIABLE, KEY_VARIABLE} & set(self.env):
            raise ValueError(f"env must not set {', '.join(sorted(taken))}: the cluster sets it itself")
        if taken := {labels.OWNER, labels.CLUSTER, labels.LEASE} & set(self.labels):
            raise ValueError(f"labels must not set {', '.join(sorted(taken))}: the cluster sets it itself")

    @classmethod
    def of(cls, function: str, options: Mapping[str, Any]) -> WorkerOptions:
        """Return the options given to a function, refusing names that do not exist."""
        known_names(function, options, (option.name for option in fields(cls)))
        return cls(**options)

    @property
    def memory_limit(self) -> int:
        """Bytes of memory that each worker keeps itself to."""
        return int(self.mem * MEMORY_SHARE * 2**20 / self.nworkers)


def _constraints(value: Any) -> list[list[str]]:
    wanted = 'constraints must be a list of lists of texts, such as [["hostname", "UNIQUE"]]'
    found = []
    for constraint in _listed(wanted, value):
        if isinstance(constraint, str) or not isinstance(constraint, Sequence):
            raise TypeError(f"{wanted}, got {constraint!r} in it")
        if not 2 <= len(constraint) <= 3 or not all(isinstance(part, str) for part in constraint):
            raise ValueError(
                f"{wanted}; {list(constraint)!r} is not a field, an operator and perhaps a value"
            )
        found.append(list(constraint))
    return found


def host_volumes(value: Any) -> list[HostVolume]:
    """Return the volumes, whichever way they are written."""
    wanted = 'volumes must be a list such as ["/path/on/host:/path/in/worker:ro"]'
    found = []
    for volume in _listed(wanted, value):
        if isinstance(volume, HostVolume):
            found.append(volume)
            continue
        if isinstance(volume, str):
            host, _, rest = volume.partition(":")
            inside, _, mode = rest.partition(":")
            parts = {"hostPath": host, "containerPath": inside, "mode": (mode or "rw").upper()}
        elif isinstance(volume, Mapping):
            known_names("a volume", volume, ("containerPath", "hostPath", "mode"))
            parts = {"mode": "RW", **volume}
        else:
            raise TypeError(f"{wanted}, got {volume!r} in it")
        try:
            found.append(HostVolume.from_wire(parts))
        except ValidationError:
            raise ValueError(
                f"{wanted}; {volume!r} is not a path of the host, one in the worker and perhaps ro or rw"
            ) from None
    return found


def _resources(value: Any) -> dict[str, float]:
    wanted = 'resources must be a dictionary of amounts, such as {"GPU": 2}'
    if not isinstance(value, Mapping):
        raise TypeError(f"{wanted}, got {value!r}")
    for name in value:
        if not isinstance(name, str) or not name or _SEPARATORS & set(name) or not name.isprintable():
            raise ValueError(f"{wanted}; the name {name!r} has blanks, commas or equals signs, or is no text")
    return {name: real_number(f"resources[{name!r}]", amount, 0) for name, amount in value.items()}


def _preload(value: Any) -> tuple[str, ...]:
    wanted = "preload must be the name of a module, or a list of such names"
    found = tuple([value] if isinstance(value, str) else _listed(wanted, value))
    for name in found:
        text("preload", name)
        if name.startswith("-"):
            raise ValueError(f"{wanted}, got {name!r}, which `dask worker` would take for an option")
    return found


def _listed(wanted: str, value: Any) -> Sequence[Any]:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise TypeError(f"{wanted}, got {value!r}")
    return value

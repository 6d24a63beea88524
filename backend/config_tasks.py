"""The settings of a backend that are about its machine and the tasks on it."""

from __future__ import annotations

from traitlets import Bool, Dict, Enum, Float, Int, List, Unicode
from traitlets.config import Configurable

from .drivers.rotation import KEPT_BYTES
from .orchestrator.limits import TaskLimits


class TaskSettings(Configurable):
    """What tasks may have, and what is kept of them; set as ``c.Backend.…``."""

    enforce_memory = Bool(
        True,
        help="""Whether a task that uses more memory than it reserves is ended.

        By the kernel where control groups can be used, by measuring where not.

            c.Backend.enforce_memory = False
        """,
    ).tag(config=True)

    control_groups = Bool(
        True,
        help="""Whether the machine's control groups are used, where they can be.

            c.Backend.control_groups = False
        """,
    ).tag(config=True)

    prefork = Bool(
        True,
        help="""Whether Jupyter servers and Dask workers are forked from warm templates, where that fits.

        A template is a process that has imported what they need. They start sooner from it and
        share its memory. It goes for programs of the backend's own Python environment; an app whose
        label HUBFLEET_PREFORK is false, and whatever is unusual, is executed. Tasks of one template
        have the seed of Python's hashes and the layout of their memory in common.

            c.Backend.prefork = False
        """,
    ).tag(config=True)

    warm = List(
        Enum(["server", "worker"]),
        help="""Templates that are made when the backend starts: "server", "worker".

        Others are made when a first task of their kind has been executed.

            c.Backend.warm = ["server", "worker"]
        """,
    ).tag(config=True)

    gpus = Int(
        None,
        min=0,
        allow_none=True,
        help="""NVIDIA GPUs that tasks may be given. None is all that this machine shows.

            c.Backend.gpus = 2
        """,
    ).tag(config=True)

    attributes = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="""What constraints of apps may ask of this machine, by name.

            c.Backend.attributes = {"rack": "7", "disk": "nvme"}
        """,
    ).tag(config=True)

    region = Unicode(
        None,
        allow_none=True,
        help="""Region of this machine, for constraints on @region.

            c.Backend.region = "europe"
        """,
    ).tag(config=True)

    zone = Unicode(
        None,
        allow_none=True,
        help="""Zone of this machine, for constraints on @zone.

            c.Backend.zone = "cellar"
        """,
    ).tag(config=True)

    output_bytes = Int(
        KEPT_BYTES,
        min=4096,
        help="""Bytes that are kept of a task's stdout, and of its stderr: the last ones, up to twice as many.

            c.Backend.output_bytes = 64 * 1024 * 1024
        """,
    ).tag(config=True)

    kept_tasks = Int(
        TaskLimits.kept_tasks,
        min=0,
        help="""Ended tasks of an app whose output is kept.

            c.Backend.kept_tasks = 20
        """,
    ).tag(config=True)

    kept_seconds = Float(
        TaskLimits.kept_seconds,
        min=0,
        help="""Seconds that an ended task's output is kept at most, and the history of an app that is gone.

            c.Backend.kept_seconds = 7 * 24 * 3600.0
        """,
    ).tag(config=True)

    launch_seconds = Float(
        TaskLimits.launch_seconds,
        min=1,
        help="""Seconds that a start may go unconfirmed before it is given up and made anew.

            c.Backend.launch_seconds = 60.0
        """,
    ).tag(config=True)

    fetch_seconds = Float(
        TaskLimits.fetch_seconds,
        min=1,
        help="""Seconds that the fetching of a task's files may take in all.

            c.Backend.fetch_seconds = 900.0
        """,
    ).tag(config=True)

    fetch_mib = Int(
        TaskLimits.fetch_mib,
        min=1,
        help="""MiB that a task's fetched files may be in all, as fetched and as unpacked.

            c.Backend.fetch_mib = 8192
        """,
    ).tag(config=True)

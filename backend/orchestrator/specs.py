"""From an app and one of its instances to the task that the engine is to run. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hubfleet.api import labels
from hubfleet.api.app import App

from ..drivers import Mount, TaskSpec
from ..records import Instance
from . import environment


def task_spec(app: App, instance: Instance, base: Mapping[str, str], sandboxes: Path) -> TaskSpec:
    """Return the present task of an instance.

    Parameters
    ----------
    base
        What the tasks of its account find in their environment, below what Marathon and the app set.
    sandboxes
        Where the tasks' working directories are made.
    """
    sandbox = sandboxes / instance.task_id
    return TaskSpec(
        task_id=instance.task_id,
        command=environment.command(app),
        environment=environment.environment(app, instance, base, str(sandbox)),
        sandbox=sandbox,
        user=app.user,
        cpus=app.cpus,
        mem=app.mem,
        mounts=[
            Mount(volume.host_path, volume.container_path, volume.mode == "RO")
            for volume in (app.container.volumes if app.container else ())
            if volume.host_path is not None
        ],
        prefork=app.labels.get(labels.PREFORK, "").lower() != "false",
    )

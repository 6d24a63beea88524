"""The environment of a task, and the command that runs it (``marathon-v2`` 5.2 and 5.3). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hubfleet.api.app import App
from hubfleet.api.wire import format_timestamp

from ..records import Instance

# Longer ones are left out, as Marathon leaves them out.
_LABEL_KEY_MOST, _LABEL_VALUE_MOST = 493, 512


def command(app: App) -> tuple[str, ...]:
    """Return the argument list of an app's task."""
    return tuple(app.args) if app.cmd is None else ("/bin/sh", "-c", app.cmd)


def environment(app: App, instance: Instance, base: Mapping[str, str], sandbox: str) -> dict[str, str]:
    """Return the whole environment of a task.

    What the app itself sets has the last word; below it are the ports, Marathon's own
    variables and, lowest, what the engine's host gives every task.
    """
    return {
        **base,
        "MESOS_SANDBOX": sandbox,
        "MESOS_DIRECTORY": sandbox,
        "PWD": sandbox,
        **_about_the_task(app, instance),
        **_ports(app, instance.ports),
        **_gpus(instance.gpus),
        "HOST": instance.host,
        **{name: value for name, value in app.env.items() if isinstance(value, str)},
    }


def _about_the_task(app: App, instance: Instance) -> dict[str, str]:
    keys = {
        key: re.sub(r"[^A-Za-z0-9_]+", "_", key).upper()
        for key, value in app.labels.items()
        if len(key) < _LABEL_KEY_MOST and len(value) < _LABEL_VALUE_MOST
    }
    return {
        "MESOS_TASK_ID": instance.task_id,
        "MARATHON_APP_ID": app.id,
        "MARATHON_APP_VERSION": format_timestamp(instance.version),
        "MARATHON_APP_RESOURCE_CPUS": str(float(app.cpus)),
        "MARATHON_APP_RESOURCE_MEM": str(float(app.mem)),
        "MARATHON_APP_RESOURCE_DISK": str(float(app.disk)),
        "MARATHON_APP_RESOURCE_GPUS": str(app.gpus),
        "MARATHON_APP_ENFORCE_GROUP_ROLE": "FALSE",
        "MARATHON_APP_LABELS": " ".join(keys.values()),
        **{f"MARATHON_APP_LABEL_{name}": app.labels[key] for key, name in keys.items()},
    }


def _ports(app: App, ports: Sequence[int]) -> dict[str, str]:
    if not ports:
        return {}
    variables = {"PORT": str(ports[0]), "PORTS": ",".join(map(str, ports))}
    definitions = app.port_definitions or []
    for index, port in enumerate(ports):
        variables[f"PORT{index}"] = str(port)
        if index < len(definitions):
            variables[f"PORT_{definitions[index].port or port}"] = str(port)
            if name := definitions[index].name:
                variables[f"PORT_{name.upper()}"] = str(port)
    return variables


def _gpus(indices: Sequence[int]) -> dict[str, str]:
    """Return what shows programs the GPUs that are theirs, and hides all others.

    Without any it must be the empty text: CUDA takes ``-1`` for none too, but programs
    that read the variable themselves, as distributed's diagnostics, do not.
    """
    listed = ",".join(str(index) for index in indices)
    return {
        "CUDA_VISIBLE_DEVICES": listed,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "NVIDIA_VISIBLE_DEVICES": listed or "void",
    }

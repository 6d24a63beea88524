"""The options that ``hubfleet workers run`` and ``deploy`` have in common, by daskathon's names.

What made sense in daskathon's time only is refused with a sentence that names the new way: an
option that is taken and does nothing would be worse.
"""

from __future__ import annotations

import os
import shlex
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from hubfleet.api.environment import DASK_GROUP

from .checks import MOST_WORKERS
from .place import TOKEN

F = TypeVar("F", bound=Callable[..., Any])

_GONE = {
    "--maximum-over-capacity": "the workers of a running cluster are never replaced by others of a new "
    "definition; end the cluster and begin another",
    "--minimum-health-capacity": "the workers of a running cluster are never replaced by others of a new "
    "definition; end the cluster and begin another",
    "--uri": "workers fetch nothing; give them a directory with --volume, or an image with --docker",
}


def _refuse(_: click.Context, option: click.Parameter, value: object) -> None:
    if value:
        name = option.opts[0]
        raise click.UsageError(f"{name} is gone: {_GONE[name]}.")


_OPTIONS: list[Callable[[Any], Any]] = [
    click.argument("marathon", required=False, metavar="[URL]"),
    click.option("--name", "-n", help="Name of the cluster; by default a random one."),
    click.option("--group", help="Group of its apps; by default HUBFLEET_DASK_GROUP, or /dask."),
    click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with the credential at the backend. Without it JUPYTERHUB_API_TOKEN, if there is one. "
        "It is never an argument: everybody on a machine sees those.",
    ),
    click.option("--owner", help="App id with which the cluster ends; by default the server it is run in."),
    click.option("--worker-cpus", type=float, default=1.0, show_default=True, help="Cpus of each worker."),
    click.option("--worker-mem", type=float, default=512.0, show_default=True, help="MiB of each worker."),
    click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port of the scheduler; 0 is any."),
    click.option(
        "--dashboard-port",
        "--bokeh-port",
        type=click.IntRange(0, 65535),
        default=0,
        help="Port of the scheduler's dashboard, which this machine alone can reach; 0 is any.",
    ),
    click.option(
        "--nworkers",
        type=click.IntRange(0, MOST_WORKERS),
        default=0,
        show_default=True,
        help="Number of workers; with --adaptive the least.",
    ),
    click.option(
        "--nprocs",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Processes of each worker; more than one run behind nannies.",
    ),
    click.option(
        "--nthreads",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Threads of each process; 0 is one for each cpu.",
    ),
    click.option("--docker", metavar="IMAGE", help="Image of the workers, for backends that run images."),
    click.option(
        "--volume",
        "volumes",
        multiple=True,
        metavar="HOST_PATH:PATH[:ro]",
        help="Directory of the host in the workers; as often as needed.",
    ),
    click.option("--adaptive", "-a", is_flag=True, help="Let the number of workers follow the load."),
    click.option(
        "--maximum", type=click.IntRange(1, MOST_WORKERS), help="Most workers; it needs --adaptive."
    ),
    click.option(
        "--constraint",
        "-c",
        "constraints",
        multiple=True,
        metavar="FIELD:OPERATOR[:VALUE]",
        help="Marathon constraint; as often as needed.",
    ),
    click.option(
        "--label", "-l", "labels", multiple=True, metavar="KEY:VALUE", help="Label; as often as needed."
    ),
    click.option("--no-tls", is_flag=True, help="Do without encryption."),
    click.option(
        "--client-config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Where to write what clients need, as a file of Dask's configuration for your eyes only; by "
        "default ~/.local/state/hubfleet/<name>.yaml.",
    ),
    click.option("--maximum-over-capacity", callback=_refuse, expose_value=False, hidden=True),
    click.option("--minimum-health-capacity", callback=_refuse, expose_value=False, hidden=True),
    click.option("--uri", multiple=True, callback=_refuse, expose_value=False, hidden=True),
]


def cluster_options(command: F) -> F:
    """Give a command the options of a cluster."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_name(name: str | None) -> str:
    """Return the name that was given, or a new one."""
    return f"dask-{uuid.uuid4().hex[:8]}" if name is None else name


def chosen_group(group: str | None) -> str:
    """Return the group that was given, else that of the server in which this runs, else ``/dask``."""
    return group or os.environ.get(DASK_GROUP) or "/dask"


def credential(token_file: Path | None) -> str:
    """Return the credential at the backend; '' where there is none.

    Raises
    ------
    click.UsageError
        The file cannot be read, or is empty.
    """
    if token_file is None:
        return os.environ.get(TOKEN, "")
    try:
        token = token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--token-file {token_file} cannot be read: {error}") from error
    if not token:
        raise click.UsageError(f"--token-file {token_file} is empty")
    return token


def worker_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """Return what of the options says what a worker is, as `MarathonCluster` takes it."""
    processes = options["nprocs"]
    return {
        "cpus": options["worker_cpus"],
        "mem": options["worker_mem"],
        "nworkers": processes,
        "nanny": processes > 1,
        "nthreads": options["nthreads"] or max(1, round(options["worker_cpus"] / processes)),
        "image": options["docker"],
        "volumes": list(options["volumes"]),
        "constraints": [constraint.split(":", 2) for constraint in options["constraints"]],
        "labels": labels_of(options["labels"]),
    }


def labels_of(pairs: Iterable[str]) -> dict[str, str]:
    """Return labels from ``key:value``; a value may have colons.

    Raises
    ------
    click.UsageError
        One has no colon.
    """
    found = {}
    for pair in pairs:
        key, colon, value = pair.partition(":")
        if not (key and colon):
            raise click.UsageError(f"--label needs KEY:VALUE, got {pair!r}")
        found[key] = value
    return found


def bounds(options: dict[str, Any]) -> dict[str, Any] | None:
    """Return the bounds of adaptive scaling; None without it.

    Raises
    ------
    click.UsageError
        They do not fit together.
    """
    if not options["adaptive"]:
        if options["maximum"] is not None:
            raise click.UsageError("--maximum needs --adaptive; without it there are --nworkers")
        return None
    minimum, maximum = options["nworkers"], options["maximum"]
    if maximum is not None and maximum < minimum:
        raise click.UsageError(f"--maximum must not be less than --nworkers, got {maximum} and {minimum}")
    each = options["nprocs"]
    return {"minimum": minimum * each, "maximum": None if maximum is None else maximum * each}


def command_line(options: dict[str, Any]) -> list[str]:
    """Return the arguments, quoted for a shell, with which `run` has the same workers."""
    found: list[str] = []
    for name in ("worker_cpus", "worker_mem", "nworkers", "nprocs", "nthreads", "docker", "maximum"):
        if options[name] is not None:
            found += [f"--{name.replace('_', '-')}", str(options[name])]
    for name, values in (("volume", "volumes"), ("constraint", "constraints"), ("label", "labels")):
        for value in options[values]:
            found += [f"--{name}", value]
    found += [f"--{name.replace('_', '-')}" for name in ("adaptive", "no_tls") if options[name]]
    return [shlex.quote(part) for part in found]


def fail(error: Exception) -> NoReturn:
    """End with what was wrong as a sentence."""
    raise click.ClickException(str(error)) from error

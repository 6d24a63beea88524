"""``hubfleet workers run`` and ``deploy``: clusters without a notebook, as daskathon's commands made them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from hubfleet.api.errors import HubfleetError

from . import options_of_commands as common


@click.command("run")
@common.cluster_options
@click.option("--ip", help="Address under which workers reach this machine.")
def run(**options: Any) -> None:
    """Run a scheduler here and its workers as an app, until Ctrl-C or SIGTERM.

    URL is the address of the backend, or of a Marathon; by default HUBFLEET_URL. Workers, app and
    scheduler end with this command, however it ends.
    """
    # Imported here, since that takes a second, which --help need not.
    from . import connecting
    from .running import EndedByItself, Run
    from .running import run as run_cluster

    name = common.chosen_name(options["name"])
    security: Any = _configured_security() if not options["no_tls"] else False
    what = Run(
        name=name,
        client_config=options["client_config"] or connecting.default_file(name),
        adaptive=common.bounds(options),
        arguments={
            # As daskathon has it: of these, each is a task with so many processes.
            "n_workers": options["nworkers"] * options["nprocs"],
            "url": options["marathon"],
            "token": common.credential(options["token_file"]),
            "group": common.chosen_group(options["group"]),
            "owner": options["owner"],
            "host": options["ip"],
            "scheduler_port": options["port"],
            "dashboard_address": f"127.0.0.1:{options['dashboard_port']}",
            "security": security,
            **common.worker_arguments(options),
        },
    )
    progress = Progress()
    try:
        asyncio.run(run_cluster(what, progress.tell, progress.show))
    except (HubfleetError, EndedByItself, OSError, TypeError, ValueError) as error:
        progress.end()
        common.fail(error)
    progress.tell(f"the cluster {name} has ended")


@click.command("deploy")
@common.cluster_options
@click.option("--scheduler-cpus", type=float, default=1.0, show_default=True, help="Cpus of the scheduler.")
@click.option("--scheduler-mem", type=float, default=512.0, show_default=True, help="MiB of the scheduler.")
@click.option("--jupyter", "-j", is_flag=True, help="Run a JupyterLab beside it, connected to the cluster.")
@click.option("--ip", help="Address of the scheduler; by default that of the host on which it comes to run.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=120.0,
    show_default=True,
    help="Seconds until the scheduler, and the notebook, must be there; else all is removed again.",
)
def deploy(**options: Any) -> None:
    """Run a scheduler as an app, which runs its workers as another one, and return when it is there.

    URL is the address of the backend, or of a Marathon; by default HUBFLEET_URL. The cluster goes on
    until `hubfleet workers stop NAME`.
    """
    from . import connecting, deploying
    from .options import WorkerOptions
    from .tls import checked_security

    common.bounds(options)
    name = common.chosen_name(options["name"])
    file = options["client_config"] or connecting.default_file(name)
    progress = Progress()
    try:
        WorkerOptions.of("deploy", common.worker_arguments(options))  # else it would be refused out of sight
        what = deploying.Deployment(
            name=name,
            url=options["marathon"],
            token=common.credential(options["token_file"]),
            group=common.chosen_group(options["group"]),
            owner=options["owner"],
            ip=options["ip"],
            port=options["port"],
            dashboard_port=options["dashboard_port"],
            cpus=options["scheduler_cpus"],
            mem=options["scheduler_mem"],
            image=options["docker"],
            labels=common.labels_of(options["labels"]),
            security=checked_security(not options["no_tls"]),
            workers=common.command_line(options),
            jupyter=options["jupyter"],
        )
        made = asyncio.run(deploying.deploy(what, options["timeout"], progress.show))
        connecting.write(file, made.address, what.security)
    except (HubfleetError, deploying.NotDeployed, OSError, TypeError, ValueError) as error:
        progress.end()
        common.fail(error)
    progress.tell(f"scheduler  {made.address}")
    progress.tell(f"clients    {connecting.how(file)}")
    if made.notebook:
        progress.tell(f"notebook   {made.notebook}")
    progress.tell(f"to end it  hubfleet workers stop {name}")


@click.command("stop")
@click.argument("name")
@click.argument("marathon", required=False, metavar="[URL]")
@click.option("--group", help="As of `run`.")
@click.option("--token-file", type=click.Path(path_type=Path, dir_okay=False), help="As of `run`.")
def stop(name: str, marathon: str | None, group: str | None, token_file: Path | None) -> None:
    """End a cluster of this name: its scheduler, workers and notebook."""
    from . import connecting, deploying

    try:
        ended = asyncio.run(
            deploying.stop(name, marathon, common.credential(token_file), common.chosen_group(group))
        )
    except (HubfleetError, ValueError) as error:
        common.fail(error)
    if not ended:
        raise click.ClickException(f"there is no cluster {name}, or none that you may see")
    connecting.default_file(name).unlink(missing_ok=True)
    click.echo("\n".join(f"ended {app_id}" for app_id in ended))


class Progress:
    """Lines for a person; on a terminal what changes is written over what was."""

    def __init__(self) -> None:
        self._over = sys.stdout.isatty()
        self._shown = 0

    def show(self, line: str) -> None:
        """Show how things stand now."""
        if not self._over:
            click.echo(line)
            return
        click.echo(f"\r{line.ljust(self._shown)}", nl=False)
        self._shown = len(line)

    def tell(self, line: str) -> None:
        """Say something that stays."""
        self.end()
        click.echo(line)

    def end(self) -> None:
        """Leave the line that was written over."""
        if self._shown:
            click.echo()
            self._shown = 0


def _configured_security() -> Any:
    """Return what Dask's configuration says of certificates; True, for some made anew, if it is silent."""
    import dask.config
    from distributed import Security

    configured = dask.config.get("distributed.comm.tls.ca-file", None)
    return Security() if configured else True

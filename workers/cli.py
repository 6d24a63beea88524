"""``hubfleet workers``: what a person does with Dask workers at the command line."""

from __future__ import annotations

import click

from .commands import deploy, run, stop


@click.group()
def workers() -> None:
    """Dask workers as apps."""


for command in (run, deploy, stop):
    workers.add_command(command)


if __name__ == "__main__":
    workers()

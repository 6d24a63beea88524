"""``hubfleet workers``: what a person does with Dask workers at the command line."""

from __future__ import annotations

import json

import click

from .commands import deploy, run, stop


@click.group()
def workers() -> None:
    """Dask workers as apps."""


@workers.command()
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def config(as_json: bool) -> None:
    """Print every option of Dask clusters, what it is, and where that comes from."""
    from .config import settings

    found = list(settings())
    if as_json:
        table = {each.name: {"value": each.shown, "source": each.source} for each in found}
        click.echo(json.dumps(table, indent=2))
        return
    width = max(len(each.name) for each in found)
    values = {each.name: json.dumps(each.shown) for each in found}
    wide = max(len(value) for value in values.values())
    for each in found:
        click.echo(f"{each.name:{width}}  {values[each.name]:{wide}}  {each.source}")


for command in (run, deploy, stop):
    workers.add_command(command)


if __name__ == "__main__":
    workers()

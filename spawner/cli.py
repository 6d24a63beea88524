"""``hubfleet app``: what an administrator asks about the apps of a hub's servers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import click


@click.group()
def app() -> None:
    """The apps that a hub's servers are."""


@app.command("preview")
@click.option("--user", required=True, help="Name of the user.")
@click.option("--server", default="", help="Name of the server; without it the default one.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME=VALUE",
    help="What the user asks for; as often as needed.",
)
@click.option("--group", "groups", multiple=True, help="A group of the user; as often as needed.")
@click.option(
    "-f",
    "--config",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    default=Path("jupyterhub_config.py"),
    show_default=True,
    help="The hub's configuration, which is executed.",
)
def show(user: str, server: str, options: tuple[str, ...], groups: tuple[str, ...], config: Path) -> None:
    """Print the app that would be submitted for a user's server, as Marathon's JSON.

    No hub has to run, and no backend is asked. Authenticator, pre_spawn_hook and auth_state_hook are not
    called; modify_app_hook is.
    """
    # Imported here, since that takes a second, which --help need not.
    from .preview import NoPreview, preview

    asked = {}
    for option in options:
        name, separator, value = option.partition("=")
        if not name or not separator:
            raise click.BadParameter(f"NAME=VALUE is needed, got {option!r}", param_hint="--option")
        asked[name] = value
    try:
        found = asyncio.run(preview(config, user, server, asked, groups))
    except NoPreview as error:
        raise click.ClickException(str(error)) from error
    click.echo(json.dumps(found.to_wire(), indent=2, ensure_ascii=False))

"""The command ``hubfleet``: a group whose commands come from the rooms, by entry points."""

from __future__ import annotations

from importlib.metadata import entry_points

import click


class RoomCommands(click.Group):
    """Finds a command among the entry points when it is asked for, and imports only that one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all installed commands."""
        return sorted(point.name for point in entry_points(group="hubfleet.commands"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None if there is none of this name."""
        for point in entry_points(group="hubfleet.commands", name=cmd_name):
            try:
                command = point.load()
            except ModuleNotFoundError as missing:
                raise click.ClickException(
                    f"`hubfleet {cmd_name}` needs the package {missing.name}, which is missing. "
                    "A hub needs `pip install 'hubfleet[hub]'`, a notebook 'hubfleet[dask]'"
                ) from missing
            assert isinstance(command, click.Command)
            return command
        return None


@click.group(cls=RoomCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="hubfleet")
def main() -> None:
    """JupyterHub servers and Dask workers as apps on one scheduling backend."""


if __name__ == "__main__":
    main()

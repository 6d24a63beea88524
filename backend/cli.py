"""``hubfleet backend``: what an administrator, or the hub, runs."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from .access import Caller
from .authenticator import HubIdentity, static_callers
from .config import Backend
from .config_file import ConfigurationError, first_line, read, template
from .decommission import end_all
from .drivers import DriverError
from .lifetime import AlreadyRunning, StateLock, split_front
from .service import PortTaken, listen, serve
from .store import StoreError

TOKEN_VARIABLE = "HUBFLEET_BACKEND_TOKEN"  # noqa: S105 (the name of a variable)
_TOKEN_LEAST = 16  # characters; a random token of that length cannot be guessed

F = TypeVar("F", bound=Callable[..., Any])


def _option(name: str, **attributes: Any) -> Callable[[F], F]:
    """Return the option of a setting; the file's value counts where it is not given."""
    default = Backend.class_traits()[name].default()
    text = first_line(name)
    if isinstance(default, tuple):
        text += f"  [default: {default[0]}-{default[1]}]"
    elif default is not None:
        text += f"  [default: {default}]"
    return click.option(f"--{name.replace('_', '-')}", default=None, help=text, **attributes)


def _choice(name: str, case_sensitive: bool = True) -> click.Choice[str]:
    return click.Choice(Backend.class_traits()[name].values, case_sensitive)  # type: ignore[attr-defined]


_config_file = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with settings, c.Backend.…, as `hubfleet backend config` prints them.",
)


@click.group(invoke_without_command=True)
@_config_file
@_option("ip")
@_option("port", type=click.IntRange(0, 65535))
@_option("state_dir", metavar="DIRECTORY")
@_option("hostname")
@_option("prefix")
@_option("hub_api_url", metavar="URL")
@_option("token_file", metavar="FILE")
@_option("accounts", type=_choice("accounts"))
@_option("cpus", type=click.FloatRange(min=0.001))
@_option("mem", type=click.FloatRange(min=1))
@_option("disk", type=click.FloatRange(min=0))
@_option("ports", metavar="FIRST-LAST")
@_option("log_level", type=_choice("log_level", case_sensitive=False))
@click.option(
    "--managed",
    is_flag=True,
    help="Run as a managed service of JupyterHub: serve on, after the hub stops its services, "
    "until the hub itself is gone, so that it can stop its users' servers.",
)
@click.pass_context
def backend(ctx: click.Context, /, config: Path | None, managed: bool, **options: object) -> None:
    """Serve Marathon's REST API v2, running tasks as processes of this machine.

    It ends on SIGTERM or Ctrl-C and leaves the tasks running; started again with the
    same --state-dir it finds them.
    """
    ctx.obj = config, {name: value for name, value in options.items() if value is not None}
    if ctx.invoked_subcommand is None:
        _serve(_read(*ctx.obj), managed)


@backend.command("config")
def print_config() -> None:
    """Print every setting with its help and its default, as a configuration file."""
    click.echo(template(), nl=False)


@backend.command()
@_config_file
@_option("state_dir", metavar="DIRECTORY")
@click.option("--tasks", is_flag=True, help="End all tasks as well; the apps stay defined.")
@click.option(
    "--timeout",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to wait for tasks to end, beyond the longest grace of any of them.",
)
@click.pass_obj
def stop(
    above: tuple[Path | None, dict[str, object]],
    config: Path | None,
    state_dir: str | None,
    tasks: bool,
    timeout: float,
) -> None:
    """End the backend of a state directory, and with --tasks all that it runs.

    Without --tasks the tasks keep running, and the next backend finds them again. With it
    each gets SIGTERM, its grace and SIGKILL, the launcher leaves, and no process remains;
    it works as well when no backend runs. The apps stay defined: the next backend starts
    their tasks again. Stop the hub first: it starts a service that ends again.
    """
    file, options = above
    settings = _read(config or file, options if state_dir is None else {**options, "state_dir": state_dir})
    _log("WARNING")
    directory = Path(settings.state_dir).resolve()
    if not directory.is_dir():
        raise click.ClickException(f"there is no state in {directory}; say where it is with --state-dir")
    os.umask(0o077)
    try:
        lock = StateLock(directory)
        stopped = lock.acquire(take_over=True)
        click.echo(
            f"no backend runs on {directory}" if stopped is None else f"the backend (process {stopped}) ended"
        )
        if tasks:
            _end_tasks(directory, timeout)
        lock.release()
    except (AlreadyRunning, DriverError) as error:
        raise click.ClickException(str(error)) from error
    except (OSError, sqlite3.Error) as error:
        raise click.ClickException(f"not all could be stopped: {error}; try again") from error


def _end_tasks(directory: Path, timeout: float) -> None:
    done = asyncio.run(end_all(directory, timeout))
    click.echo(f"{len(done.ended)} tasks ended; the apps stay defined")
    if done.left:
        raise click.ClickException(
            f"{len(done.left)} tasks did not end in time: {', '.join(sorted(done.left))}. Try again"
        )
    if not done.launcher_left:
        raise click.ClickException(f"the launcher of {directory} has no tasks any more, but is still there")


def _read(file: Path | None, options: dict[str, object]) -> Backend:
    try:
        return read(file, options)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from error


def _serve(config: Backend, managed: bool) -> None:
    _log(config.log_level)
    hub_gone = split_front() if managed else None
    os.umask(0o077)
    try:
        state_dir = _prepare(Path(config.state_dir))
        lock = StateLock(state_dir)  # held for as long as it is referred to
        lock.acquire(take_over=managed)
        tokens = _tokens(config, state_dir)
        asyncio.run(serve(config, state_dir, tokens, _hub(config), listen(config), hub_gone))
        lock.release()
    except (AlreadyRunning, DriverError, PortTaken, StoreError) as error:
        raise click.ClickException(str(error)) from error
    except (OSError, sqlite3.Error) as error:
        raise click.ClickException(
            f"the backend cannot go on: {error}. The tasks keep running, and are found again when it starts"
        ) from error


def _log(level: str) -> None:
    logging.basicConfig(format="[%(levelname)1.1s %(asctime)s %(name)s] %(message)s", level=logging.WARNING)
    logging.getLogger("hubfleet").setLevel(level)


def _hub(config: Backend) -> HubIdentity | None:
    """Return how to ask the hub that the settings name, or else the one that started this."""
    # The service's own token is of no use here: the hub is asked with the token that is asked about.
    given, _ = os.environ.pop("JUPYTERHUB_API_URL", None), os.environ.pop("JUPYTERHUB_API_TOKEN", None)
    url = config.hub_api_url or given
    log = logging.getLogger("hubfleet.backend")
    if not url:
        log.info("no hub is asked whose tokens are (hub_api_url): users' own are not known here")
        return None
    log.info("the hub at %s is asked whose tokens are", url)
    from .hub import HubTokens  # needs jupyterhub, which a backend without a hub need not have

    return HubTokens(url, config.unknown_tokens_per_minute)


def _prepare(state_dir: Path) -> Path:
    """Return the absolute state directory, made if it is not there, closed to others.

    As root, tasks may run as other accounts, which must pass through to their sandboxes;
    what is in the directory is closed to them by its own mode.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    state_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return state_dir.resolve()


def _tokens(config: Backend, state_dir: Path) -> dict[str, Caller]:
    """Return who holds which static token; where no administrator has one it is made, and kept in a file."""
    admin = {os.environ.pop(TOKEN_VARIABLE, "").strip(), *map(str.strip, config.admin_tokens)}
    if config.token_file is not None:
        try:
            admin.update(map(str.strip, Path(config.token_file).read_text().splitlines()))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is no text"
            raise click.ClickException(
                f"the token file {config.token_file} cannot be read: {reason}"
            ) from error
    admin.discard("")
    if not admin:
        path = state_dir / "token"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32) + "\n")
        admin.add(path.read_text().strip())
        logging.getLogger("hubfleet.backend").info("the administrator's token is in %s", path)
    found = static_callers(admin, config.hub_tokens, config.read_tokens, config.prefix)
    for token, caller in found.items():
        if len(token) < _TOKEN_LEAST:
            raise click.ClickException(
                f"a token has at least {_TOKEN_LEAST} characters, that of {caller.name} has {len(token)}; "
                "`openssl rand -hex 32` makes a good one"
            )
    return found

"""``hubfleet backend``: what an administrator, or the hub, runs."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import sqlite3
from pathlib import Path

import click

from .access import HubIdentity
from .drivers import DriverError
from .lifetime import AlreadyRunning, StateLock, split_front
from .service import PortTaken, Settings, listen, serve
from .store import StoreError

TOKEN_VARIABLE = "HUBFLEET_BACKEND_TOKEN"  # noqa: S105 (the name of a variable)
_TOKEN_LEAST = 16  # characters; a random token of that length cannot be guessed


def _port_range(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Return the first and the last port of an option such as 31000-32000."""
    match = re.fullmatch(r"(\d{1,5})-(\d{1,5})", value)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 0 < first <= last <= 65535:
        raise click.BadParameter(f"{value!r} is no range of ports such as 31000-32000", ctx, param)
    return first, last


@click.command()
@click.option("--ip", default="127.0.0.1", show_default=True, help="Address on which the API listens.")
@click.option(
    "--port",
    default=8090,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port on which the API listens; 0 takes a free one.",
)
@click.option(
    "--state-dir",
    default=".hubfleet/backend",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the state and the tasks' sandboxes are kept.",
)
@click.option(
    "--hostname",
    default="127.0.0.1",
    show_default=True,
    help="Address of this machine's tasks, as the hub and the users' servers reach it.",
)
@click.option("--prefix", default="jupyter", show_default=True, help="Group of the hub's apps.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"File with administrators' tokens, one a line. Another comes from {TOKEN_VARIABLE}.",
)
@click.option(
    "--accounts",
    default="server",
    show_default=True,
    type=click.Choice(["server", "shared"]),
    help="As which account a user's Dask apps run: the one of the user's server, or also, where there is "
    "no server to tell, the backend's own. Only root has a choice.",
)
@click.option(
    "--cpus",
    type=click.FloatRange(min=0.001),
    help="Cpus that tasks may reserve in all; beyond the machine's they share. [default: the machine's]",
)
@click.option(
    "--mem",
    type=click.FloatRange(min=1),
    help="MiB of memory that tasks may reserve in all. [default: the machine's]",
)
@click.option(
    "--disk",
    type=click.FloatRange(min=0),
    help="MiB of disk that tasks may reserve in all. [default: what is free]",
)
@click.option(
    "--ports",
    callback=_port_range,
    metavar="FIRST-LAST",
    default="31000-32000",
    show_default=True,
    help="Ports that tasks are given.",
)
@click.option(
    "--managed",
    is_flag=True,
    help="Run as a managed service of JupyterHub: serve on, after the hub stops its services, "
    "until the hub itself is gone, so that it can stop its users' servers.",
)
@click.option(
    "--log-level",
    default="INFO",
    show_default=True,
    type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    help="Least level of what is logged.",
)
def backend(
    ip: str,
    port: int,
    state_dir: Path,
    hostname: str,
    prefix: str,
    token_file: Path | None,
    accounts: str,
    cpus: float | None,
    mem: float | None,
    disk: float | None,
    ports: tuple[int, int],
    managed: bool,
    log_level: str,
) -> None:
    """Serve Marathon's REST API v2, running tasks as processes of this machine.

    It ends on SIGTERM or Ctrl-C and leaves the tasks running; started again with the
    same --state-dir it finds them.
    """
    _log(log_level)
    hub_gone = split_front() if managed else None
    os.umask(0o077)
    try:
        state_dir = _prepare(state_dir)
        lock = StateLock(state_dir)  # held for as long as it is referred to
        lock.acquire(take_over=managed)
        settings = Settings(
            state_dir=state_dir,
            ip=ip,
            port=port,
            hostname=hostname,
            prefix=prefix,
            admin_tokens=_admin_tokens(token_file, state_dir),
            shared_account=accounts == "shared" or os.geteuid() != 0,
            cpus=cpus,
            mem=mem,
            disk=disk,
            ports=ports,
        )
        asyncio.run(serve(settings, _hub(), listen(settings), hub_gone))
        lock.release()
    except (AlreadyRunning, DriverError, PortTaken, StoreError) as error:
        raise click.ClickException(str(error)) from error
    except (OSError, sqlite3.Error) as error:
        raise click.ClickException(
            f"the backend cannot go on: {error}. The tasks keep running, and are found again when it starts"
        ) from error


def _log(level: str) -> None:
    logging.basicConfig(format="[%(levelname)1.1s %(asctime)s %(name)s] %(message)s", level=logging.WARNING)
    logging.getLogger("hubfleet").setLevel(level.upper())


def _hub() -> HubIdentity | None:
    """Return how to ask the hub, when a hub started this."""
    url, token = os.environ.pop("JUPYTERHUB_API_URL", None), os.environ.pop("JUPYTERHUB_API_TOKEN", None)
    if not url or not token:
        return None
    from .hub import HubTokens  # needs jupyterhub, which a backend without a hub need not have

    return HubTokens(url, token)


def _prepare(state_dir: Path) -> Path:
    """Return the absolute state directory, made if it is not there, closed to others.

    As root, tasks may run as other accounts, which must pass through to their sandboxes;
    what is in the directory is closed to them by its own mode.
    """
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    state_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)
    return state_dir.resolve()


def _admin_tokens(token_file: Path | None, state_dir: Path) -> frozenset[str]:
    """Return the administrators' tokens; where none is given one is made, and kept in a file."""
    tokens = set(filter(None, [os.environ.pop(TOKEN_VARIABLE, "").strip()]))
    if token_file is not None:
        tokens.update(filter(None, map(str.strip, token_file.read_text().splitlines())))
    for token in tokens:
        if len(token) < _TOKEN_LEAST:
            raise click.ClickException(
                f"an administrator's token has at least {_TOKEN_LEAST} characters, one has {len(token)}; "
                "`openssl rand -hex 32` makes a good one"
            )
    if not tokens:
        path = state_dir / "token"
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32) + "\n")
        tokens.add(path.read_text().strip())
        logging.getLogger("hubfleet.backend").info("the administrator's token is in %s", path)
    return frozenset(tokens)

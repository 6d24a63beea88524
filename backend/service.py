"""The backend as a running service: its parts, put together and taken apart again."""

from __future__ import annotations

import asyncio
import logging
import os
import pwd
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets

from .access import Authenticator, HubIdentity
from .drivers.process import ProcessDriver
from .events import EventBus
from .orchestrator.orchestrator import Orchestrator
from .server.application import make_application
from .server.base import Services
from .server.limits import CUT_BODY_BYTES, SLOW_BODY_SECONDS
from .state import State
from .store import Store

log = logging.getLogger("hubfleet.backend")


@dataclass(frozen=True)
class Settings:
    """What an administrator decides about a backend.

    Parameters
    ----------
    state_dir
        Holds the database, the sandboxes and the launcher; mode 0700.
    ip, port
        Where the API listens.
    hostname
        The address of this machine's tasks, as the hub and the users' servers reach it.
    prefix
        The group of the hub's apps.
    admin_tokens
        Tokens whose holder may do everything.
    shared_account
        Whether users' apps may run as the backend's own account where no server tells another.
    cpus, mem, disk
        What may be reserved by tasks; None is what the machine has. MiB.
    ports
        The first and last of the ports that tasks are given.
    """

    state_dir: Path
    ip: str
    port: int
    hostname: str
    prefix: str
    admin_tokens: frozenset[str]
    shared_account: bool = False
    cpus: float | None = None
    mem: float | None = None
    disk: float | None = None
    ports: tuple[int, int] = (31000, 32000)


class PortTaken(Exception):
    """The API's port cannot be had."""


def listen(settings: Settings) -> list[socket.socket]:
    """Return the sockets of the API.

    Raises
    ------
    PortTaken
        With what to do.
    """
    try:
        return bind_sockets(settings.port, settings.ip)
    except OSError as error:
        raise PortTaken(
            f"cannot listen on {settings.ip}:{settings.port}: {error.strerror or error}; "
            "stop what is there, or choose another port with --port"
        ) from error


def base_environment(environment: Mapping[str, str], user: str | None) -> dict[str, str]:
    """Return what every task of an account finds in its environment, from the backend's own.

    Programs of the backend's Python environment come first, so that
    ``jupyterhub-singleuser`` is found. Nothing else of the backend's environment
    passes: it holds the backend's secrets.

    Parameters
    ----------
    environment
        The backend's own.
    user
        The account that the task is to run as, or None for the backend's own.
    """
    own_programs = str(Path(sys.executable).parent)
    path = environment.get("PATH", os.defpath)
    passed = {name: environment[name] for name in ("LANG", "LC_ALL", "TZ") if name in environment}
    return {
        **passed,
        **_account(user, environment.get("HOME") if user is None else None),
        "PATH": path if path.startswith(own_programs) else f"{own_programs}:{path}",
    }


def _account(user: str | None, home: str | None) -> dict[str, str]:
    """Return what a login sets; of an account that there is not the driver will say so."""
    try:
        entry = pwd.getpwuid(os.geteuid()) if user is None else pwd.getpwnam(user)
    except KeyError:
        return {"HOME": home} if home else {}
    shell = entry.pw_shell or "/bin/sh"
    return {"HOME": home or entry.pw_dir, "USER": entry.pw_name, "LOGNAME": entry.pw_name, "SHELL": shell}


async def serve(
    settings: Settings,
    hub: HubIdentity | None,
    sockets: list[socket.socket],
    hub_gone: int | None = None,
) -> None:
    """Run until told to stop, leaving the tasks running.

    Parameters
    ----------
    hub_gone
        A descriptor that becomes readable when the hub that this serves is gone.
    """
    store = Store(settings.state_dir / "backend.sqlite")
    driver = ProcessDriver(
        settings.state_dir,
        host=settings.hostname,
        cpus=settings.cpus,
        mem=settings.mem,
        disk=settings.disk,
        port_range=settings.ports,
    )
    orchestrator = Orchestrator(
        State(store),
        driver,
        EventBus(),
        settings.state_dir / "sandboxes",
        partial(base_environment, dict(os.environ)),
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    if hub_gone is not None:
        loop.add_reader(hub_gone, stopping.set)
    await orchestrator.open()
    authenticator = Authenticator(settings.admin_tokens, settings.prefix, hub, settings.shared_account)
    server = HTTPServer(
        make_application(Services(orchestrator, authenticator)),
        max_body_size=CUT_BODY_BYTES,
        body_timeout=SLOW_BODY_SECONDS,
        idle_connection_timeout=600,
    )
    server.add_sockets(sockets)
    log.info(
        "serving the Marathon API on http://%s:%d; %d apps, offering %s",
        settings.ip,
        sockets[0].getsockname()[1],
        len(orchestrator.state.apps),
        ", ".join(f"{offer.cpus:g} cpus and {offer.mem:g} MiB" for offer in driver.offers()),
    )
    asked = asyncio.create_task(stopping.wait())
    try:
        either: set[asyncio.Future[Any]] = {asked, orchestrator.failed}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        if hub_gone is not None:
            loop.remove_reader(hub_gone)
        server.stop()
        await server.close_all_connections()
        await orchestrator.close()
        store.close()
    if orchestrator.failed.done():
        orchestrator.failed.result()
    log.info("stopped; the tasks go on")

"""The backend as a running service: its parts, put together and taken apart again."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import pwd
import signal
import socket
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tornado.netutil import bind_sockets

from .access import Caller, is_of_a_server
from .admission import Admission, Limits
from .authenticator import Authenticator, HubIdentity
from .config import Backend
from .drivers.process import ProcessDriver
from .events import EventBus
from .garbage import Garbage, put_off
from .metrics import Metrics
from .orchestrator.limits import DeploymentLimits, TaskLimits
from .orchestrator.orchestrator import Orchestrator
from .quotas import QuotaRules
from .server.application import make_application
from .server.base import Services
from .server.limits import HttpLimits, make_server
from .server.seats import Seats
from .state import State
from .store import Store

log = logging.getLogger("hubfleet.backend")


class PortTaken(Exception):
    """The API's port cannot be had."""


def listen(config: Backend) -> list[socket.socket]:
    """Return the sockets of the API.

    Raises
    ------
    PortTaken
        With what to do.
    """
    try:
        return bind_sockets(config.port, config.ip)
    except OSError as error:
        advice = "--ip is to be an address of this machine, and --port one that this account may take"
        if error.errno == errno.EADDRINUSE:
            advice = "stop what is there, or choose another port with --port"
        raise PortTaken(
            f"cannot listen on {config.ip}:{config.port}: {error.strerror or error}; {advice}"
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
    config: Backend,
    state_dir: Path,
    tokens: Mapping[str, Caller],
    hub: HubIdentity | None,
    sockets: list[socket.socket],
    hub_gone: int | None = None,
) -> None:
    """Run until told to stop, leaving the tasks running.

    Parameters
    ----------
    state_dir
        Holds the database, the sandboxes and the launcher; absolute, and there already.
    tokens
        Who holds which static token.
    hub_gone
        A descriptor that becomes readable when the hub that this serves is gone.
    """
    with put_off():
        store = Store(state_dir / "backend.sqlite")
        state = State(store)
    driver = ProcessDriver(
        state_dir,
        host=config.hostname,
        cpus=config.cpus,
        mem=config.mem,
        disk=config.disk,
        port_range=config.ports,
        output_bytes=config.output_bytes,
        enforce_memory=config.enforce_memory,
        control_groups=config.control_groups,
        gpus=config.gpus,
        attributes=config.attributes,
        region=config.region,
        zone=config.zone,
        prefork=config.prefork,
        warm=config.warm,
        environment=base_environment(os.environ, None),
    )
    orchestrator = Orchestrator(
        state,
        driver,
        EventBus(),
        state_dir / "sandboxes",
        partial(base_environment, dict(os.environ)),
        TaskLimits(
            launch_seconds=config.launch_seconds,
            fetch_seconds=config.fetch_seconds,
            fetch_mib=config.fetch_mib,
            kept_tasks=config.kept_tasks,
            kept_seconds=config.kept_seconds,
        ),
        config.service_ports,
        DeploymentLimits(config.max_deployments, config.max_deployments_of_caller),
    )
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopping.set)
    if hub_gone is not None:
        loop.add_reader(hub_gone, stopping.set)
    await orchestrator.open()
    shared_account = config.accounts == "shared" or os.geteuid() != 0
    rules = QuotaRules(config.user_quota, config.app_quota, config.group_quotas, config.user_quotas)
    limits = Limits(config.max_apps, config.max_apps_of_user, config.max_labels, config.max_variables)
    admission = Admission(state, rules, limits, config.prefix)
    given = partial(is_of_a_server, state)
    authenticator = Authenticator(tokens, config.prefix, hub, shared_account, given)
    http = HttpLimits(
        body_bytes=config.max_request_bytes,
        header_bytes=config.max_header_bytes,
        body_seconds=config.body_seconds,
        idle_seconds=config.idle_seconds,
        reader_seconds=config.reader_seconds,
        connections=config.max_connections,
        connections_of_address=config.max_connections_of_address,
    )
    services = Services(
        orchestrator,
        authenticator,
        admission,
        Metrics(state),
        stop=stopping.set,
        open_metrics=config.open_metrics,
        http=http,
        seats=Seats(config.max_streams_of_caller, config.max_streams, config.max_streams // 5),
    )
    server = make_server(make_application(services), http)
    server.add_sockets(sockets)
    log.info(
        "serving the Marathon API on http://%s:%d; %d apps, offering %s",
        config.ip,
        sockets[0].getsockname()[1],
        len(state.apps),
        ", ".join(f"{offer.cpus:g} cpus and {offer.mem:g} MiB" for offer in driver.offers()),
    )
    asked = asyncio.create_task(stopping.wait())
    try:
        either: set[asyncio.Future[Any]] = {asked, orchestrator.failed}
        async with Garbage():
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

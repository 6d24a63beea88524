"""A cluster of apps alone: a scheduler that runs its workers as an app of its own, and perhaps a notebook."""

from __future__ import annotations

import asyncio
import secrets
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from distributed import Security
from distributed.core import rpc

from hubfleet.api import labels
from hubfleet.api.app import App, Container, Docker, Network, PortDefinition
from hubfleet.api.client import Client
from hubfleet.api.environment import BACKEND_URL, DASK_GROUP
from hubfleet.api.errors import BackendUnreachable, Conflict, NotFound
from hubfleet.api.ids import cluster_path, is_within, scheduler_app_id
from hubfleet.api.status import AppStatus, Task

from . import place
from .deployments import until_over
from .patience import LOCK_SECONDS
from .tls import encrypts

_PREFIX = "DASK_DISTRIBUTED__COMM__"
_LOOK_SECONDS = 0.2
_ANSWER_SECONDS = 5.0
_END_SECONDS = 60.0
_GRACE_SECONDS = 40  # longer than workers take to end, which the scheduler waits for
_NOTEBOOK_TOKEN_BYTES = 32


class NotDeployed(Exception):
    """The cluster did not come; the message says why, and nothing of it is left."""


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is to be deployed.

    Parameters
    ----------
    name
        The cluster's name.
    url, token, group, owner
        As of `MarathonCluster`.
    ip, port, dashboard_port
        Where the scheduler listens; None and 0 leave it to the backend.
    cpus, mem
        What the scheduler gets, memory in MiB.
    image
        A Docker image with hubfleet in it, for backends that run images.
    labels
        Further labels of the scheduler's app.
    security
        What the scheduler, the workers and the clients encrypt with.
    workers
        Arguments of ``hubfleet workers run`` that say what the workers are, quoted.
    jupyter
        Whether there is to be a notebook.
    """

    name: str
    url: str | None
    token: str = field(repr=False)
    group: str | None
    owner: str | None
    ip: str | None
    port: int
    dashboard_port: int
    cpus: float
    mem: float
    image: str | None
    labels: Mapping[str, str]
    security: Security = field(repr=False)
    workers: Sequence[str]
    jupyter: bool


@dataclass(frozen=True)
class Deployed:
    """What was deployed: the scheduler's address, and the notebook's with the token that opens it."""

    address: str
    notebook: str | None = field(default=None, repr=False)


async def deploy(what: Deployment, timeout: float, progress: Callable[[str], None]) -> Deployed:
    """Make the apps, and return when they answer.

    Raises
    ------
    NotDeployed
        They did not within `timeout` seconds, or cannot.
    hubfleet.api.errors.BackendError
        The backend refused, or did not answer.
    """
    client = place.backend_client(what.url, what.token)
    try:
        group = place.dask_group(what.group)
        scheduler = scheduler_app(what, client.urls, group)
        creating = asyncio.create_task(client.create_app(scheduler, LOCK_SECONDS))
        try:
            await asyncio.shield(creating)
        except Conflict as refusal:
            raise NotDeployed(
                f"there is a cluster named {what.name!r} already ({scheduler.id}): end that one with "
                f"`hubfleet workers stop {what.name}`, or give this one another name"
            ) from refusal
        except asyncio.CancelledError:
            # The request is on its way all the same, and what it makes would be nobody's.
            await asyncio.wait({creating})
            if creating.exception() is None:
                await _remove(client, cluster_path(group, what.name))
            raise
        try:
            return await _wait(what, client, group, scheduler, timeout, progress)
        except BaseException:
            # Whatever ends this, Ctrl-C as well, takes along what was begun.
            await asyncio.shield(_remove(client, cluster_path(group, what.name)))
            raise
    finally:
        client.close()


async def _wait(
    what: Deployment,
    client: Client,
    group: str,
    scheduler: App,
    timeout: float,
    progress: Callable[[str], None],
) -> Deployed:
    try:
        async with asyncio.timeout(timeout):
            task = await _running(client, scheduler.id, "scheduler", progress)
            scheme = "tls" if encrypts(what.security) else "tcp"
            address = f"{scheme}://{what.ip or task.host}:{task.ports[0]}"
            await _answering(address, what.security, client, scheduler.id)
            if not what.jupyter:
                return Deployed(address)
            token = secrets.token_urlsafe(_NOTEBOOK_TOKEN_BYTES)
            notebook = notebook_app(what, group, address, token, scheduler.id)
            await client.create_app(notebook)
            task = await _running(client, notebook.id, "notebook", progress)
            await _listening(task.host, task.ports[0], client, notebook.id)
            return Deployed(address, f"http://{task.host}:{task.ports[0]}/lab?token={token}")
    except TimeoutError:
        raise NotDeployed(f"the cluster did not come within {timeout:g} s, and was removed") from None


async def _running(client: Client, app_id: str, what: str, progress: Callable[[str], None]) -> Task:
    """Return the app's task when it runs; say meanwhile why it does not."""
    said = ""
    while True:
        app = await client.get_app(app_id)
        for task in app.tasks:
            if task.running and task.ports:
                return task
        _require_hope(app)
        queue = await client.list_queue()
        reasons = [item.explanation for item in queue if item.app and item.app.id == app_id]
        line = f"{what:10} waiting" + (f": {reasons[0]}" if reasons and reasons[0] else "")
        if line != said:
            progress(line)
            said = line
        await asyncio.sleep(_LOOK_SECONDS)


def _require_hope(app: AppStatus) -> None:
    if app.last_task_failure is not None:
        failure = app.last_task_failure
        printed = f"\n{failure.stderr.rstrip()}" if failure.stderr else ""
        raise NotDeployed(f"{app.id} ended, and the cluster was removed: {failure.message}{printed}")


async def _answering(address: str, security: Security, client: Client, app_id: str) -> None:
    """Wait until a scheduler answers to who has the certificate."""
    arguments = security.get_connection_args("client")
    while True:
        _require_hope(await client.get_app(app_id))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS), rpc(address, connection_args=arguments) as scheduler:
                await scheduler.identity(n_workers=0)
                return
        except (OSError, TimeoutError):
            await asyncio.sleep(_LOOK_SECONDS)


async def _listening(host: str, port: int, client: Client, app_id: str) -> None:
    """Wait until something listens on a port."""
    while True:
        _require_hope(await client.get_app(app_id))
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            await asyncio.sleep(_LOOK_SECONDS)
        else:
            writer.close()
            return


def scheduler_app(what: Deployment, urls: Sequence[str], group: str) -> App:
    """Return the app of the scheduler.

    What is secret is in the environment, which readers do not see, and never in the command line.
    """
    python = "python" if what.image else sys.executable
    app_id = scheduler_app_id(group, what.name)
    owner = place.owner_app(what.owner)
    # The workers end with the server that owns the whole, whose token may name no other owner, or else with
    # this app; and in any case by their lease, when nobody is here to renew it.
    workers_owner = shlex.quote(owner) if owner else '"$MARATHON_APP_ID"'
    ip = shlex.quote(what.ip) if what.ip else '"$HOST"'
    command = [
        f"exec {shlex.quote(python)} -m hubfleet.workers.cli run",
        f"--name {shlex.quote(what.name)} --owner {workers_owner}",
        f"--ip {ip}",
        '--port "$PORT_SCHEDULER" --dashboard-port "$PORT_DASHBOARD"',
        '--client-config "$MESOS_SANDBOX/client.yaml"',
        *what.workers,
    ]
    own = {labels.OWNER: owner} if owner else {}
    return App(
        id=app_id,
        cmd=" ".join(command),
        cpus=what.cpus,
        mem=what.mem,
        instances=1,
        env={
            **scheduler_environment(what.security),
            **place.trusted(),
            BACKEND_URL: ",".join(urls),
            DASK_GROUP: group,
            **({place.TOKEN: what.token} if what.token else {}),
        },
        labels={**what.labels, labels.CLUSTER: what.name, **own},
        container=_container(what.image),
        networks=[Network(mode="host")],
        port_definitions=[
            PortDefinition(name="scheduler", port=what.port),
            PortDefinition(name="dashboard", port=what.dashboard_port),
        ],
        require_ports=bool(what.port or what.dashboard_port),
        task_kill_grace_period_seconds=_GRACE_SECONDS,
    )


def scheduler_environment(security: Security) -> dict[str, str]:
    """Return the variables by which a scheduler, its workers and its clients configure encryption."""
    if not encrypts(security):
        return {}
    values: dict[str, Any] = {
        "REQUIRE_ENCRYPTION": "True",
        "TLS__CA_FILE": security.tls_ca_file,
        "TLS__SCHEDULER__CERT": security.tls_scheduler_cert,
        "TLS__SCHEDULER__KEY": security.tls_scheduler_key,
        "TLS__WORKER__CERT": security.tls_worker_cert,
        "TLS__WORKER__KEY": security.tls_worker_key,
        "TLS__CLIENT__CERT": security.tls_client_cert,
        "TLS__CLIENT__KEY": security.tls_client_key,
    }
    return {f"{_PREFIX}{name}": value for name, value in values.items() if value is not None}


def notebook_app(what: Deployment, group: str, address: str, token: str, scheduler_id: str) -> App:
    """Return the app of a notebook whose clients find the cluster by themselves.

    JupyterLab takes its token from the environment. It is never empty: whoever reaches a
    notebook without one runs code as its owner.
    """
    assert token
    of_clients = {
        name: value
        for name, value in scheduler_environment(what.security).items()
        if "__SCHEDULER__" not in name and "__WORKER__" not in name
    }
    python = "python" if what.image else sys.executable
    return App(
        id=f"{cluster_path(group, what.name)}/jupyter",
        cmd=f"exec {shlex.quote(python)} -m jupyterlab --no-browser --allow-root "
        '--ip "$HOST" --port "$PORT_NOTEBOOK" --ServerApp.port_retries=0 --ServerApp.root_dir="$HOME"',
        cpus=what.cpus,
        mem=what.mem,
        instances=1,
        env={
            "JUPYTER_TOKEN": token,
            "DASK_SCHEDULER_ADDRESS": address,
            **of_clients,
        },
        labels={
            **what.labels,
            labels.CLUSTER: what.name,
            labels.OWNER: place.owner_app(what.owner) or scheduler_id,
        },
        container=_container(what.image),
        networks=[Network(mode="host")],
        port_definitions=[PortDefinition(name="notebook")],
    )


def _container(image: str | None) -> Container | None:
    return Container(type="MESOS", docker=Docker(image=image)) if image else None


async def stop(name: str, url: str | None, token: str, group: str | None) -> list[str]:
    """End a cluster, and return the ids of the apps that it had.

    Raises
    ------
    hubfleet.api.errors.BackendError
        The backend refused, or did not answer.
    """
    client = place.backend_client(url, token)
    try:
        return await _remove(client, cluster_path(place.dask_group(group), name))
    finally:
        client.close()


async def _remove(client: Client, path: str) -> list[str]:
    """Remove all apps in a group, the scheduler first: what has no scheduler is not to be scaled by it."""
    apps = [app.id for app in await client.list_apps(containing=path) if is_within(app.id, path)]
    deployments = []
    for app_id in sorted(apps, key=lambda app_id: not app_id.endswith("/scheduler")):
        try:
            deleted = await client.delete_app(app_id)
        except NotFound:
            continue  # gone with its owner
        if deleted.deployment_id:
            deployments.append(deleted.deployment_id)
    try:
        await until_over(client, deployments, _END_SECONDS)
    except BackendUnreachable:
        pass
    return apps

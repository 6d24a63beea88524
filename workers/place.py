"""Where a cluster finds its backend, its place there and its own address: arguments, else environment."""

from __future__ import annotations

import os
from importlib.util import find_spec

import dask.config
from distributed.utils import format_dashboard_link

from hubfleet.api.client import Client
from hubfleet.api.environment import APP_ID, BACKEND_URL, DASK_GROUP, HOST, TASK_ID

from .checks import text

TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105 (the name of a variable)
"""The server's own token at the hub, set by JupyterHub."""

_BASIC = "Basic "
"""With which a token begins that is a name and a password; no token of a hub has a blank in it."""

_AUTHORITIES = "REQUESTS_CA_BUNDLE"
"""The usual name for the file of the certificate authorities that a site trusts."""

_PREFIX = "JUPYTERHUB_SERVICE_PREFIX"
_PLAIN_LINK = "{scheme}://{host}:{port}/status"


def backend_client(url: str | None, token: str | None) -> Client:
    """Return the client of the backend; a token such as ``Basic ann:secret`` is a name and a password.

    An ``https`` address is trusted by the authorities of `trusted`, if there are any, else by the usual ones.

    Raises
    ------
    ValueError
        Its address or the credential is neither given nor in the environment.
    """
    where = _given("url", url, BACKEND_URL, "the address of the backend, such as 'http://127.0.0.1:8081'")
    # An empty token is an answer: a Marathon that asks for none.
    if token is None:
        token = _given("token", token, TOKEN, "the credential at the backend ('' if it asks for none)")
    verify = trusted().get(_AUTHORITIES, True)
    if not token.startswith(_BASIC):
        return Client(where, token=token or None, verify=verify, connections=4)
    username, colon, password = token.removeprefix(_BASIC).partition(":")
    if not (username and colon):
        # Not with the value, which is a secret.
        raise ValueError("a token that begins with 'Basic ' must go on with a name, a colon and a password")
    return Client(where, username=username, password=password, verify=verify, connections=4)


def trusted() -> dict[str, str]:
    """Return the variable that names the authorities trusted here, for an app that asks the backend too."""
    file = os.environ.get(_AUTHORITIES)
    return {_AUTHORITIES: file} if file else {}


def credential_of(marathon: Client) -> str:
    """Return the token with which `backend_client` makes a client like this one."""
    transport = marathon.transport
    return f"{_BASIC}{':'.join(transport.auth)}" if transport.auth else transport.auth_token or ""


def dask_group(group: str | None) -> str:
    """Return the group in which the cluster's app is made.

    Raises
    ------
    ValueError
        It is neither given nor in the environment.
    """
    return _given("group", group, DASK_GROUP, "the group for the workers' app, such as '/jupyter/alice/dask'")


def owner_app(owner: str | None) -> str | None:
    """Return the app id of the server for which the cluster works, if it works for one."""
    return (os.environ.get(APP_ID) if owner is None else owner) or None


def own_host(host: str | None) -> str:
    """Return the address under which workers reach this process.

    In a task it is the one that the backend says; ``HOST`` alone is not asked, since some
    shells set it to the machine's name.
    """
    if host is not None:
        return text("host", host)
    in_a_task = os.environ.get(TASK_ID)
    return (in_a_task and os.environ.get(HOST)) or "127.0.0.1"


def dashboard_link(host: str, port: int) -> str:
    """Return the link to the dashboard as the user's browser reaches it.

    Through the hub where jupyter-server-proxy is there, unless Dask's configuration says
    where dashboards are (``distributed.dashboard.link``).
    """
    prefix = os.environ.get(_PREFIX)
    configured = dask.config.get("distributed.dashboard.link", _PLAIN_LINK) != _PLAIN_LINK
    if prefix and not configured and find_spec("jupyter_server_proxy"):
        return f"{prefix.rstrip('/')}/proxy/{port}/status"
    return str(format_dashboard_link(host, port))


def _given(argument: str, value: str | None, variable: str, what: str) -> str:
    found = os.environ.get(variable, "") if value is None else text(argument, value)
    if not found:
        raise ValueError(
            f"{what}, is missing: pass {argument}=..., or set {variable}, which a server has that "
            "hubfleet started"
        )
    return found

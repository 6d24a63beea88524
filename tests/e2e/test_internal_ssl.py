"""With JupyterHub.internal_ssl all between hub, proxy and servers is encrypted and verified on both sides."""

from __future__ import annotations

import ssl
import stat
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests
from hub import Hub
from hubs import AdminOf
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

pytestmark = pytest.mark.long

ENCRYPTED = """
c.JupyterHub.internal_ssl = True
c.JupyterHub.internal_certs_location = os.environ["HUBFLEET_STATE"] + "/certificates"
c.JupyterHub.hub_bind_url = c.JupyterHub.hub_bind_url.replace("http:", "https:")
c.ConfigurableHTTPProxy.api_url = c.ConfigurableHTTPProxy.api_url.replace("http:", "https:")
c.JupyterHub.log_level = "DEBUG"
"""


def server_process(hub: Hub) -> psutil.Process:
    """The process of the one server that runs."""
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if "JUPYTERHUB_SSL_KEYFILE" in environment and environment.get("MESOS_SANDBOX", "").startswith(
            str(hub.state)
        ):
            return process
    raise AssertionError("no server runs")


async def test_a_server_gets_its_certificates_and_nobody_else_does(own_hub: Callable[[str], Hub]) -> None:
    hub = own_hub(ENCRYPTED)
    admin = AdminOf(hub)
    assert admin("POST", "/users/alice").status_code == 201
    admin.start("alice")
    assert admin.whoami("alice") == "alice"

    process = server_process(hub)
    environment = process.environ()
    key = Path(environment["JUPYTERHUB_SSL_KEYFILE"])
    for name in ("KEYFILE", "CERTFILE", "CLIENT_CA"):
        status = Path(environment[f"JUPYTERHUB_SSL_{name}"]).stat()
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_uid == process.uids().effective
    assert stat.S_IMODE(key.parent.stat().st_mode) == 0o700
    secret = key.read_text().splitlines()[1]
    assert not any(secret in value for value in environment.values())
    assert all(secret not in word for word in process.cmdline())
    assert secret not in hub.log.read_text()

    # Without a certificate of the hub's nobody is heard, not even by the path that needs no login.
    app = admin.backend("GET", "/v2/apps//jupyter/alice/notebook").json()["app"]
    address = f"https://127.0.0.1:{app['tasks'][0]['ports'][0]}/user/alice/api"
    stranger = ssl.create_default_context(
        cafile=str(hub.state / "certificates/notebooks-ca/notebooks-ca.crt")
    )
    with pytest.raises((urllib.error.URLError, ssl.SSLError, ConnectionError)) as refused:
        urllib.request.urlopen(address, context=stranger, timeout=60)
    assert not isinstance(refused.value, urllib.error.HTTPError)
    assert secret not in str(app["cmd"])

    # The backend, a service of the same hub, still knows whose token it sees.
    token = admin.token_of("alice")
    mine = requests.get(
        f"{hub.backend_url}/v2/apps", headers={"Authorization": f"token {token}"}, timeout=60
    ).json()["apps"]
    assert [each["id"] for each in mine] == ["/jupyter/alice/notebook"]

    channel = await websocket_connect(
        HTTPRequest(
            f"ws://{urlsplit(hub.url).netloc}/user/alice/api/events/subscribe",
            headers={"Authorization": f"token {token}"},
            connect_timeout=60,
            request_timeout=60,
        )
    )
    channel.close()

"""Each user under a domain of their own: the servers of one hub, found by host through the proxy."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import requests
from hub import Hub
from hubs import AdminOf

pytestmark = pytest.mark.long

SUBDOMAINS = """
c.JupyterHub.subdomain_host = c.JupyterHub.bind_url.replace("127.0.0.1", "hub.example.org")
"""


def test_each_users_server_is_under_their_own_domain(own_hub: Callable[[str], Hub]) -> None:
    hub = own_hub(SUBDOMAINS)
    admin = AdminOf(hub)
    port = urlsplit(hub.url).port
    names = ("alice", "bob")
    for name in names:
        assert admin("POST", f"/users/{name}").status_code == 201
        admin.start(name)
    for name in names:
        token = {"Authorization": f"token {admin.token_of(name)}"}
        for host in names:
            answer = requests.get(
                f"{hub.url}/user/{name}/api/me",
                headers={**token, "Host": f"{host}.hub.example.org:{port}"},
                timeout=60,
                allow_redirects=False,
            )
            # Under another's domain the hub answers, and knows of no such server.
            if host == name:
                assert answer.json()["identity"]["username"] == name
            else:
                assert answer.status_code != 200

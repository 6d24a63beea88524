"""Every name gets a server of its own, whatever it looks like."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from hub import Hub
from hubs import AdminOf, has_template

pytestmark = pytest.mark.long

NAMES = ["Ünïcode", "a b", "alice@example.org", "ALICE", "alice", "n" * 200, "$(id)", "tasks"]

# JupyterHub's authenticators lower the case of names, unless a site says otherwise.
KEEPS_CASE = """
from jupyterhub.authenticators.shared import SharedPasswordAuthenticator

class KeepsCase(SharedPasswordAuthenticator):
    def normalize_username(self, username):
        return username

c.JupyterHub.authenticator_class = KeepsCase
c.KeepsCase.user_password = "the password of the tests"
"""


def test_every_name_gets_its_own_server(own_hub: Callable[[str], Hub]) -> None:
    hub = own_hub(KEEPS_CASE)
    admin = AdminOf(hub)
    for name in NAMES:
        answer = admin("POST", f"/users/{quote(name, safe='')}")
        assert answer.status_code == 201, answer.text
        assert answer.json()["name"] == name
    admin.start(NAMES[0])
    has_template(hub)  # so that of the many servers only the first one is executed, which takes seconds
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: admin.start(name), NAMES[1:]))
        assert list(pool.map(lambda name: admin.whoami(name), NAMES)) == NAMES
    apps = admin.backend("GET", "/v2/apps", params={"embed": "apps.tasks"}).json()["apps"]
    ids = [app["id"] for app in apps]
    assert len(ids) == len(set(ids)) == len(NAMES)
    assert {app["labels"]["HUBFLEET_USER"] for app in apps} == set(NAMES)
    assert len({tuple(app["tasks"][0]["ports"]) for app in apps}) == len(NAMES)
    homes = [path.name for path in (hub.state / "homes").iterdir()]
    assert len(homes) == len(NAMES)
    admin.start("alice", "second")
    assert admin.whoami("alice", "second") == "alice"
    admin.start("a b", "second")
    assert admin.whoami("a b", "second") == "a b"
    assert admin("DELETE", "/users/alice/servers/second").status_code in (202, 204)
    deadline = time.monotonic() + 120
    while any(app["id"] == "/jupyter/alice/servers/second" for app in _apps(admin)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert admin.whoami("alice") == "alice", "stopping one server leaves the other"


def _apps(admin: AdminOf) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = admin.backend("GET", "/v2/apps").json()["apps"]
    return found

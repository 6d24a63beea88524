"""Scopes, roles and groups of a real hub decide what their holders reach at the backend."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from hub import Hub
from hubs import AdminOf, make_hub

SERVICES = {"board": "of-the-board-of-the-tests", "second": "of-a-second-spawner-of-the-tests"}
CONFIGURATION = """
c.JupyterHub.custom_scopes = {
    f"custom:hubfleet:{name}": {"description": f"{name} at hubfleet's backend"}
    for name in ("admin", "hub", "read")
}
c.JupyterHub.load_groups = {
    "physics": {"users": ["pia"]},
    "teachers": {"users": ["tess"]},
    "others": {"users": ["oda", "stu"]},
}
c.JupyterHub.services += [{"name": name, "api_token": token} for name, token in SERVICES.items()]
c.JupyterHub.load_roles += [
    {"name": "operators", "users": ["oda"], "scopes": ["custom:hubfleet:admin"]},
    {"name": "boards", "services": ["board"], "scopes": ["custom:hubfleet:read"]},
    {"name": "spawners", "services": ["second"], "scopes": ["custom:hubfleet:hub"]},
    {"name": "teachers", "groups": ["teachers"], "scopes": ["custom:hubfleet:read!user=stu"]},
]
c.JupyterHub.services[0]["command"].append("--config=" + BACKEND)
"""
BACKEND = """
c.Backend.user_quota = {"instances": 1}
c.Backend.group_quotas = {"physics": {"user": {"instances": 3}}}
"""
OUTSIDE, OF_STU, OF_PIA = "/outside/app", "/jupyter/stu/dask/c", "/jupyter/pia/dask/c"


class SomebodyAt:
    """The backend as the holder of a hub token meets it."""

    def __init__(self, hub: Hub, token: str) -> None:
        self._url, self._headers = hub.backend_url, {"Authorization": f"token {token}"}

    def __call__(self, method: str, path: str, body: Any = None) -> requests.Response:
        return requests.request(method, self._url + path, headers=self._headers, json=body, timeout=60)

    def sees(self) -> set[str]:
        return {app["id"] for app in self("GET", "/v2/apps").json()["apps"]}

    def create(self, app_id: str, instances: int) -> requests.Response:
        secret = {"SECRET": "secret-of-the-scopes"}
        body = {"id": app_id, "cmd": "exec sleep 300", "cpus": 0.1, "mem": 8, "env": secret}
        return self("POST", "/v2/apps", {**body, "instances": instances})


@pytest.fixture(scope="module")
def scoped_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    folder: Path = tmp_path_factory.mktemp("scoped")
    backend = folder / "backend_config.py"
    backend.write_text(BACKEND)
    extra = f"SERVICES = {SERVICES!r}\nBACKEND = {str(backend)!r}\n" + CONFIGURATION
    hub = make_hub(folder / "hub", extra)
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


@pytest.fixture(scope="module")
def people(scoped_hub: Hub) -> dict[str, SomebodyAt]:
    """Everybody with a token as they make it on the hub's token page, or as their service has it."""
    admin, found = AdminOf(scoped_hub), {}
    for name in ("oda", "pia", "stu", "tess"):
        answer = admin("POST", f"/users/{name}/tokens", json={"note": "tests"})
        assert answer.status_code == 201, answer.text
        found[name] = SomebodyAt(scoped_hub, answer.json()["token"])
    return found | {name: SomebodyAt(scoped_hub, token) for name, token in SERVICES.items()}


@pytest.fixture
def apps(people: dict[str, SomebodyAt]) -> Iterator[None]:
    """Apps of two users, and one that is nobody's at this hub."""
    for app_id, name in ((OUTSIDE, "oda"), (OF_STU, "stu"), (OF_PIA, "pia")):
        made = people[name].create(app_id, 1)
        assert made.status_code == 201, made.text
    yield
    for app_id in (OUTSIDE, OF_STU, OF_PIA):
        people["oda"]("DELETE", f"/v2/apps{app_id}")
    deadline = time.monotonic() + 120
    while people["oda"]("GET", "/v2/deployments").json():  # what still ends counts for the quotas
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.usefixtures("apps")
def test_what_the_hubs_roles_give_is_what_one_reaches(people: dict[str, SomebodyAt]) -> None:
    everything = {OUTSIDE, OF_STU, OF_PIA}
    expected = {
        # who: what they see, see inside of, and may change
        "oda": (everything, everything, everything),
        "second": ({OF_STU, OF_PIA}, {OF_STU, OF_PIA}, {OF_STU, OF_PIA}),
        "board": (everything, set(), set()),
        "tess": ({OF_STU}, set(), set()),
        "stu": ({OF_STU}, {OF_STU}, {OF_STU}),
        "pia": ({OF_PIA}, {OF_PIA}, {OF_PIA}),
    }
    for name, (seen, opened, changed) in expected.items():
        somebody = people[name]
        assert somebody.sees() == seen, name
        for app_id in everything:
            shown = somebody("GET", f"/v2/apps{app_id}")
            assert shown.status_code == (200 if app_id in seen else 404)
            assert ("secret-of-the-scopes" in shown.text) == (app_id in opened)
            # A wrong change is looked at only from those who may make a right one.
            answer = somebody("PUT", f"/v2/apps{app_id}", {"cpus": -1})
            assert answer.status_code == (422 if app_id in changed else 403), (name, app_id)
        assert somebody("GET", "/metrics").status_code == (200 if seen == everything else 403)
        assert somebody("GET", "/logging").status_code == (200 if name == "oda" else 403)


def test_the_hubs_groups_widen_a_quota(people: dict[str, SomebodyAt]) -> None:
    for name, limit in (("stu", 1), ("pia", 3)):
        own = people[name]
        refused = own.create(f"/jupyter/{name}/dask/many", limit + 1)
        assert refused.status_code == 403
        assert (
            f"may have {limit} {'instance' if limit == 1 else 'instances'} in all"
            in refused.json()["message"]
        )
        assert own.sees() == set()
        report = own("GET", "/hubfleet/quota").json()
        assert report["limits"]["user"]["instances"] == limit
        assert own.create(f"/jupyter/{name}/dask/many", limit).status_code == 201
        assert own("DELETE", f"/v2/apps/jupyter/{name}/dask/many").status_code == 200
    of_pia = people["oda"]("GET", "/hubfleet/quota?user=pia").json()
    assert of_pia["groups"] == ["physics"]
    assert people["tess"]("GET", "/hubfleet/quota?user=pia").status_code == 403

"""The real hub says who a token belongs to, and the backend what that person may reach."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import requests
from conftest import RunningBackend
from hub import Hub
from hubs import AdminOf
from ports import backend_ports

pytestmark = pytest.mark.long


def app(app_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": app_id, "cmd": "exec sleep 300", "cpus": 0.1, "mem": 8, **fields}


class UserOf:
    """The backend as the holder of a hub token meets it."""

    def __init__(self, hub: Hub, token: str) -> None:
        self._hub, self._headers = hub, {"Authorization": f"token {token}"}

    def __call__(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return requests.request(
            method, f"{self._hub.backend_url}{path}", headers=self._headers, timeout=60, **arguments
        )


@pytest.fixture
def tokens(admin: AdminOf) -> dict[str, str]:
    """Tokens as people make them on the hub's token page; one of them is for very little."""
    found = {}
    for name in ("dora", "emil"):
        admin("POST", f"/users/{name}")
        answer = admin("POST", f"/users/{name}/tokens", json={"note": "tests"})
        assert answer.status_code == 201, answer.text
        found[name] = answer.json()["token"]
    narrow = {"note": "tests", "scopes": ["read:users:name!user=dora"]}
    found["dora, narrow"] = admin("POST", "/users/dora/tokens", json=narrow).json()["token"]
    return found


def test_a_user_reaches_their_own_dask_apps_and_nothing_else(
    hub: Hub, admin: AdminOf, tokens: dict[str, str]
) -> None:
    dora, emil = UserOf(hub, tokens["dora"]), UserOf(hub, tokens["emil"])
    own = "/jupyter/dora/dask/c/workers"
    try:
        assert dora("POST", "/v2/apps", json=app(own)).status_code == 201
        assert [each["id"] for each in dora("GET", "/v2/apps").json()["apps"]] == [own]
        assert emil("GET", "/v2/apps").json()["apps"] == []
        assert emil("GET", f"/v2/apps{own}").status_code == 404
        for method, body in (("PUT", app(own)), ("DELETE", None)):
            answer = emil(method, f"/v2/apps{own}", json=body)
            assert answer.status_code == 403
            assert "/jupyter/emil/dask/" in answer.json()["message"]
        for elsewhere in (
            "/jupyter/dora/notebook",
            "/jupyter/emil/dask/c/workers",
            "/top",
            "/jupyter/dora/dask",
        ):
            assert dora("POST", "/v2/apps", json=app(elsewhere)).status_code == 403
        assert (
            dora("POST", "/v2/apps", json=app("/jupyter/dora/dask/d/workers", user="root")).status_code == 422
        )
        assert [each["id"] for each in admin.backend("GET", "/v2/apps").json()["apps"]] == [own]
    finally:
        assert dora("DELETE", f"/v2/apps{own}").status_code == 200


async def test_a_backend_that_no_hub_started_asks_the_one_that_it_is_told_of(
    hub: Hub, tokens: dict[str, str], tmp_path: Path
) -> None:
    backend = RunningBackend(tmp_path / "state", backend_ports(), **{"hub-api-url": f"{hub.url}/hub/api/"})
    backend.options["accounts"] = "shared"
    headers = {"Authorization": f"token {tokens['dora']}"}
    try:
        await backend.start()
        for app_id, status in (("/jupyter/dora/dask/c", 201), ("/jupyter/emil/dask/c", 403)):
            answer = requests.post(f"{backend.url}/v2/apps", json=app(app_id), headers=headers, timeout=60)
            assert answer.status_code == status, answer.text
    finally:
        await backend.destroy()


def test_a_token_that_may_do_less_runs_nothing(hub: Hub, tokens: dict[str, str]) -> None:
    answer = UserOf(hub, tokens["dora, narrow"])("POST", "/v2/apps", json=app("/jupyter/dora/dask/c/workers"))
    assert answer.status_code == 403
    assert "access:servers" in answer.json()["message"]


def test_nobody_without_a_known_token(hub: Hub) -> None:
    for headers in ({}, {"Authorization": "token 0123456789abcdef0123456789abcdef"}):
        for path in ("/v2/apps", "/v2/events", "/v2/info", "/v2/queue", "/v2/deployments"):
            answer = requests.get(f"{hub.backend_url}{path}", headers=headers, timeout=60)
            assert answer.status_code == 401, path
            assert "token" in answer.json()["message"]


def test_a_revoked_token_is_refused_within_a_minute(hub: Hub, admin: AdminOf) -> None:
    admin("POST", "/users/fred")
    made = admin("POST", "/users/fred/tokens", json={"note": "tests"}).json()
    fred = UserOf(hub, made["token"])
    assert fred("GET", "/v2/apps").status_code == 200
    assert admin("DELETE", f"/users/fred/tokens/{made['id']}").status_code == 204
    deadline = time.monotonic() + 60
    while fred("GET", "/v2/apps").status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.5)

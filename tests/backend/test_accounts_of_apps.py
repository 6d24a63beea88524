"""As which account a user's app runs, and with which server it goes, whoever it says that it belongs to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sites import BODY, Site, site_for_one

SERVER, GROUP = "/jupyter/bob/notebook", "/jupyter/bob/dask/s"
NONE = {**BODY, "instances": 0}

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run tasks as another account")


@pytest.fixture
async def parted(tmp_path: Path) -> AsyncIterator[Site]:
    """Nobody's apps run as the backend's own account, unless a server does; bob's runs as nobody."""
    async with site_for_one(tmp_path, accounts="server") as site:
        await site.admin("POST", "/v2/apps", {"id": SERVER, "user": "nobody", **NONE})
        site.hub.owners["token-of-bob-server"] = {
            "kind": "user",
            "name": "bob",
            "scopes": ["access:servers!server=bob/"],
        }
        yield site


def owned(owner: str, name: str = "") -> dict[str, Any]:
    return {"id": f"{GROUP}/{name}" if name else GROUP, "labels": {"HUBFLEET_OWNER": owner}, **NONE}


@as_root
async def test_an_owner_that_is_not_there_yet_makes_nobody_root(parted: Site) -> None:
    for itself in (owned(GROUP), [owned(f"{GROUP}/b", "a"), owned(f"{GROUP}/a", "b")]):
        method = "POST" if isinstance(itself, dict) else "PUT"
        assert (await parted.bob(method, "/v2/apps", itself)).status_code in (200, 201), itself
        await parted.bob.deployed()
        apps = (await parted.bob.get("/v2/apps"))["apps"]
        assert {app["user"] for app in apps} == {"nobody"}
        await parted.bob("DELETE", "/v2/groups/jupyter/bob/dask?force=true")
        await parted.bob.deployed()
    together = [{"id": f"{GROUP}/a", **NONE}, owned(f"{GROUP}/a", "b"), owned(f"{GROUP}/b", "c")]
    assert (await parted.bob("PUT", "/v2/apps", together)).status_code == 200
    await parted.bob.deployed()
    made = {app["id"]: app["user"] for app in (await parted.admin.get("/v2/apps"))["apps"]}
    assert made == {SERVER: "nobody", **{f"{GROUP}/{name}": "nobody" for name in "abc"}}


@as_root
async def test_a_group_that_is_gone_comes_back_as_the_account_that_it_had(parted: Site) -> None:
    apps = [{**NONE, "id": "a"}, {**NONE, "id": "b", "labels": {"HUBFLEET_OWNER": f"{GROUP}/a"}}]
    assert (await parted.bob("PUT", f"/v2/groups{GROUP}", {"apps": apps})).status_code == 200
    await parted.bob.deployed()
    (version,) = await parted.bob.get(f"/v2/groups{GROUP}/versions")
    assert (await parted.bob("PUT", f"/v2/groups{GROUP}", {"apps": []})).status_code == 200
    await parted.bob.deployed()
    back = await parted.bob("PUT", f"/v2/groups{GROUP}", {"version": version})
    assert back.status_code == 200, back.text
    assert [(await parted.bob.app(f"{GROUP}/{name}"))["user"] for name in "ab"] == ["nobody", "nobody"]


@as_root
async def test_what_a_server_makes_goes_with_the_server_however_it_is_owned(parted: Site) -> None:
    server = parted.user("token-of-bob-server")
    mine = [owned(SERVER, "a"), owned(f"{GROUP}/a", "b")]
    assert (await server("PUT", "/v2/apps", mine)).status_code == 200
    await parted.admin.deployed()
    for ring in ([owned(f"{GROUP}/a", "a")], [owned(f"{GROUP}/b", "a")]):
        assert (await server("PUT", "/v2/apps", ring)).status_code == 422
        assert (await server("PUT", f"/v2/apps{ring[0]['id']}", ring[0])).status_code == 422
    assert (await server("PUT", "/v2/apps", [owned(SERVER, "b")])).status_code == 200
    await parted.admin.deployed()
    ring = [owned(f"{GROUP}/b", "a"), owned(f"{GROUP}/a", "b")]
    assert (await server("PUT", "/v2/apps", ring)).status_code == 422, "each alone would do"
    assert (await parted.admin("DELETE", f"/v2/apps{SERVER}")).status_code == 200
    assert (await parted.admin.get("/v2/apps"))["apps"] == []

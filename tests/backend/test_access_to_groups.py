"""Who sees and changes which group, and what is told of others where a change touches both."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from sites import BODY, Site, running_site

ALICES, BOBS = "/jupyter/alice/dask/c/workers", "/jupyter/bob/dask/c/workers"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(autouse=True)
def nothing_is_left(site: Site) -> Iterator[None]:
    yield

    async def clean() -> None:
        await site.admin("DELETE", "/v2/groups?force=true")
        await site.admin.deployed()

    asyncio.run(clean())


async def test_a_deployment_of_others_too_is_not_named(site: Site) -> None:
    waiting = {**BODY, "cpus": 33, "instances": 2}
    both = [{"id": ALICES, **waiting}, {"id": BOBS, **waiting}]
    assert (await site.admin("PUT", "/v2/apps", both)).status_code == 200
    (deployment,) = await site.admin.get("/v2/deployments")
    for path in (
        *("/v2/apps", f"/v2/apps{ALICES}", "/v2/apps/jupyter/alice/*"),
        *("/v2/groups?embed=group.apps&embed=group.groups&embed=group.apps.deployments", "/v2/deployments"),
    ):
        assert deployment["id"] in (await site.admin("GET", path)).text
        assert deployment["id"] not in (await site.alice("GET", path)).text, path

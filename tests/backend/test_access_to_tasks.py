"""What a user may not see does not exist: neither by lists, stars, versions nor kills."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sites import BODY, Site, running_site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


async def test_others_do_not_exist_for_a_user(site: Site) -> None:
    hidden, own = "/jupyter/bob/dask/c", "/jupyter/alice/dask/c"
    for app_id in (hidden, own):
        assert (await site.admin("POST", "/v2/apps", {"id": app_id, **BODY})).status_code == 201
    (his,) = await site.admin.running(hidden)
    await site.admin.running(own)
    await site.admin.deployed()
    version = (await site.admin.app(hidden))["version"]
    assert {task["appId"] for task in (await site.alice.get("/v2/tasks"))["tasks"]} == {own}
    assert {app["id"] for app in (await site.alice.get("/v2/apps/*"))["*"]} == {own}
    assert {task["appId"] for task in (await site.alice.get("/v2/apps/*/tasks"))["tasks"]} == {own}
    for method, path in (
        ("GET", "/jupyter/bob/*"),
        ("GET", f"{hidden}/versions"),
        ("GET", f"{hidden}/versions/{version}"),
        ("GET", f"{hidden}/tasks"),
        ("DELETE", f"{hidden}/tasks"),
        ("DELETE", f"{hidden}/tasks?scale=true"),
        ("DELETE", f"{hidden}/tasks/{his['id']}"),
        ("POST", f"{hidden}/restart"),
    ):
        assert (await site.alice(method, f"/v2/apps{path}")).status_code == 404, path
    assert (await site.alice("DELETE", f"/v2/queue{hidden}/delay")).status_code == 404
    for method in ("PUT", "PATCH"):
        both = [{"id": own, "cpus": 0.02}, {"id": hidden, "cpus": 0.02}]
        assert (await site.alice(method, "/v2/apps", both)).status_code == 403
    assert (await site.admin.app(own))["cpus"] == BODY["cpus"]
    assert (await site.admin.running(hidden))[0]["id"] == his["id"]


async def test_what_a_user_only_sees_is_not_ended(site: Site) -> None:
    server = "/jupyter/alice/notebook"
    assert (await site.admin("POST", "/v2/apps", {"id": server, **BODY})).status_code == 201
    (task,) = await site.admin.running(server)
    await site.admin.deployed()
    for method, path in (
        ("DELETE", f"{server}/tasks"),
        ("DELETE", f"{server}/tasks/{task['id']}?wipe=true"),
        ("DELETE", f"{server}/tasks?scale=true"),
        ("POST", f"{server}/restart"),
        ("PATCH", server),
    ):
        answer = await site.alice(method, f"/v2/apps{path}", {"cpus": 0.02} if method == "PATCH" else None)
        assert answer.status_code == 403, (path, answer.text)
    assert (await site.admin.running(server))[0]["id"] == task["id"]

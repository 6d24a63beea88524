"""Who may see and change what. The hub is a double here; the end-to-end tests ask a real one."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from rest import eventually, stream
from sites import BODY, OWNERS, READER, Site, running_site, site_for_one


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.mark.parametrize(
    "authorization",
    [
        *(None, "", "token", "token ", "token=", "Bearer", "Basic", "Basic !!", "Basic Og==", "Digest x"),
        *("token wrong", "token=wrong", "token an-administrator-of-the-test", "token " + "x" * 5000),
        "token \u00e9",
        "Basic " + base64.b64encode(b"x:a\r\nX-Evil: 1").decode(),
        "Basic " + base64.b64encode(b"x:\xff").decode(),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v2/apps"), ("POST", "/v2/apps"), ("GET", "/v2/events")]
)
async def test_who_is_not_known_is_told_so_and_nothing_else(
    site: Site, method: str, path: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode("latin1")}
    answer = await site.user(None)(method, path, {"id": "/x", **BODY}, headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401, answer.text
    assert answer.json().keys() == {"message"}
    assert "token" in answer.json()["message"]
    assert "WWW-Authenticate" in answer.headers
    assert not any("\n" in token for token in site.hub.asked)


@pytest.mark.parametrize("form", ["token={}", "token {}", "Token {}", "Bearer {}", "Basic"])
async def test_a_token_comes_in_many_forms(site: Site, form: str) -> None:
    for token in (site.backend.admin_token, "token-of-alice"):
        basic = "Basic " + base64.b64encode(f"anybody:{token}".encode()).decode()
        header = basic if form == "Basic" else form.format(token)
        answer = await site.user(None)("GET", "/v2/apps", headers={"Authorization": header})
        assert answer.status_code == 200


async def test_a_user_makes_changes_and_ends_apps_in_their_own_group(site: Site) -> None:
    made = await site.alice("POST", "/v2/apps", {"id": "/jupyter/alice/dask/c/workers", **BODY})
    assert made.status_code == 201, made.text
    path = "/v2/apps/jupyter/alice/dask/c/workers"
    (task,) = await site.alice.running("/jupyter/alice/dask/c/workers")
    await site.alice.deployed()
    assert (await site.alice("PUT", path, {"instances": 2})).status_code == 200
    await site.alice.running("/jupyter/alice/dask/c/workers", 2)
    await site.alice.deployed()
    killed = await site.alice("POST", "/v2/tasks/delete?scale=true", {"ids": [task["id"]]})
    assert killed.status_code == 200
    assert (await site.alice("DELETE", path)).status_code == 200
    await site.alice.deployed()


@pytest.mark.parametrize(
    "app_id",
    [
        *("/x", "/jupyter/x", "/jupyter/bob/dask/x", "/jupyter/alice/notebook", "/jupyter/alice/dask"),
        *("/jupyter/alice/x", "/jupyter/alicedask/x", "/jupyter/alice2/dask/x", "/other/alice/dask/x"),
    ],
)
async def test_a_user_changes_nothing_elsewhere(site: Site, app_id: str) -> None:
    answers = [
        await site.alice("POST", "/v2/apps", {"id": app_id, **BODY}),
        await site.alice("PUT", f"/v2/apps{app_id}", BODY),
        await site.alice("DELETE", f"/v2/apps{app_id}"),
    ]
    for answer in answers:
        assert answer.status_code == 403, answer.text
        assert answer.json()["message"] == (
            "the user alice may make and change apps only under /jupyter/alice/dask/,"
            f" and {app_id} is not there"
        )
    assert (await site.admin.get(f"/v2/apps?id={app_id}/"))["apps"] == []


@pytest.mark.parametrize(
    "app_id", ["/jupyter/alice/dask/../../bob/dask/x", "/jupyter/alice/dask/..", "/jupyter/alice/dask//x"]
)
async def test_no_path_leads_out_of_the_group(site: Site, app_id: str) -> None:
    assert (await site.alice("POST", "/v2/apps", {"id": app_id, **BODY})).status_code in (403, 422)
    escaped = app_id.replace("..", "%252e%252e").replace("//", "/%252F")
    assert (await site.alice("PUT", f"/v2/apps{escaped}", BODY)).status_code in (403, 422)


async def test_a_user_sees_their_own_and_nothing_of_others(site: Site) -> None:
    await site.admin("POST", "/v2/apps", {"id": "/jupyter/alice/notebook", **BODY})
    check = {"protocol": "TCP", "intervalSeconds": 1}
    hidden = {
        "id": "/jupyter/bob/dask/c/workers",
        "env": {"SECRET": "secret-of-bob"},
        "healthChecks": [check],
        "instances": 2,
        **BODY,
        "cpus": 33,
    }
    async with stream(site.backend.url, "token-of-alice") as heard:
        assert (await site.bob("POST", "/v2/apps", hidden)).status_code == 201
        (task,) = await site.bob.running("/jupyter/bob/dask/c/workers", 1)

        async def ill() -> Any:
            return (await site.bob.app("/jupyter/bob/dask/c/workers"))["tasksUnhealthy"]

        await eventually(ill)
        assert len(await site.bob.get("/v2/queue")) == 1
        seen = []
        for path in (
            *("/v2/apps?embed=tasks", "/v2/apps?id=bob&embed=tasks", "/v2/apps?cmd=sleep"),
            *("/v2/deployments", "/v2/queue?embed=explanation", "/v2/info"),
        ):
            seen.append((await site.alice("GET", path)).text)
        (plan,) = [
            plan
            for plan in await site.admin.get("/v2/deployments")
            if "/jupyter/bob/dask/c/workers" in plan["affectedApps"]
        ]
        for method, path, body in (
            ("GET", "/v2/apps/jupyter/bob/dask/c/workers", None),
            ("GET", "/v2/apps/jupyter/bob/dask/c/workers/tasks", None),
            ("DELETE", f"/v2/deployments/{plan['id']}", None),
            ("DELETE", f"/v2/deployments/{plan['id']}?force=true", None),
        ):
            answer = await site.alice(method, path, body)
            assert answer.status_code == 404, answer.text
        killed = await site.alice("POST", "/v2/tasks/delete", {"ids": [task["id"]]})
        assert (killed.status_code, killed.json()) == (200, {"tasks": []})
        scaled = await site.alice("POST", "/v2/tasks/delete?scale=true&force=true", {"ids": [task["id"]]})
        assert scaled.status_code == 200
        await site.bob("DELETE", "/v2/apps/jupyter/bob/dask/c/workers")
        await site.bob.deployed()
        await site.admin("DELETE", "/v2/apps/jupyter/alice/notebook")
        await heard.until("app_terminated_event")
        await site.admin.deployed()
    everything = "".join(seen) + heard.raw.decode()
    assert "/jupyter/alice/notebook" in everything
    assert "bob" not in everything
    assert task["state"] == "TASK_RUNNING"


async def test_a_user_sees_their_server_but_may_not_end_it(site: Site) -> None:
    await site.admin("POST", "/v2/apps", {"id": "/jupyter/alice/notebook", **BODY})
    (task,) = await site.alice.running("/jupyter/alice/notebook")
    for answer in (
        await site.alice("DELETE", "/v2/apps/jupyter/alice/notebook"),
        await site.alice("POST", "/v2/tasks/delete", {"ids": [task["id"]]}),
        await site.alice("POST", "/v2/tasks/delete?scale=true", {"ids": [task["id"]]}),
    ):
        assert answer.status_code == 403
    (same,) = await site.alice.running("/jupyter/alice/notebook")
    assert same["id"] == task["id"]
    await site.admin("DELETE", "/v2/apps/jupyter/alice/notebook")
    await site.admin.deployed()


async def test_a_servers_token_makes_apps_that_go_with_the_server(site: Site) -> None:
    server = site.user("token-of-alice-server")
    body = {"id": "/jupyter/alice/dask/s/workers", **BODY}
    early = await server("POST", "/v2/apps", body)
    assert early.status_code == 422, "without its server there is nobody to own the app"
    await site.admin("POST", "/v2/apps", {"id": "/jupyter/alice/notebook", **BODY})
    await site.admin("POST", "/v2/apps", {"id": "/jupyter/alice/servers/two", **BODY})
    other = {**body, "labels": {"HUBFLEET_OWNER": "/jupyter/alice/servers/two"}}
    assert (await server("POST", "/v2/apps", other)).status_code == 422
    stolen = {**body, "labels": {"HUBFLEET_OWNER": "/jupyter/bob/notebook"}}
    assert (await site.alice("POST", "/v2/apps", stolen)).status_code == 422
    made = await server("POST", "/v2/apps", body)
    assert made.status_code == 201
    assert made.json()["labels"] == {"HUBFLEET_OWNER": "/jupyter/alice/notebook"}
    # As a scheduler's workers go with the scheduler.
    of_workers = {"HUBFLEET_OWNER": body["id"]}
    part = {**body, "id": "/jupyter/alice/dask/s/part", "labels": of_workers}
    assert (await server("POST", "/v2/apps", part)).json()["labels"] == of_workers
    not_its_own = {**other, "id": "/jupyter/alice/dask/two/workers"}
    assert (await site.alice("POST", "/v2/apps", not_its_own)).status_code == 201
    stranger = {**part, "labels": {"HUBFLEET_OWNER": not_its_own["id"]}, "id": "/jupyter/alice/dask/s/more"}
    assert (await server("POST", "/v2/apps", stranger)).status_code == 422
    for app in ("notebook", "servers/two"):
        await site.admin("DELETE", f"/v2/apps/jupyter/alice/{app}")
    assert (await site.alice.get("/v2/apps"))["apps"] == []
    await site.admin.deployed()


@pytest.fixture
async def parted_site(tmp_path: Path) -> AsyncIterator[Site]:
    """A backend that runs nobody's apps as its own account, unless a server does."""
    async with site_for_one(tmp_path, accounts="server") as site:
        yield site


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run tasks as another account")
async def test_an_app_runs_as_the_account_of_its_server_and_no_other(parted_site: Site) -> None:
    site = parted_site
    body = {"id": "/jupyter/alice/dask/s/workers", "instances": 0, **BODY}
    assert (await site.alice("POST", "/v2/apps", {**body, "user": "root"})).status_code == 422
    # No server of alice's tells an account, and the backend's own is root's.
    assert (await site.alice("POST", "/v2/apps", body)).status_code == 422
    await site.admin(
        "POST", "/v2/apps", {"id": "/jupyter/bob/notebook", "user": "nobody", "instances": 0, **BODY}
    )
    refused = await site.alice("POST", "/v2/apps", body)
    assert refused.status_code == 422
    assert "start a server" in refused.json()["details"][0]["errors"][0]
    made = await site.bob("POST", "/v2/apps", {**body, "id": "/jupyter/bob/dask/s"})
    assert (made.status_code, made.json()["user"]) == (201, "nobody")
    changed = await site.bob("PUT", "/v2/apps/jupyter/bob/dask/s?force=true", {"user": "root"})
    assert changed.status_code == 422
    for app_id in ("notebook", "dask/s"):
        await site.admin("DELETE", f"/v2/apps/jupyter/bob/{app_id}")
    await site.admin.deployed()


@pytest.mark.parametrize("token", ["token-for-a-login", "token-of-a-service"])
async def test_a_token_that_was_given_for_less_is_not_enough(site: Site, token: str) -> None:
    answer = await site.user(token)("GET", "/v2/apps")
    assert answer.status_code == 403
    assert answer.json()["message"].startswith(("this token of alice may not", "the hub's service 'cull'"))


async def test_while_the_hub_is_away_nobody_is_refused_for_good(site: Site) -> None:
    site.hub.status = 503
    try:
        answer = await site.user("token-not-asked-yet")("GET", "/v2/apps")
        assert answer.status_code == 503
        assert "did not say who the token belongs to" in answer.json()["message"]
        assert (await site.admin("GET", "/v2/apps")).status_code == 200
    finally:
        site.hub.status = None


async def test_a_token_is_in_no_log(site: Site) -> None:
    for token in ("token-of-alice", "some-wrong-token"):
        await site.user(token)("GET", "/v2/apps")
    log = site.backend.log.read_text()
    assert not [token for token in (*OWNERS, site.backend.admin_token, "some-wrong-token") if token in log]


async def test_metrics_are_open_only_where_it_is_said(site: Site, tmp_path: Path) -> None:
    assert (await site.user(None)("GET", "/metrics")).status_code == 401
    open_site = Site(tmp_path, configuration="c.Backend.open_metrics = True")
    try:
        await open_site.backend.start()
        for path in ("/metrics", "/metrics/prometheus"):
            assert (await open_site.user(None)("GET", path)).status_code == 200
        assert (await open_site.user(None)("GET", "/logging")).status_code == 401
    finally:
        await open_site.backend.destroy()
        open_site.hub.close()


async def test_the_events_of_a_reader_hold_no_environment(site: Site) -> None:
    async with stream(site.backend.url, READER) as heard:
        body = {"id": "/jupyter/alice/dask/e", "env": {"SECRET": "secret-of-the-stream"}, **BODY}
        await site.alice("POST", "/v2/apps", body)
        await site.alice("DELETE", "/v2/apps/jupyter/alice/dask/e")
        await heard.until("app_terminated_event")
    assert b"/jupyter/alice/dask/e" in heard.raw
    assert b"(hidden)" in heard.raw
    assert b"secret-of-the-stream" not in heard.raw


async def test_the_hub_is_not_asked_about_every_random_token(tmp_path: Path) -> None:
    site = Site(tmp_path)
    try:
        await site.backend.start()
        assert (await site.alice("GET", "/v2/apps")).status_code == 200
        answers = await asyncio.gather(
            *(site.user(f"random-{number}")("GET", "/v2/apps") for number in range(300))
        )
        statuses = {answer.status_code for answer in answers}
        assert statuses == {401, 429}
        assert "Retry-After" in next(each for each in answers if each.status_code == 429).headers
        # A minute's worth, and what may have come to it while the test ran.
        assert len(site.hub.asked) < 150
        site.hub.asked.clear()
        given = {"JUPYTERHUB_API_TOKEN": "token-of-alice-server"}
        server = {"id": "/jupyter/alice/notebook", **BODY, "instances": 0, "env": given}
        assert (await site.admin("POST", "/v2/apps", server)).status_code == 201
        await asyncio.gather(*(site.user(f"more-{number}")("GET", "/v2/apps") for number in range(100)))
        told = await site.user("token-of-alice-server")("GET", "/v2/apps")
        assert told.status_code == 200, (
            "what a server was given is no guess, though all come from one address"
        )
        site.hub.asked.clear()
        again = [await site.user("random-0")("GET", "/v2/apps") for _ in range(20)]
        assert {answer.status_code for answer in again} <= {401, 429}
        assert len(site.hub.asked) <= 1
        assert (await site.alice("GET", "/v2/apps")).status_code == 200
    finally:
        await site.backend.destroy()
        site.hub.close()

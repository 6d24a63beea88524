"""Who may see and change what. The hub is a double here; the end-to-end tests ask a real one."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rest import eventually, stream
from sites import BODY, OWNERS, READER, Site

from hubfleet.backend.access import (
    Caller,
    Forbidden,
    TooManyUnknown,
    administrator,
    hub_itself,
    reader,
    token_owner,
)
from hubfleet.backend.authenticator import token_of
from hubfleet.backend.bounded import Guesses, Remembered


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("site"))
    try:
        asyncio.run(site.backend.start())
        yield site
    finally:
        asyncio.run(site.backend.destroy())
        site.hub.close()


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
    for app in ("notebook", "servers/two"):
        await site.admin("DELETE", f"/v2/apps/jupyter/alice/{app}")
    assert (await site.alice.get("/v2/apps"))["apps"] == []
    await site.admin.deployed()


@pytest.fixture
async def parted_site(tmp_path: Path) -> AsyncIterator[Site]:
    """A backend that runs nobody's apps as its own account, unless a server does."""
    site = Site(tmp_path, accounts="server")
    try:
        await site.backend.start()
        yield site
    finally:
        await site.backend.destroy()
        site.hub.close()


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


@pytest.mark.parametrize(
    ("scopes", "group", "server"),
    [
        (["access:servers"], "/jupyter/al", None),
        (["access:servers!user"], "/jupyter/al", None),
        (["access:servers!user=al"], "/jupyter/al", None),
        (["access:servers!server=al/"], "/jupyter/al", "/jupyter/al/notebook"),
        (["access:servers!server=al/x"], "/jupyter/al", "/jupyter/al/servers/x"),
        (
            ["access:servers!server=al/x", "access:servers!server=bo/y"],
            "/jupyter/al",
            "/jupyter/al/servers/x",
        ),
        (["access:servers!server=al/x", "access:servers!server=al/"], "/jupyter/al", None),
        (["access:servers!user=al", "access:servers!server=al/"], "/jupyter/al", None),
        (["access:servers!user=bo"], None, None),
        (["access:servers!server=bo/"], None, None),
        (["access:servers!group=g"], None, None),
        (["servers!user=al", "self"], None, None),
        ([], None, None),
    ],
)
def test_what_a_token_reaches_follows_from_its_scopes(
    scopes: list[str], group: str | None, server: str | None
) -> None:
    model = {"kind": "user", "name": "al", "scopes": scopes}
    if group is None:
        with pytest.raises(Forbidden):
            token_owner(model, "jupyter")
        return
    expected = Caller(
        "the user al",
        opens=frozenset({group}),
        writes=frozenset({f"{group}/dask"}),
        server=server,
        user="al",
        user_group=group,
    )
    assert token_owner(model, "jupyter") == expected


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (["custom:hubfleet:admin"], administrator("the user al")),
        (["custom:hubfleet:admin", "access:servers!user=al"], administrator("the user al")),
        (["custom:hubfleet:hub"], hub_itself("the user al", "jupyter")),
        (["custom:hubfleet:read"], reader("the user al")),
        (
            ["custom:hubfleet:read!user=bo", "custom:hubfleet:read!user=cy"],
            Caller("the user al", reads=frozenset({"/jupyter/bo", "/jupyter/cy"})),
        ),
        # What is filtered in a way that we cannot follow widens nothing.
        (["custom:hubfleet:admin!user=al"], None),
        (["custom:hubfleet:hub!user=al"], None),
        (["custom:hubfleet:read!group=g"], None),
        (["custom:hubfleet:adminx", "custom:other:admin"], None),
    ],
)
def test_custom_scopes_widen(scopes: list[str], expected: Caller | None) -> None:
    model = {"kind": "user", "name": "al", "scopes": scopes}
    if expected is None:
        with pytest.raises(Forbidden):
            token_owner(model, "jupyter")
    else:
        assert token_owner(model, "jupyter") == expected


MATRIX_IDS = ("/other", "/jupyter/alice/notebook", "/jupyter/alice/dask/m", "/jupyter/bob/dask/m")
SEEN_AND_CHANGED = {
    # who: which of MATRIX_IDS they see, see inside of, and may change
    "admin": ("yyyy", "yyyy", "yyyy"),
    "token-of-an-operator": ("yyyy", "yyyy", "yyyy"),
    "token-of-a-spawner": ("-yyy", "-yyy", "-yyy"),
    "token-of-alice": ("-yy-", "-yy-", "--y-"),
    "token-of-alice-server": ("-yy-", "-yy-", "--y-"),
    "token-of-bob": ("---y", "---y", "---y"),
    "token-of-a-teacher": ("-yy-", "----", "----"),
    "token-of-a-dashboard": ("yyyy", "----", "----"),
    READER: ("yyyy", "----", "----"),
    "token-for-a-login": (None, None, None),
    "token-of-a-service": (None, None, None),
}


@pytest.mark.parametrize("who", SEEN_AND_CHANGED)
async def test_what_one_may_not_see_does_not_exist_for_one(site: Site, who: str) -> None:
    seen, opened, changed = SEEN_AND_CHANGED[who]
    rest = site.admin if who == "admin" else site.user(who)
    for app_id in MATRIX_IDS:
        made = await site.admin(
            "POST",
            "/v2/apps",
            {"id": app_id, "env": {"SECRET": "secret-of-the-matrix"}, **BODY, "cpus": 33, "instances": 2},
        )
        assert made.status_code == 201, made.text
    try:
        if seen is None or opened is None or changed is None:
            for path in ("/v2/apps", "/v2/apps/other", "/v2/queue", "/v2/deployments", "/v2/info"):
                assert (await rest("GET", path)).status_code == 403
            return
        assert (await rest("GET", "/metrics")).status_code == (200 if seen == "yyyy" else 403)
        assert (await rest("GET", "/logging")).status_code == (200 if changed == "yyyy" else 403)
        listed = {app["id"]: app for app in (await rest.get("/v2/apps"))["apps"]}
        queued = {
            item["app"]["id"]: item for item in (await rest.get("/v2/queue?embed=explanation"))["queue"]
        }
        tasks = {
            app_id: (await site.admin.tasks(app_id) + [{"id": "none.instance-0._app.1"}])[0]
            for app_id in MATRIX_IDS
        }
        for position, app_id in enumerate(MATRIX_IDS):
            visible, inside, writable = (word[position] == "y" for word in (seen, opened, changed))
            one = await rest("GET", f"/v2/apps{app_id}")
            assert one.status_code == (200 if visible else 404)
            assert (await rest("GET", f"/v2/apps{app_id}/tasks")).status_code == (200 if visible else 404)
            assert (app_id in listed) == visible
            assert visible or app_id not in queued
            if visible:
                assert ("secret-of-the-matrix" in one.text) == inside
                assert ("secret-of-the-matrix" in json.dumps(listed[app_id])) == inside
            if not writable:
                # The same answer whether there is such an app or not.
                for method, body in (("PUT", BODY), ("DELETE", None)):
                    there = await rest(method, f"/v2/apps{app_id}", body)
                    absent = await rest(method, f"/v2/apps{app_id}-not", body)
                    assert (there.status_code, absent.status_code) == (403, 403)
                    assert there.text == absent.text.replace(f"{app_id}-not", app_id)
                killed = await rest("POST", "/v2/tasks/delete", {"ids": [tasks[app_id]["id"]]})
                assert killed.status_code in (200, 403)
                assert killed.status_code == 403 or killed.json() == {"tasks": []}
        for plan in await site.admin.get("/v2/deployments"):
            (app_id,) = plan["affectedApps"]
            position = MATRIX_IDS.index(app_id)
            found = {each["id"] for each in await rest.get("/v2/deployments")}
            assert (plan["id"] in found) == (seen[position] == "y")
            if changed[position] != "y":
                answer = await rest("DELETE", f"/v2/deployments/{plan['id']}")
                assert answer.status_code == (403 if seen[position] == "y" else 404)
    finally:
        for app_id in MATRIX_IDS:
            await site.admin("DELETE", f"/v2/apps{app_id}")
        await site.admin.deployed()


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
        again = [await site.user("random-0")("GET", "/v2/apps") for _ in range(20)]
        assert {answer.status_code for answer in again} <= {401, 429}
        assert len(site.hub.asked) <= 1
        assert (await site.alice("GET", "/v2/apps")).status_code == 200
    finally:
        await site.backend.destroy()
        site.hub.close()


def test_guesses_come_again_with_time_and_good_tokens_are_none() -> None:
    clock = [0.0]
    guesses = Guesses(6, lambda: clock[0])
    for _ in range(20):
        guesses.take("a")
        guesses.give_back("a")
    for _ in range(6):
        guesses.take("a")
    with pytest.raises(TooManyUnknown) as refusal:
        guesses.take("a")
    assert refusal.value.seconds == 10
    guesses.take("b")
    clock[0] = 10.0
    guesses.take("a")
    for number in range(200):
        with suppress(TooManyUnknown):
            guesses.take(f"address-{number}")
    with pytest.raises(TooManyUnknown):
        guesses.take("another")


def test_what_is_remembered_is_bounded_in_number_and_time() -> None:
    clock = [0.0]
    words: Remembered[int] = Remembered(2, 30, lambda: clock[0])
    for number in range(3):
        words.put(str(number), number)
    assert [words.get(key) for key in "012"] == [None, 1, 2]
    clock[0] = 30.0
    assert words.get("2") is None


def test_a_token_is_one_printable_word() -> None:
    assert token_of("token  spaced ") == "spaced"
    for text in ("token a b", "token a\tb", "token \x7f", "Bearer \u0100", "x", "token"):
        assert token_of(text) is None

"""Every operation of the API, asked by everybody about everything: who is let in, and who learns nothing.

The operations are those of the table of routes, so that a new one cannot be forgotten. Each of
the apps asked about is deployed by halves: one instance runs, and another never finds a place. A
change that would be allowed is then refused with 409, because the app is locked, and nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from rest import eventually
from sites import BODY, READER, Site, running_site

from hubfleet.backend.server.operations import Access, Operation, Route
from hubfleet.backend.server.routes import ROUTES
from hubfleet.backend.server.shapes import (
    AppUpdate,
    AppUpdateOf,
    GroupRoles,
    GroupUpdate,
    LogLevel,
    NewApp,
    TaskIds,
)

APPS = ("/other/m", "/jupyter/alice/notebook", "/jupyter/alice/dask/m", "/jupyter/bob/dask/m")
CASES = [(route, method) for route in ROUTES for method in route.operations]


@dataclass(frozen=True)
class Who:
    """Somebody with a token, and which of `APPS` they see, see inside of, and may change."""

    token: str | None
    seen: str = "----"
    opened: str = "----"
    changed: str = "----"
    trusted: bool = False
    """Whether they ask about the quotas of others."""
    refused: int | None = None
    """With which status they are refused wherever a token is asked for."""

    def sees(self, app_id: str) -> bool:
        return self.seen[APPS.index(app_id)] == "y"

    def opens(self, app_id: str) -> bool:
        return self.opened[APPS.index(app_id)] == "y"

    def changes(self, app_id: str) -> bool:
        return self.changed[APPS.index(app_id)] == "y"


EVERYBODY = {
    "an administrator": Who("the-administrator", "yyyy", "yyyy", "yyyy", trusted=True),
    "the hub": Who("token-of-a-spawner", "-yyy", "-yyy", "-yyy", trusted=True),
    "a user": Who("token-of-alice", "-yy-", "-yy-", "--y-"),
    "a teacher": Who("token-of-a-teacher", "-yy-", "----", "----"),
    "a reader": Who(READER, "yyyy", "----", "----"),
    "a login": Who("token-for-a-login", refused=403),
    "an unknown token": Who("of-nobody", refused=401),
    "no token": Who(None, refused=401),
}


def secret_of(app_id: str) -> str:
    return "secret-of" + app_id.replace("/", "-")


class Asked:
    """The backend that is asked, and what is asked about."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.names: dict[str, dict[str, str]] = {}
        """What leads to each app, in paths and bodies; empty once that may have changed."""

    async def prepare(self) -> None:
        """Make the apps that are not there, or not locked any more, and wait for their tasks."""
        if self.names:
            return
        for app_id in APPS:
            there = await self.site.admin("GET", f"/v2/apps{app_id}")
            if there.status_code == 200 and there.json()["app"]["deployments"]:
                continue
            body = {
                **BODY,
                "cmd": "echo $SECRET; exec sleep 600",
                "env": {"SECRET": secret_of(app_id)},
                "instances": 2,
                "constraints": [["hostname", "UNIQUE"]],
            }
            made = await self.site.admin("PUT", f"/v2/apps{app_id}?force=true", body)
            assert made.status_code in (200, 201), made.text
        for app_id in APPS:
            await eventually(lambda app_id=app_id: self._runs(app_id))  # type: ignore[misc]
            self.names[app_id] = await self._names_of(app_id)

    async def _runs(self, app_id: str) -> bool:
        tasks = await self.site.admin.tasks(app_id)
        return [task["state"] for task in tasks] == ["TASK_RUNNING"]

    async def _names_of(self, app_id: str) -> dict[str, str]:
        app = await self.site.admin.app(app_id)
        (task,) = app["tasks"]
        return {
            "id": app_id.strip("/"),
            "groupId": app_id.rpartition("/")[0].strip("/"),
            "taskId": task["id"],
            "version": app["version"],
            "deploymentId": app["deployments"][0]["id"],
            "file": "stdout",
        }

    async def ask(self, who: Who, route: Route, method: str, names: dict[str, str]) -> requests.Response:
        """Send a request that is right, but for what it must not do here."""
        token = self.site.backend.admin_token if who.token == "the-administrator" else who.token
        rest = self.site.user(token)
        body = None
        if (model := route.operations[method].body) is not None:
            body = BODIES[model](names)
        events = route.path == "/v2/events"
        headers = {"Accept": "text/event-stream"} if events else {}
        path = route.path.format_map(names) + QUERIES.get((method, route.path), "?force=false&scale=true")
        answer = await rest(method, path, body, headers=headers, stream=events)
        if events:
            answer.close()  # it has no end
        if method != "GET" and answer.ok:
            self.names.clear()
        return answer


BODIES: dict[Any, Any] = {
    NewApp: lambda names: {"id": "/" + names["id"], **BODY},
    AppUpdate: lambda names: {"cpus": 0.02},
    list[AppUpdateOf]: lambda names: [{"id": "/" + names["id"], "cpus": 0.02}],
    TaskIds: lambda names: {"ids": [names["taskId"]]},
    GroupUpdate: lambda names: {"scaleBy": 1.5},
    GroupRoles: lambda names: {"enforceRole": False},
    LogLevel: lambda names: {"logger": "hubfleet.nothing", "level": "info"},
}
QUERIES = {
    ("DELETE", "/v2/leader"): "?backup=refused",  # for everybody, once they are let in
    ("GET", "/hubfleet/quota"): "?user=alice",
    ("DELETE", "/v2/deployments/{deploymentId}"): "?force=false",
}


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    with running_site(tmp_path_factory.mktemp("site")) as site:
        yield Asked(site)


def is_about_an_app(route: Route, operation: Operation) -> bool:
    bodies = (NewApp, list[AppUpdateOf], TaskIds)
    return bool({"id", "groupId", "taskId", "deploymentId"}.intersection(route.parameters)) or (
        operation.body in bodies
    )


def is_let_in(who: Who, access: Access, app_id: str) -> bool | int:
    """Whether somebody is answered, or the status of the refusal; False for either of 403 and 404."""
    match access:
        case Access.SEEN:
            return who.sees(app_id) or 404
        case Access.INSIDE:
            return who.opens(app_id) or (403 if who.sees(app_id) else 404)
        case Access.CHANGED:
            return who.changes(app_id) or (403 if who.sees(app_id) else False)
        case _:
            raise AssertionError(f"{access} is not about an app")


def require(answer: requests.Response, method: str, verdict: bool | int) -> None:
    status = answer.status_code
    if verdict is True:
        assert status == 200 if method == "GET" else status not in (401, 403, 404), answer.text
        assert status < 500
    elif verdict is False:
        assert status in (403, 404), answer.text
    else:
        assert status == verdict, answer.text


def require_silence(who: Who, answer: requests.Response) -> None:
    """Nothing of what somebody may not see is in an answer."""
    for app_id in APPS:
        assert who.opens(app_id) or secret_of(app_id) not in answer.text
        assert who.sees(app_id) or f'"{app_id}"' not in answer.text


@pytest.mark.parametrize("name", EVERYBODY)
@pytest.mark.parametrize(
    ("route", "method"), CASES, ids=[f"{method} {route.path}" for route, method in CASES]
)
async def test_who_may_is_let_in_and_nobody_else(asked: Asked, route: Route, method: str, name: str) -> None:
    who, operation = EVERYBODY[name], route.operations[method]
    if who.refused is not None:
        verdict = True if operation.access is Access.EVERYBODY else who.refused
        answer = await asked.ask(who, route, method, NAMES_OF_NOTHING)
        require(answer, method, verdict)
        return
    if not is_about_an_app(route, operation):
        await asked.prepare()
        versions = await asked.site.admin.get("/v2/groups/versions")
        answer = await asked.ask(who, route, method, {**NAMES_OF_NOTHING, "version": versions[0]})
        require(answer, method, is_let_in_anyway(who, operation.access, method))
        if route.path != "/v2/events":
            require_silence(who, answer)
        return
    for app_id in APPS:
        await asked.prepare()
        names = asked.names[app_id]
        absent = {**names, **nothing_beside(names)}
        verdict = is_let_in(who, operation.access, app_id)
        hidden = verdict is not True and not who.sees(app_id)
        if hidden and operation.body is TaskIds:
            verdict = True  # what is hidden is passed over, as what is not there
        answer = await asked.ask(who, route, method, names)
        require(answer, method, verdict)
        require_silence(who, answer)
        if hidden:
            twin = await asked.ask(who, route, method, absent)
            assert twin.status_code == answer.status_code
            assert plain(twin.json(), absent) == plain(answer.json(), names), (
                "what is hidden is as what is not"
            )


NAMES_OF_NOTHING = {
    "id": "nothing",
    "groupId": "nothing",
    "taskId": "nothing.instance-0._app.1",
    "version": "2001-02-03T04:05:06.789Z",
    "deploymentId": "nothing",
    "file": "stdout",
}


def nothing_beside(names: dict[str, str]) -> dict[str, str]:
    """What leads nowhere, next to what leads somewhere."""
    return {
        **NAMES_OF_NOTHING,
        "id": f"{names['id']}-not",
        "groupId": f"{names['groupId']}-not",
    }


def plain(body: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """An answer without the names that were asked about, and what is new in each."""
    text = str({key: value for key, value in body.items() if key not in ("version", "deploymentId")})
    for name in sorted(names.values(), key=len, reverse=True):
        text = text.replace(name, "…")
    return {"text": text}


def is_let_in_anyway(who: Who, access: Access, method: str) -> bool | int:
    """Whether somebody is answered to what is about no app, or the status of the refusal."""
    match access:
        case Access.EVERYBODY | Access.KNOWN:
            return True
        case Access.OVERVIEW:
            return who.seen == "yyyy" or 403
        case Access.ADMINISTRATOR:
            return who.changed == "yyyy" or 403
        case Access.OWN:
            return who.trusted or who.token == "token-of-alice" or 403
        case Access.SEEN:  # the root of all groups
            return True
        case Access.CHANGED:  # the same, of which all must be one's own to change
            return who.changed == "yyyy" or 403
        case _:
            raise AssertionError(f"{access} is about an app")


async def test_after_all_that_everything_is_as_it_was(asked: Asked) -> None:
    await asked.prepare()
    apps = (await asked.site.admin.get("/v2/apps"))["apps"]
    assert sorted(app["id"] for app in apps) == sorted(APPS)
    assert {app["instances"] for app in apps} == {2}
    assert {app["cpus"] for app in apps} == {BODY["cpus"]}

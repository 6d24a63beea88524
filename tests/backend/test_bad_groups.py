"""Changes of groups that are refused, with all that is wrong, and nothing changed."""

from __future__ import annotations

from typing import Any

import pytest
from rest import Rest

SMALL: dict[str, Any] = {"cmd": "exec sleep 600", "cpus": 0.01, "mem": 1, "instances": 0}
ALONE = "not allowed in conjunction with other properties."
CHILD = "Identifier is not child of '/wrong'. Hint: use relative paths."
CYCLE = ("/", "Dependency graph has cyclic dependencies.")
ROLES = "there are no roles here but *, so a group cannot enforce its own; leave it out, or say false"


def small(app_id: str, **fields: Any) -> dict[str, Any]:
    return {"id": app_id, **SMALL, **fields}


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        ("GET", "/none", 404, "Group '/none' does not exist"),
        ("GET", "/none/apps", 404, "Group '/none' does not exist"),
        ("GET", "/none/versions", 404, "Group '/none' does not exist"),
        ("GET", "/there/versions/2001-01-01T00:00:00.000Z", 404, "Group '/there' does not exist"),
        (
            "GET",
            "/there/versions/x",
            422,
            "Invalid timestamp provided 'x'. Expecting ISO-8601 datetime string.",
        ),
        ("DELETE", "/none", 404, "Group '/none' does not exist"),
        ("PATCH", "/none", 404, "Group '/none' does not exist"),
    ],
)
async def test_what_is_not_there(
    shared_rest: Rest, method: str, path: str, status: int, message: str
) -> None:
    await shared_rest("PUT", "/v2/groups/there", {})
    answer = await shared_rest(method, f"/v2/groups{path}", {} if method == "PATCH" else None)
    assert (answer.status_code, answer.json()) == (status, {"message": message})


async def test_a_version_that_is_not_known_is_refused(shared_rest: Rest) -> None:
    await shared_rest("PUT", "/v2/groups/known", {})
    for path in ("/known", "/never"):
        answer = await shared_rest("PUT", f"/v2/groups{path}", {"version": "2001-01-01T00:00:00Z"})
        message = f"Group {path} not available in version 2001-01-01T00:00:00.000Z"
        assert (answer.status_code, answer.json()) == (422, {"message": message})


async def test_no_group_has_the_name_of_an_app(shared_rest: Rest) -> None:
    made = {"apps": [small("app")], "groups": [{"id": "group"}]}
    assert (await shared_rest("POST", "/v2/groups/clash", made)).status_code == 201
    await shared_rest.create("/clash/group/app", instances=0)
    await shared_rest.deployed()
    before = await shared_rest.get("/v2/groups")
    same = {"path": "/", "errors": ["Groups and Applications may not have the same identifier."]}
    for path, body, detail in (
        ("/clash", {"groups": [{"id": "app"}]}, same),
        ("/clash/app", {}, same),
        ("/clash/x", {"apps": [small("y")], "groups": [{"id": "y"}]}, same),
        (
            "/clash/app/below",
            {},
            {"path": "/id", "errors": ["/clash/app is an app, so it cannot hold the group /clash/app/below"]},
        ),
    ):
        answer = await shared_rest("PUT", f"/v2/groups{path}", body)
        assert (answer.status_code, answer.json()["details"]) == (422, [detail]), path
    app = await shared_rest("PUT", "/v2/apps/clash/group", SMALL)
    assert app.json()["details"][0]["errors"] == [
        "/clash/group is the group of /clash/group/app; an app cannot be both"
    ]
    assert await shared_rest.get("/v2/groups") == before


@pytest.mark.parametrize(
    ("body", "details"),
    [
        ([], [("/", "error.expected.jsobject")]),
        (
            {"apps": {}, "groups": 3},
            [("/apps", "error.expected.jsarray"), ("/groups", "error.expected.jsarray")],
        ),
        (
            {"dependencies": ["a b"], "enforceRole": 1},
            [("/dependencies(0)", "error.pattern"), ("/enforceRole", "error.expected.jsboolean")],
        ),
        (
            {"groups": [{"id": "x", "apps": [small("a", cpus=-1), 7]}]},
            [("/groups(0)/apps(0)/cpus", "error.min"), ("/groups(0)/apps(1)", "error.expected.jsobject")],
        ),
        (
            {"groups": [{}, "x", {"id": "A"}]},
            [
                ("/groups(0)/id", "error.path.missing"),
                ("/groups(1)", "error.expected.jsobject"),
                ("/groups(2)/id", "error.pattern"),
            ],
        ),
        ({"enforceRole": True}, [("/enforceRole", ROLES)]),
        ({"scaleBy": 2, "apps": []}, [("/scaleBy", ALONE)]),
        ({"groups": [{"id": "x", "version": "2020-01-01T00:00:00Z"}]}, [("/groups(0)/version", ALONE)]),
        ({"groups": [{"scaleBy": 2}, {"id": "x/y"}]}, [("/groups(0)/id", "error.path.missing")]),
        (
            {"groups": [{"id": "x/y"}], "apps": [small("/other"), small("a/b")]},
            [(f"/{place}/id", CHILD) for place in ("apps(0)", "apps(1)", "groups(0)")],
        ),
        ({"apps": [small("a"), small("/wrong/a")]}, [("/apps", "Elements must be unique")]),
        ({"apps": [small("a", dependencies=["b"]), small("b", dependencies=["a"])]}, [CYCLE]),
        ({"apps": [small("a")], "dependencies": ["."]}, [CYCLE]),
        (
            {
                "groups": [
                    {"id": "x", "apps": [small("a")], "dependencies": ["../y"]},
                    {"id": "y", "apps": [small("b", dependencies=["../x"])]},
                ]
            },
            [CYCLE],
        ),
        ({"dependencies": ["/" + "a" * 189 + "/b"]}, [("/dependencies(0)", "error.maxLength")]),
    ],
)
async def test_a_bad_body_changes_nothing(shared_rest: Rest, body: Any, details: list[Any]) -> None:
    before = await shared_rest.get("/v2/groups")
    for method in ("PUT", "POST"):
        answer = await shared_rest(method, "/v2/groups/wrong", body)
        assert answer.status_code == 422, answer.text
        assert answer.json()["details"] == [{"path": path, "errors": [error]} for path, error in details]
    assert await shared_rest.get("/v2/groups") == before


async def test_a_path_that_no_group_can_have_is_refused(shared_rest: Rest) -> None:
    for path in ("/A", "/a/..b", "/a b", "/" + "/".join(["a" * 60] * 4)):
        for method in ("PUT", "POST", "PATCH"):
            answer = await shared_rest(method, f"/v2/groups{path}", {})
            assert answer.status_code in (404, 405, 422), (method, path, answer.text)
    for what, many in (
        ("apps", [small(f"a{number}") for number in range(1001)]),
        ("groups", [{"id": f"g{number}"} for number in range(1001)]),
    ):
        answer = await shared_rest("PUT", "/v2/groups/many", {what: many})
        message = f"a change has at most 1000 {what}: send them in parts"
        assert (answer.status_code, answer.json()) == (422, {"message": message})

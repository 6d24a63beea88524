"""Every row of Marathon's table of errors (``marathon-v2`` 0.1), word for word, and nothing changes.

Left out is what cannot come about here: there is always a leader (404), and nobody waits for
an internal time-out (503). The 503 of a full disk is in ``test_hard_times``, that of a hub which
is away in ``test_access``. What Marathon answers with 500, contradictions in the network API
and unknown URIs, is 422 and 404 here.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest import Rest

from hubfleet.backend.orchestrator.limits import DeploymentLimits

THERE = {"id": "/rows/there", "cmd": "exec sleep 600", "cpus": 0.01, "mem": 1}
GONE = "rows_there.instance-1._app.1"
SCALE_AND_WIPE = {"message": "You cannot use scale and wipe at the same time."}
NEVER = "2001-02-03T04:05:06.789Z"
NOT_VALID = "Object is not valid"


def invalid(path: str, *errors: str, message: str = NOT_VALID) -> dict[str, Any]:
    return {"message": message, "details": [{"path": path, "errors": list(errors)}]}


def wrong(path: str, code: str) -> dict[str, Any]:
    return invalid(path, code, message="Invalid JSON")


@pytest.fixture
async def there(shared_rest: Rest) -> Any:
    """An app that is there before and after, the same."""
    if (await shared_rest("GET", "/v2/apps/rows/there")).status_code == 404:
        await shared_rest.create("/rows/there", instances=0)
        await shared_rest.deployed()
    before = await shared_rest.get("/v2/apps")
    yield
    assert await shared_rest.get("/v2/apps") == before


@pytest.mark.usefixtures("there")
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "answer"),
    [
        # 400, an explicit one
        *(
            (method, f"{path}?scale=true&wipe=true", body, 400, SCALE_AND_WIPE)
            for method, path, body in (
                ("POST", "/v2/tasks/delete", {"ids": []}),
                ("DELETE", "/v2/apps/rows/there/tasks", None),
                ("DELETE", "/v2/apps/rows/there/tasks/x.instance-1._app.1", None),
            )
        ),
        (
            "POST",
            "/v2/tasks/delete",
            {"ids": ["no id"]},
            400,
            {"message": "Invalid task id 'no id'. [A task id ends in .instance-<uuid>._app.<n>]"},
        ),
        # 404, other than apps
        ("GET", "/v2/apps/x/*", None, 404, {"message": "Group '/x' does not exist"}),
        ("GET", "/v2/groups/x", None, 404, {"message": "Group '/x' does not exist"}),
        (
            "DELETE",
            f"/v2/apps/rows/there/tasks/{GONE}",
            None,
            404,
            {"message": f"Task '{GONE}' does not exist"},
        ),
        ("GET", f"/v2/tasks/{GONE}/history", None, 404, {"message": f"Task '{GONE}' does not exist"}),
        ("DELETE", "/v2/apps/x/tasks", None, 404, {"message": "App '/x' does not exist"}),
        ("DELETE", "/v2/apps/x/tasks?scale=true", None, 404, {"message": "Path '/x' does not exist"}),
        (
            "DELETE",
            "/v2/apps/rows/there/tasks?scale=true",
            None,
            404,
            {"message": "Path '/rows/there' does not exist"},
        ),
        (
            "DELETE",
            "/v2/queue/x/delay",
            None,
            404,
            {"message": "Application /x not found in tasks queue."},
        ),
        (
            "DELETE",
            "/v2/queue/rows/there/delay",
            None,
            404,
            {"message": "Application /rows/there not found in tasks queue."},
        ),
        # 404, apps
        ("GET", "/v2/apps/x", None, 404, {"message": "App '/x' does not exist"}),
        ("DELETE", "/v2/apps/x", None, 404, {"message": "App '/x' does not exist"}),
        ("PATCH", "/v2/apps/x", {"cpus": 1}, 404, {"message": "App '/x' does not exist"}),
        ("POST", "/v2/apps/x/restart", None, 404, {"message": "App '/x' does not exist"}),
        ("GET", "/v2/apps/x/versions", None, 404, {"message": "App '/x' does not exist"}),
        (
            "GET",
            f"/v2/apps/rows/there/versions/{NEVER}",
            None,
            404,
            {"message": f"App '/rows/there' does not exist in version {NEVER}"},
        ),
        ("DELETE", "/v2/deployments/x", None, 404, {"message": "DeploymentPlan x does not exist"}),
        ("GET", "/v2/nowhere", None, 404, {"message": "URI not found: /v2/nowhere"}),
        # 409
        ("POST", "/v2/apps", THERE, 409, {"message": "An app with id [/rows/there] already exists."}),
        # 422, the shape
        ("POST", "/v2/apps", {"cmd": "x"}, 422, wrong("/id", "error.path.missing")),
        ("POST", "/v2/apps", {**THERE, "id": 1}, 422, wrong("/id", "error.expected.jsstring")),
        ("POST", "/v2/apps", {**THERE, "id": "/a/_"}, 422, wrong("/id", "error.pattern")),
        ("POST", "/v2/apps", {**THERE, "cpus": -1}, 422, wrong("/cpus", "error.min")),
        ("POST", "/v2/apps", {**THERE, "mem": -1}, 422, wrong("/mem", "error.min")),
        ("POST", "/v2/apps", {**THERE, "instances": -1}, 422, wrong("/instances", "error.min")),
        ("POST", "/v2/apps", {**THERE, "instances": 0.1}, 422, wrong("/instances", "error.expected.int")),
        ("POST", "/v2/apps", {**THERE, "cpus": "1"}, 422, wrong("/cpus", "error.expected.jsnumber")),
        ("POST", "/v2/apps", {**THERE, "args": {}}, 422, wrong("/args", "error.expected.jsarray")),
        ("POST", "/v2/apps", {**THERE, "env": []}, 422, wrong("/env", "error.expected.jsobject")),
        ("POST", "/v2/apps", {**THERE, "tty": 1}, 422, wrong("/tty", "error.expected.jsboolean")),
        ("POST", "/v2/apps", {**THERE, "cmd": ""}, 422, wrong("/cmd", "error.minLength")),
        (
            "POST",
            "/v2/apps",
            {**THERE, "fetch": [{"uri": "x" * 1025}]},
            422,
            wrong("/fetch(0)/uri", "error.maxLength"),
        ),
        (
            "POST",
            "/v2/apps",
            {**THERE, "portDefinitions": [{"port": 65536}]},
            422,
            wrong("/portDefinitions(0)/port", "error.max"),
        ),
        (
            "POST",
            "/v2/apps",
            {**THERE, "killSelection": "ANY"},
            422,
            wrong("/killSelection", "error.unknown.enum.literal"),
        ),
        (
            "POST",
            "/v2/apps",
            {**THERE, "container": {"volumes": [{"containerPath": "/d", "hostPath": "/h"}]}},
            422,
            wrong("/container/volumes(0)/mode", "error.path.missing"),
        ),
        (
            "PUT",
            "/v2/apps/rows/there",
            {"healthChecks": [{"intervalSeconds": "1"}]},
            422,
            wrong("/healthChecks(0)/intervalSeconds", "error.expected.jsnumber"),
        ),
        ("PUT", "/v2/apps/rows/there", {"id": "/A b"}, 422, wrong("/id", "error.pattern")),
        ("PATCH", "/v2/apps/rows/there", {"id": 5}, 422, wrong("/id", "error.expected.jsstring")),
        ("PUT", "/v2/apps", {}, 422, wrong("/", "error.expected.jsarray")),
        ("PUT", "/v2/apps", [{**THERE, "cpus": -1}], 422, wrong("(0)/cpus", "error.min")),
        # 422, the rules
        (
            "POST",
            "/v2/apps",
            {"id": "/a"},
            422,
            invalid("/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."),
        ),
        (
            "POST",
            "/v2/apps",
            {**THERE, "dependencies": ["/b/restart"]},
            422,
            {"/dependencies(0)": "must not end with any of the following reserved keywords"},
        ),
        (
            "POST",
            "/v2/apps",
            {**THERE, "constraints": [["a"]]},
            422,
            {"/constraints(0)": "Each constraint must have either 2 or 3 fields"},
        ),
        (
            "POST",
            "/v2/apps",
            {**THERE, "env": {"KEY": {"secret": "s"}}},
            422,
            {"/env/KEY/secret": "references an undefined secret", "/env": "requires the secrets feature"},
        ),
        ("POST", "/v2/apps", {**THERE, "container": {}}, 422, {"/container/docker": "not defined"}),
        (
            "PUT",
            "/v2/apps/rows/there",
            {"version": NEVER, "cpus": 1},
            422,
            invalid("/", "The 'version' field may only be combined with the 'id' field."),
        ),
        # 422 in Marathon 1.5 and later for what is a contradiction, 500 for some
        (
            "POST",
            "/v2/apps",
            {**THERE, "networks": [{"mode": "host"}], "ipAddress": {}},
            422,
            {"/": "must not specify both networks and ipAddress"},
        ),
        (
            "POST",
            "/v2/apps",
            {**THERE, "container": {"docker": {"image": "i", "network": "NONE"}}},
            422,
            {"/container/docker/network": "unsupported docker network type NONE"},
        ),
        # 422, an illegal argument
        (
            "PUT",
            "/v2/apps/rows/there",
            {"version": "then"},
            422,
            {"message": "Invalid timestamp provided 'then'. Expecting ISO-8601 datetime string."},
        ),
        (
            "PUT",
            "/v2/apps",
            [{"cpus": 1}],
            422,
            {"message": "requirement failed: App Update must have app id set"},
        ),
        (
            "GET",
            "/v2/apps/rows/there/versions/then",
            None,
            422,
            {"message": "Invalid timestamp provided 'then'. Expecting ISO-8601 datetime string."},
        ),
        (
            "GET",
            "/v2/apps?label=a%3D%3D%3D",
            None,
            422,
            {
                "message": "Can not parse label selector a===. "
                "Reason: a value expected but '=' found at character 4"
            },
        ),
        # 405, 415: of HTTP itself; 406 has headers and is below
        ("DELETE", "/v2/apps", None, 405, {"message": "Method Not Allowed"}),
        ("POST", "/v2/apps/rows/there", THERE, 405, {"message": "Method Not Allowed"}),
        (
            "GET",
            "/v2/events",
            None,
            405,
            {"message": "The event stream needs the header Accept: text/event-stream"},
        ),
    ],
)
async def test_an_error_is_answered_as_marathon_answers_it(
    shared_rest: Rest, method: str, path: str, body: Any, status: int, answer: dict[str, Any]
) -> None:
    found = await shared_rest(method, path, body)
    assert found.status_code == status, found.text
    if "message" in answer:
        assert found.json() == answer
    else:
        assert found.json()["message"] == NOT_VALID
        told = {detail["path"]: "; ".join(detail["errors"]) for detail in found.json()["details"]}
        for place, sentence in answer.items():
            assert sentence in told[place], told


@pytest.mark.usefixtures("there")
async def test_a_body_that_is_none_and_one_that_is_no_json(shared_rest: Rest) -> None:
    for method, path in (("POST", "/v2/apps"), ("PUT", "/v2/apps"), ("PATCH", "/v2/apps/rows/there")):
        empty = await shared_rest(method, path, b"")
        assert empty.status_code == 400
        assert empty.json()["message"] == "Please specify data in JSON format"
        assert empty.json()["details"].startswith("No content to map due to end-of-input")
        stray = await shared_rest(method, path, json.dumps(THERE).encode() + b"]")
        assert (stray.status_code, stray.json()["message"]) == (400, "Invalid JSON")
        assert isinstance(stray.json()["details"], str)


async def test_a_locked_app_names_what_holds_it(shared_rest: Rest) -> None:
    made = await shared_rest.create("/rows/locked", cmd="exec sleep 600", cpus=60, instances=2)
    answer = await shared_rest("PUT", "/v2/apps/rows/locked", {"cpus": 50})
    assert answer.status_code == 409
    assert answer.json() == {
        "message": "App is locked by one or more deployments. Override with the option '?force=true'. "
        "View details at '/v2/deployments/<DEPLOYMENT_ID>'.",
        "deployments": [{"id": made["deployments"][0]["id"]}],
    }
    assert (await shared_rest("DELETE", "/v2/apps/rows/locked")).status_code == 200
    await shared_rest.deployed()


@pytest.mark.usefixtures("there")
async def test_media_types_that_nobody_takes(shared_rest: Rest) -> None:
    for headers, status, message in (
        ({"Accept": "text/html"}, 406, "Not Acceptable"),
        ({"Content-Type": "text/plain"}, 415, "Unsupported Media Type"),
    ):
        answer = await shared_rest("PUT", "/v2/apps/rows/there", {"cpus": 0.02}, headers=headers)
        assert (answer.status_code, answer.json()) == (status, {"message": message})


async def test_no_more_deployments_run_than_there_may_be(rest: Rest) -> None:
    most = DeploymentLimits.in_all
    for number in range(most):
        await rest.create(f"/open/{number}", constraints=[["hostname", "LIKE", "nowhere"]])
    before = await rest.get("/v2/apps")
    answer = await rest("POST", "/v2/apps", {**THERE, "id": "/open/too"})
    assert answer.status_code == 403
    assert answer.json().keys() == {"message"}
    assert answer.json()["message"].startswith(f"Max number ({most}) of running deployments is achieved. ")
    assert await rest.get("/v2/apps") == before
    # What is forced takes the place of another.
    assert (await rest("DELETE", "/v2/apps/open/0")).status_code == 200

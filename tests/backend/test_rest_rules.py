"""What holds for every resource: headers, methods, media types, booleans, the paths of ids."""

from __future__ import annotations

import pytest
from conftest import RunningBackend
from rest import Rest

HEADERS = {
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Expires": "0",
    "X-Frame-Options": "DENY",
    "X-XSS-Protection": "1; mode=block",
}


@pytest.mark.parametrize("path", ["/v2/apps", "/v2/apps/none", "/v2/tasks", "/v2/queue", "/nothing", "/ping"])
async def test_every_answer_carries_marathons_headers(shared_rest: Rest, path: str) -> None:
    answer = await shared_rest("GET", path)
    assert {name: answer.headers.get(name) for name in HEADERS} == HEADERS
    assert answer.headers["X-Marathon-Leader"] == shared_rest.url
    assert "Etag" not in answer.headers


async def test_an_unknown_path_is_named(shared_rest: Rest) -> None:
    answer = await shared_rest("GET", "/v2/artifacts/x?y=1")
    assert (answer.status_code, answer.json()) == (404, {"message": "URI not found: /v2/artifacts/x"})


@pytest.mark.parametrize(
    "path", ["/v2/apps", "/v2/tasks", "/v2/deployments", "/v2/queue", "/v2/info", "/ping"]
)
async def test_head_is_get_without_a_body(shared_rest: Rest, path: str) -> None:
    answer = await shared_rest("HEAD", path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert (await shared_rest("HEAD", "/v2/apps/none")).status_code == 404


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v2/apps", "GET, HEAD, POST, PATCH, PUT, OPTIONS"),
        ("/v2/apps/x", "GET, HEAD, DELETE, PATCH, PUT, OPTIONS"),
        ("/v2/apps/x/restart", "GET, HEAD, POST, DELETE, PATCH, PUT, OPTIONS"),
        ("/v2/apps/x/tasks", "GET, HEAD, DELETE, OPTIONS"),
        ("/v2/tasks/delete", "POST, OPTIONS"),
        ("/v2/deployments/x", "DELETE, OPTIONS"),
        ("/v2/events", "GET, OPTIONS"),
    ],
)
async def test_the_methods_of_a_resource_are_told(shared_rest: Rest, path: str, allowed: str) -> None:
    accept = {"Accept": "text/event-stream" if "events" in path else "*/*"}
    answer = await shared_rest("OPTIONS", path, headers=accept)
    assert (answer.status_code, answer.content, answer.headers["Allow"]) == (200, b"", allowed)
    for method in {"POST", "PUT", "DELETE", "BREW"} - set(allowed.split(", ")):
        refused = await shared_rest(method, path, headers=accept)
        assert (refused.status_code, refused.json()) == (405, {"message": "Method Not Allowed"})
        assert refused.headers["Allow"] == allowed


async def test_methods_are_told_to_those_with_a_token_only(shared_rest: Rest) -> None:
    assert (await Rest(shared_rest.url, None)("OPTIONS", "/v2/apps")).status_code == 401


async def test_who_takes_no_json_gets_none(shared_rest: Rest) -> None:
    for path in ("/v2/tasks", "/v2/apps", "/v2/apps/none/tasks"):
        answer = await shared_rest("GET", path, headers={"Accept": "text/plain"})
        assert (answer.status_code, answer.json()) == (406, {"message": "Not Acceptable"})
    assert (
        await shared_rest("GET", "/v2/tasks", headers={"Accept": "text/plain, */*;q=0.1"})
    ).status_code == 200


async def test_a_sign_of_life_comes_in_the_form_that_is_taken(shared_rest: Rest) -> None:
    for accept, status, text in (
        ("*/*", 200, "pong"),
        ("application/json", 200, '"pong"'),
        ("text/html", 204, ""),
    ):
        answer = await Rest(shared_rest.url, None)("GET", "/ping", headers={"Accept": accept})
        assert (answer.status_code, answer.text) == (status, text)


async def test_a_body_of_another_type_is_not_read(shared_rest: Rest) -> None:
    body = {"id": "/media", "cmd": "exec sleep 600", "instances": 0}
    for method, path in (("POST", "/v2/apps"), ("PUT", "/v2/apps/media"), ("POST", "/v2/tasks/delete")):
        answer = await shared_rest(method, path, body, headers={"Content-Type": "text/plain"})
        assert (answer.status_code, answer.json()) == (415, {"message": "Unsupported Media Type"})
    assert (await shared_rest("GET", "/v2/apps/media")).status_code == 404


@pytest.mark.parametrize(("value", "forced"), [("true", True), ("TRUE", True), ("True", True), ("1", False)])
async def test_only_true_in_any_spelling_is_true(rest: Rest, value: str, forced: bool) -> None:
    await rest.create("/boolean", cpus=60, instances=2)  # the second never fits: the deployment stays
    answer = await rest("PUT", f"/v2/apps/boolean?force={value}", {"instances": 1})
    assert answer.status_code == (200 if forced else 409)


async def test_reserved_words_are_free_within_an_id(shared_rest: Rest, shared: RunningBackend) -> None:
    """They route only behind an id, and an app whose group bears such a name is reached all the same."""
    for app_id in ("/words/tasks/a", "/words/versions/b", "/words/restart/c"):
        await shared_rest.create(app_id, instances=0)
        assert (await shared_rest.app(app_id))["id"] == app_id
        assert (await shared_rest("PUT", f"/v2/apps{app_id}", {"cpus": 0.02})).status_code == 200
        assert (await shared_rest("PATCH", f"/v2/apps/{app_id}", {"cpus": 0.03})).status_code == 200
        assert (await shared_rest.get(f"/v2/apps{app_id}/versions"))["versions"]
        await shared_rest.deployed()
        assert (await shared_rest("DELETE", f"/v2/apps{app_id}")).status_code == 200
        assert (await shared_rest("GET", f"/v2/apps{app_id}")).status_code == 404
    gone = await shared_rest("DELETE", "/v2/apps/words/restart")
    assert (gone.status_code, gone.json()) == (404, {"message": "App '/words/restart' does not exist"})

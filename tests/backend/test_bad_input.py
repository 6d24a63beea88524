"""Input that is wrong, hostile or absurd: each gets its answer, and nothing changes."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

import pytest
from conftest import RunningBackend
from rest import Rest

GOOD: dict[str, Any] = {"id": "/good", "cmd": "exec sleep 600", "cpus": 0.01, "mem": 1}


async def snapshot(rest: Rest) -> Any:
    return [await rest.get(path) for path in ("/v2/apps?embed=tasks", "/v2/deployments", "/v2/queue")]


@pytest.fixture
async def unchanged(shared_rest: Rest) -> Any:
    """What there is before a test is there after it, and the backend lives."""
    before = await snapshot(shared_rest)
    yield
    assert await snapshot(shared_rest) == before


pytestmark = pytest.mark.usefixtures("unchanged")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Please specify data in JSON format"),
        (b"  \n ", "Please specify data in JSON format"),
        (b"{", "Invalid JSON"),
        (b"{'id': '/a'}", "Invalid JSON"),
        (b'{"id": "/a", "cmd": "x",}', "Invalid JSON"),
        (b'{"id": "/a", "cmd": "x", "cpus": NaN}', "Invalid JSON"),
        (b'{"id": "/a", "cmd": "x", "cpus": -Infinity}', "Invalid JSON"),
        (b'{"id": "/a", "cmd": "\\ud800"}', "Invalid JSON"),
        (b'{"id": "/a", "cmd": "\xff"}', "Invalid JSON"),
        (b'\xef\xbb\xbf{"id": "/a", "cmd": "x"}', "Invalid JSON"),
        (b'{"id": "/a", "cmd": "x", "instances": ' + b"9" * 5000 + b"}", "Invalid JSON"),
        (b"[" * 200_000, "Invalid JSON"),
        (b'{"a":' * 50_000, "Invalid JSON"),
        (b'{"id": "/a", "cmd": "x", "x": ' + b"[" * 3000 + b"]" * 3000 + b"}", "Invalid JSON"),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/v2/apps"), ("PUT", "/v2/apps/a")])
async def test_what_is_no_json_is_a_bad_request(
    shared_rest: Rest, method: str, path: str, body: bytes, message: str
) -> None:
    answer = await shared_rest(method, path, body)
    assert answer.status_code == 400, answer.text[:300]
    assert answer.json()["message"] == message
    assert isinstance(answer.json()["details"], str)


@pytest.mark.parametrize(
    ("change", "path", "code"),
    [
        ({"cpus": -1}, "/cpus", "error.min"),
        ({"cpus": 0}, "/cpus", "error.min"),
        ({"cpus": "1"}, "/cpus", "error.expected.jsnumber"),
        ({"cpus": True}, "/cpus", "error.expected.jsnumber"),
        ({"cpus": [1]}, "/cpus", "error.expected.jsnumber"),
        ({"cpus": 10**400}, "/cpus", "error.expected.jsnumber"),
        ({"mem": -1}, "/mem", "error.min"),
        ({"mem": "much"}, "/mem", "error.expected.jsnumber"),
        ({"disk": -0.5}, "/disk", "error.min"),
        ({"gpus": -1}, "/gpus", "error.min"),
        ({"instances": -1}, "/instances", "error.min"),
        ({"instances": 0.1}, "/instances", "error.expected.int"),
        ({"instances": 10**400}, "/instances", "error.max"),
        ({"instances": False}, "/instances", "error.expected.jsnumber"),
        ({"cmd": ""}, "/cmd", "error.minLength"),
        ({"cmd": {}}, "/cmd", "error.expected.jsstring"),
        ({"args": {"a": 1}}, "/args", "error.expected.jsarray"),
        ({"args": ["a", 1]}, "/args(1)", "error.expected.jsstring"),
        ({"env": []}, "/env", "error.expected.jsobject"),
        ({"env": {"A": 1}}, "/env/A", "error.expected.jsstring"),
        ({"labels": {"A": None}}, "/labels/A", "error.expected.jsstring"),
        ({"constraints": ["x"]}, "/constraints(0)", "error.expected.jsarray"),
        ({"healthChecks": [{"intervalSeconds": 0}]}, "/healthChecks(0)/intervalSeconds", "error.min"),
        ({"healthChecks": [{"protocol": "X"}]}, "/healthChecks(0)/protocol", "error.unknown.enum.literal"),
        ({"container": {"docker": {}}}, "/container/docker/image", "error.path.missing"),
        (
            {"upgradeStrategy": {"maximumOverCapacity": 2}},
            "/upgradeStrategy/maximumOverCapacity",
            "error.max",
        ),
        ({"maxLaunchDelaySeconds": 1e300}, "/maxLaunchDelaySeconds", "error.max"),
        ({"id": None}, "/id", "error.path.missing"),
        ({"id": 7}, "/id", "error.expected.jsstring"),
        ({"id": ""}, "/id", "error.pattern"),
        ({"id": "/a b"}, "/id", "error.pattern"),
        ({"id": "/Good"}, "/id", "error.pattern"),
        ({"id": "/a//b"}, "/id", "error.pattern"),
        ({"id": "/a\u0000"}, "/id", "error.pattern"),
        ({"id": "/a\n"}, "/id", "error.pattern"),
        ({"id": "/" + "a" * 300}, "/id", "error.maxLength"),
        ({"id": "/é"}, "/id", "error.pattern"),
    ],
)
async def test_a_wrong_shape_is_told_with_path_and_code(
    shared_rest: Rest, change: dict[str, Any], path: str, code: str
) -> None:
    answer = await shared_rest("POST", "/v2/apps", {**GOOD, **change})
    assert answer.status_code == 422, answer.text[:300]
    body = answer.json()
    assert body["message"] == "Invalid JSON"
    assert code in {detail["path"]: detail["errors"] for detail in body["details"]}[path]


@pytest.mark.parametrize("body", [[], "x", 7, None, True, [GOOD]])
async def test_what_is_no_object_is_no_app(shared_rest: Rest, body: Any) -> None:
    answer = await shared_rest("POST", "/v2/apps", json.dumps(body).encode())
    assert (answer.status_code, answer.json()["message"]) == (422, "Invalid JSON")


@pytest.mark.parametrize(
    ("change", "path", "sentence"),
    [
        ({"id": "/a/.."}, "/id", "must not be root"),
        ({"id": ".."}, "/id", "must not be root"),
        ({"id": "/a/../tasks/."}, "/id", "must not end with"),
        ({"id": "/a/versions"}, "/id", "must not end with"),
        ({"cmd": None}, "/", "must either contain one of 'cmd' or 'args'"),
        ({"args": ["x"]}, "/", "must either contain one of 'cmd' or 'args'"),
        ({"cmd": None, "args": [""]}, "/args(0)", "must not be empty"),
        ({"cmd": None, "container": {"type": "MESOS"}}, "/", "there must be a command"),
        ({"cpus": 64.001}, "/cpus", "64.001 cpus asked, but there are 64 in all"),
        ({"mem": 1e308}, "/mem", "MiB of memory asked, but there are 65536 in all"),
        ({"disk": 1e15}, "/disk", "MiB of disk asked"),
        ({"gpus": 1}, "/gpus", "1 GPUs asked, but there are 0 in all"),
        ({"instances": 2**31 - 1}, "/instances", "at most 10000 instances"),
        ({"cmd": "a\0b"}, "/cmd", "zero byte"),
        ({"cmd": None, "args": ["a", "b\0"]}, "/args", "zero byte"),
        ({"user": "root\0"}, "/user", "zero byte"),
        ({"env": {"A": "\0"}}, "/env", "zero byte"),
        ({"env": {"A\0": ""}}, "/env", "zero byte"),
        ({"labels": {"a": "\0"}}, "/labels", "zero byte"),
        ({"env": {"": "x"}}, "/env", "cannot be the name of a variable"),
        ({"env": {"A=B": "x"}}, "/env", "cannot be the name of a variable"),
        ({"env": {"A": "x" * 131_072}}, "/env", "at most 131071 bytes at once"),
        ({"cmd": "x" * 131_072}, "/cmd", "at most 131071 bytes at once"),
        ({"cmd": None, "args": ["echo", "é" * 70_000]}, "/args", "at most 131071 bytes at once"),
        ({"labels": {f"{n:04}{'k' * 480}": "" for n in range(300)}}, "/labels", "at most 131071 bytes"),
        ({"labels": {f"{n:05}": "" for n in range(40_000)}}, "/", "take"),
        ({"container": {"docker": {"image": "i"}}}, "/container/docker", "no images"),
        ({"networks": [{"mode": "container"}]}, "/networks", "only the host's own network"),
        (
            {"requirePorts": True, "portDefinitions": [{"port": 80}]},
            "/portDefinitions",
            "port 80 asked, but tasks of 127.0.0.1 are given ports FIRST to LAST",
        ),
        (
            {"env": {"A": {"secret": "s"}}, "secrets": {"s": {"source": "x"}}},
            "/secrets",
            "no store of secrets",
        ),
        ({"ports": [1], "portDefinitions": [{"port": 2}]}, "/", "cannot specify both"),
        ({"healthChecks": [{"portIndex": 7}]}, "/healthChecks(0)", "must address an element"),
        ({"labels": {"HUBFLEET_OWNER": "/nobody"}}, "/labels/HUBFLEET_OWNER", "is not there"),
    ],
)
async def test_what_cannot_be_run_is_told_with_a_sentence(
    shared_rest: Rest, shared: RunningBackend, change: dict[str, Any], path: str, sentence: str
) -> None:
    first, last = shared.ports
    sentence = sentence.replace("FIRST", str(first)).replace("LAST", str(last))
    body = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    answer = await shared_rest("POST", "/v2/apps", body)
    assert answer.status_code == 422, answer.text[:300]
    assert answer.json()["message"] == "Object is not valid"
    found = {detail["path"]: detail["errors"] for detail in answer.json()["details"]}
    assert path in found, found
    assert any(sentence in error for error in found[path]), found


async def test_all_that_is_wrong_is_told_at_once(shared_rest: Rest) -> None:
    answer = await shared_rest("POST", "/v2/apps", {**GOOD, "cpus": -1, "mem": "x", "args": 3})
    assert {detail["path"] for detail in answer.json()["details"]} == {"/cpus", "/mem", "/args"}


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 30 * 1024 * 1024])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_heard_to_its_end_and_refused(
    shared_rest: Rest, size: int, chunked: bool
) -> None:
    body = json.dumps({**GOOD, "labels": {"x": "x" * size}}).encode()

    def parts() -> Any:
        for begin in range(0, len(body), 65536):
            yield body[begin : begin + 65536]

    def send() -> tuple[int, Any]:
        connection = http.client.HTTPConnection(shared_rest.url.removeprefix("http://"), timeout=60)
        connection.request(
            "POST", "/v2/apps", parts() if chunked else body, shared_rest.headers, encode_chunked=chunked
        )
        response = connection.getresponse()
        return response.status, json.load(response)

    status, answer = await asyncio.to_thread(send)
    assert (status, answer) == (413, {"message": "A request body has at most 1048576 bytes"})


async def raw(shared: RunningBackend, request: bytes) -> tuple[int, Any]:
    """Send bytes that no decent client would; return the status and the JSON of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", shared.port)
    writer.write(request)
    async with asyncio.timeout(60):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body) if body else None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/apps/../apps", 404),
        ("GET", "/v2/apps/%2e%2e/%2e%2e/etc/passwd", 404),
        ("GET", "/v2/apps/%00", 404),
        ("GET", "/v2/apps/%ff", 400),
        ("GET", "/v2/apps/a%0d%0aX:%20y", 404),
        ("GET", "//v2/apps", 404),
        ("GET", "/v2/apps//", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/", 404),
        ("DELETE", "/v2/apps", 405),
        ("DELETE", "/v2/apps/none", 404),
        ("DELETE", "/v2/apps/a/../b", 404),
        ("GET", "/v2/apps/none/tasks", 404),
        ("DELETE", "/v2/deployments/none", 404),
        ("PATCH", "/v2/apps/none", 400),
        ("POST", "/v2/apps/none", 405),
        ("POST", "/v2/apps/none/restart", 404),
        ("GET", "/v2/apps/none/versions", 404),
        ("GET", "/v2/apps/none/versions/x", 404),
        ("PUT", "/v2/apps/none/tasks", 405),
        ("GET", "/v2/apps/none/*", 404),
        ("GET", "/v2/apps/none/*/tasks", 404),
        ("DELETE", "/v2/apps/none/*", 404),
        ("DELETE", "/v2/apps/*/tasks", 404),
        ("DELETE", "/v2/apps/none/tasks/x", 404),
        ("DELETE", "/v2/queue/none/delay", 404),
        ("GET", "/v2/queue/none/delay", 405),
        ("DELETE", "/v2/tasks", 405),
        ("BREW", "/v2/apps", 405),
        ("PUT", "/v2/queue", 405),
    ],
)
async def test_paths_and_methods_that_are_not_there(
    shared: RunningBackend, method: str, path: str, status: int
) -> None:
    request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n"
    found, body = await raw(shared, f"{request}Authorization: token {shared.admin_token}\r\n\r\n".encode())
    assert found == status, body
    assert isinstance(body["message"], str)
    assert body["message"]
    assert "%s" not in body["message"]


@pytest.mark.parametrize(
    "host", ["[::1]", "[::1]:80", "x:y", "", "x:99999999999999", "a b", "\u00e9", "x" * 5000]
)
async def test_no_host_header_breaks_an_answer(shared: RunningBackend, host: str) -> None:
    request = f"GET /v2/info HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
    request += f"Authorization: token {shared.admin_token}\r\n\r\n"
    status, _ = await raw(shared, request.encode())
    assert status in (200, 400)


async def test_paths_of_puts_are_no_way_around(shared_rest: Rest, shared: RunningBackend) -> None:
    for path in ("/a/../b", "/a//b", "/%2e%2e", "/a%20b", "/A", "/a/restart", "/" + "a" * 300):
        body = json.dumps(GOOD)
        request = f"PUT /v2/apps{path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        request += f"Content-Length: {len(body)}\r\nAuthorization: token {shared.admin_token}\r\n\r\n{body}"
        status, answer = await raw(shared, request.encode())
        assert (status, path) == (422, path), answer
        assert answer["details"][0]["path"] == "/id"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ([], 422),
        ({"ids": "x"}, 422),
        ({"ids": [1]}, 400),
        ({"ids": [["x"]]}, 400),
        ({"ids": ["no id"]}, 400),
        ({"ids": ["x" * 100_000]}, 400),
        ({"ids": [""]}, 400),
        ({"ids": ["a" + "._a" * 100_000 + "__"]}, 400),
    ],
)
async def test_bad_task_ids(shared_rest: Rest, body: Any, status: int) -> None:
    answer = await shared_rest("POST", "/v2/tasks/delete", body)
    assert answer.status_code == status
    both = await shared_rest("POST", "/v2/tasks/delete?scale=true&wipe=true", body)
    assert both.json() == {"message": "You cannot use scale and wipe at the same time."}


async def test_of_a_key_given_twice_the_last_counts(shared_rest: Rest) -> None:
    body = b'{"id": "/good", "cmd": "x", "cpus": 1, "id": "/a/../versions"}'
    answer = await shared_rest("POST", "/v2/apps", body)
    assert answer.status_code == 422

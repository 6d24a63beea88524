"""Readiness checks: a deployment goes on when its new tasks say so (``marathon-v2`` 2.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest
from answering import listening, saying, silent, unknown_certificate
from conftest import RunningBackend
from rest import Rest, eventually
from tornado.httpclient import AsyncHTTPClient

from hubfleet.api.app import ReadinessCheck
from hubfleet.backend.orchestrator.readiness import KEPT_OF_RESPONSE, ask

CHECK = {"portName": "web", "path": "/ready", "intervalSeconds": 2, "timeoutSeconds": 1}


def serving(**fields: Any) -> dict[str, Any]:
    """An app that says 404 on its second port until there is a file ``ready`` in its sandbox."""
    return {
        "cmd": "exec python3 -m http.server $PORT1 --bind 127.0.0.1",
        "mem": 64,
        "portDefinitions": [{"port": 0, "name": "other"}, {"port": 0, "name": "web"}],
        "readinessChecks": [{**CHECK, "preserveLastResponse": True}],
        **fields,
    }


def ready_file(backend: RunningBackend, task_id: str) -> Path:
    return backend.state_dir / "sandboxes" / task_id / "ready"


def times_asked(backend: RunningBackend, task_id: str) -> int:
    return ready_file(backend, task_id).with_name("stderr").read_text().count("GET /ready")


async def results(rest: Rest, app_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await rest.get(f"/v2/apps{app_id}?embed=app.readiness"))["app"][
        "readinessCheckResults"
    ]
    return found


async def answered(rest: Rest, app_id: str, status: int) -> list[dict[str, Any]]:
    """Wait until the last response to some check of an app was this; return all results."""

    async def has() -> list[dict[str, Any]] | None:
        found = await results(rest, app_id)
        return found if any(each.get("lastResponse", {}).get("status") == status for each in found) else None

    return await eventually(has)  # type: ignore[return-value]


async def test_a_deployment_waits_until_its_task_says_that_it_is_ready(
    shared: RunningBackend, shared_rest: Rest
) -> None:
    await shared_rest.create("/waits", **serving())
    (task,) = await shared_rest.running("/waits")
    (result,) = await answered(shared_rest, "/waits", 404)
    response = result.pop("lastResponse")
    assert result == {"name": "readinessCheck", "taskId": task["id"], "ready": False}
    assert response["contentType"] == "text/html"
    assert "File not found" in response["body"]

    async def told_of_the_deployment() -> bool:
        (deployment,) = await shared_rest.get("/v2/deployments")
        (action,) = deployment["currentActions"]
        # On a busy machine it may meanwhile have been asked once more and not have answered in time.
        return bool(action["readinessCheckResults"] == [{**result, "lastResponse": response}])

    await eventually(told_of_the_deployment)
    ready_file(shared, task["id"]).touch()
    await shared_rest.deployed()
    assert await results(shared_rest, "/waits") == []
    history = (await shared_rest.get(f"/v2/tasks/{task['id']}/history"))["history"]
    told = [each["message"] for each in history if "eady" in each["message"]]
    assert told[0].startswith("Not ready yet: readinessCheck ")
    assert told[1:] == ["Ready: readinessCheck answered 200"]
    await shared_rest("DELETE", "/v2/apps/waits")


async def test_a_task_that_no_deployment_started_is_not_asked(
    shared: RunningBackend, shared_rest: Rest
) -> None:
    codes = {**CHECK, "httpStatusCodesForReady": [404]}
    await shared_rest.create("/again", **serving(readinessChecks=[codes]))
    (task,) = await shared_rest.running("/again")
    await shared_rest.deployed()
    await shared_rest("DELETE", f"/v2/apps/again/tasks/{task['id']}")

    async def other() -> Any:
        tasks = await shared_rest.running("/again")
        return tasks if tasks[0]["id"] != task["id"] else None

    (other_task,) = await eventually(other)
    assert await results(shared_rest, "/again") == []
    assert (await shared_rest.app("/again"))["deployments"] == []
    history = (await shared_rest.get(f"/v2/tasks/{other_task['id']}/history"))["history"]
    assert not any("eady" in each["message"] for each in history)
    await shared_rest("DELETE", "/v2/apps/again")


async def test_a_former_task_serves_until_its_successor_is_ready(
    shared: RunningBackend, shared_rest: Rest
) -> None:
    await shared_rest.create("/rolls")
    (old,) = await shared_rest.running("/rolls")
    await shared_rest.deployed()
    await shared_rest("PUT", "/v2/apps/rolls", serving())
    (result,) = await answered(shared_rest, "/rolls", 404)
    assert {old["id"], result["taskId"]} == {each["id"] for each in await shared_rest.running("/rolls", 2)}
    ready_file(shared, result["taskId"]).touch()
    await shared_rest.deployed()
    (new,) = await shared_rest.running("/rolls")
    assert new["id"] == result["taskId"]
    await shared_rest("DELETE", "/v2/apps/rolls")


async def test_what_was_not_ready_when_its_deployment_was_cancelled_is_as_good_as_any(
    shared: RunningBackend, shared_rest: Rest
) -> None:
    await shared_rest.create("/given-up", **serving())
    await answered(shared_rest, "/given-up", 404)
    (task,) = await shared_rest.running("/given-up")
    (deployment,) = (await shared_rest.app("/given-up"))["deployments"]
    assert (await shared_rest("DELETE", f"/v2/deployments/{deployment['id']}?force=true")).status_code == 202
    await eventually(lambda: _none(results(shared_rest, "/given-up")))
    await shared_rest("PUT", "/v2/apps/given-up", {"labels": {"a": "b"}})
    (result,) = await answered(shared_rest, "/given-up", 404)
    assert result["taskId"] != task["id"]
    assert task["id"] in {each["id"] for each in await shared_rest.running("/given-up", 2)}
    await shared_rest("DELETE", "/v2/apps/given-up")


async def _none(found: Awaitable[list[Any]]) -> bool:
    return not await found


async def test_a_killed_backend_goes_on_asking_those_that_were_not_ready(
    rest: Rest, backend: RunningBackend
) -> None:
    await rest.create("/pair", instances=2, **serving())
    first, second = await rest.running("/pair", 2)
    ready_file(backend, first["id"]).touch()
    await answered(rest, "/pair", 200)
    ready_file(backend, first["id"]).unlink()
    asked = times_asked(backend, first["id"])
    await backend.kill()
    await backend.start()
    assert {each["taskId"]: each["ready"] for each in await results(rest, "/pair")} == {
        first["id"]: True,
        second["id"]: False,
    }
    ready_file(backend, second["id"]).touch()
    await rest.deployed()
    assert times_asked(backend, first["id"]) == asked, "who has been ready once is not asked again"


# -- one question -----------------------------------------------------------------------


@pytest.fixture
async def client() -> AsyncIterator[AsyncHTTPClient]:
    client = AsyncHTTPClient(force_instance=True, max_body_size=1000)
    yield client
    client.close()


def check(**fields: Any) -> ReadinessCheck:
    return ReadinessCheck.model_validate({"timeoutSeconds": 60, **fields})


async def test_the_answer_of_a_redirect_is_its_own(client: AsyncHTTPClient) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Type: text/plain; a=b\r\nContent-Length: 2\r\n\r\n"
    async with listening(saying(head + b"\xffk")) as port:
        answer = await ask(client, check(), "127.0.0.1", port)
    assert not answer.failed
    assert answer.said.to_wire() == {"status": 302, "contentType": "text/plain", "body": "\ufffdk"}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000,
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 100,
    ],
)
async def test_what_is_no_answer_is_told_as_marathon_tells_it(client: AsyncHTTPClient, text: bytes) -> None:
    async with listening(saying(text)) as port:
        answer = await ask(client, check(path="/a b", timeoutSeconds=5), "127.0.0.1", port)
    assert (answer.failed, answer.said.status) == (True, 504)
    assert answer.said.body.startswith(f"could not query http://127.0.0.1:{port}/a%20b: ")
    refused = await ask(client, check(), "127.0.0.1", port)
    assert "Connection refused" in refused.said.body


async def test_a_task_that_is_silent_is_given_up_in_time(client: AsyncHTTPClient) -> None:
    async with listening(silent) as port:
        answer = await ask(client, check(timeoutSeconds=1), "127.0.0.1", port)
    assert answer.failed
    assert "Timeout" in answer.said.body


async def test_of_a_long_answer_the_beginning_is_kept(tmp_path: Path) -> None:
    client = AsyncHTTPClient(force_instance=True)
    body = b"x" * (KEPT_OF_RESPONSE + 1)
    text = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    async with listening(saying(text), ssl=unknown_certificate(tmp_path)) as port:
        answer = await ask(client, check(protocol="HTTPS"), "127.0.0.1", port)
    assert (answer.failed, answer.said.status) == (False, 200)
    assert len(answer.said.body) == KEPT_OF_RESPONSE
    client.close()

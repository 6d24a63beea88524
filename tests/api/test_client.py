"""The client against a real backend: what it asks, what it makes of answers, and what it never says."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from conftest import LINGERING, RunningBackend
from ports import free_port

from hubfleet.api.app import App
from hubfleet.api.client import Client, split_urls
from hubfleet.api.errors import AccessDenied, BackendUnreachable, Conflict, Locked, NotFound, RequestRefused
from hubfleet.api.status import AppStatus

pytestmark = pytest.mark.usefixtures("both_ways")


def small(app_id: str, **fields: object) -> App:
    return App.model_validate({"id": app_id, "cmd": "exec sleep 600", "cpus": 0.01, "mem": 1, **fields})


async def settle(client: Client) -> None:
    async with asyncio.timeout(60):
        while await client.list_deployments():
            await asyncio.sleep(0.02)


async def test_every_call_does_what_it_says(backend: RunningBackend) -> None:
    client = backend.client
    await client.ping()
    made = await client.create_app(small("/c/one", instances=2, env={"A": "ü"}))
    assert isinstance(made, AppStatus)
    assert made.deployments
    await settle(client)
    found = await client.get_app("/c/one")
    assert (found.tasks_running, len(found.tasks), found.env) == (2, 2, {"A": "ü"})
    with pytest.raises(Conflict, match="already exists"):
        await client.create_app(small("/c/one"))
    await client.kill_and_scale([found.tasks[0].id])
    await settle(client)
    assert [task.id for task in await client.list_tasks("/c/one")] == [found.tasks[1].id]
    await client.update_app("/c/one", {"instances": 0})
    await client.replace_app(small("/c/two", instances=1, cpus=64), force=True)
    waits = await client.replace_app(small("/c/three", instances=1, cpus=64))
    async with asyncio.timeout(60):
        while [item.explanation for item in await client.list_queue()] != [
            "waiting for 64 cpus; 0 of 64 free"
        ]:
            await asyncio.sleep(0.02)
    assert waits.deployment_id in [deployment.id for deployment in await client.list_deployments()]
    assert {app.id for app in await client.list_apps("/c/t")} == {"/c/two", "/c/three"}
    for app_id in ("/c/one", "/c/two", "/c/three"):
        await client.delete_app(app_id)
    await settle(client)
    with pytest.raises(NotFound, match="App '/c/one' does not exist"):
        await client.get_app("/c/one")


async def test_a_lock_is_told_from_a_name_that_is_taken_and_waited_for_or_overridden(
    backend: RunningBackend,
) -> None:
    client = backend.client
    await client.create_app(small("/l", cmd=LINGERING, taskKillGracePeriodSeconds=600))
    await client.create_app(small("/other", cpus=2))
    await backend.deaf(1)
    await settle(client)
    with pytest.raises(Conflict, match="already exists") as taken:
        await client.create_app(small("/l"), lock_seconds=60)
    assert not isinstance(taken.value, Locked), "nobody waits for a name that is taken"
    (task,) = await client.list_tasks("/l")
    deletion = await client.delete_app("/l")
    with pytest.raises(Locked, match="is locked by") as locked:
        await client.create_app(small("/l"))
    assert locked.value.deployments == (deletion.deployment_id,)
    creation = asyncio.create_task(client.create_app(small("/l", cpus=64), lock_seconds=60))
    await asyncio.sleep(0.1)
    backend.let_end(task.id)
    assert (await creation).id == "/l"
    # It waits for the other's cpus, and its deployment for it.
    with pytest.raises(Locked):
        await client.replace_app(small("/l", cpus=63))
    await client.replace_app(small("/l", cpus=0.02), force=True)
    await settle(client)


async def test_refusals_carry_their_details(backend: RunningBackend) -> None:
    with pytest.raises(RequestRefused, match=r"Object is not valid \(/cpus: 999 cpus asked") as refused:
        await backend.client.create_app(small("/big", cpus=999))
    assert refused.value.status == 422
    stranger = Client(backend.url, token="a-token-that-nobody-knows")
    with pytest.raises(AccessDenied, match="not known here"):
        await stranger.list_apps()
    stranger.close()


async def test_the_end_of_what_a_task_said_comes_with_its_failure(backend: RunningBackend) -> None:
    await backend.client.create_app(small("/f", cmd="echo the reason >&2; exit 1", backoffSeconds=0.1))
    async with asyncio.timeout(60):
        while not (found := await backend.client.get_app("/f")).last_task_failure:
            await asyncio.sleep(0.02)
    assert found.last_task_failure.stderr == "the reason"


async def test_the_next_url_is_asked_when_one_does_not_answer(backend: RunningBackend) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    client = Client(f"{dead}, {backend.url}/", token=backend.admin_token)
    assert client.urls == [dead, backend.url]
    await client.create_app(small("/failover", instances=0))
    assert (await client.get_app("/failover")).id == "/failover"
    client.close()
    nobody = Client(dead, timeout=60)
    with pytest.raises(BackendUnreachable, match="Connection refused"):
        await nobody.list_apps()
    nobody.close()


@contextmanager
def answering(status: int, body: bytes, requests: list[str]) -> Iterator[str]:
    """A double of anything but a Marathon API, such as a login page in between."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(f"{self.command} {self.path}")
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if status == 0:
                self.close_connection = True
                return
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("body", [b"<html>log in</html>", b"[]", b"{}", b'{"apps": [{"no": "id"}]}', b"null"])
async def test_what_is_no_marathon_is_not_believed(body: bytes) -> None:
    with answering(200, body, []) as url:
        client = Client(url)
        with pytest.raises(BackendUnreachable, match="is no Marathon API"):
            await client.list_apps()
        client.close()


async def test_trouble_of_the_server_is_not_a_refusal() -> None:
    with answering(503, b'{"message": "later"}', []) as url:
        client = Client(url)
        with pytest.raises(BackendUnreachable, match="503: later"):
            await client.delete_app("/a")
        client.close()


async def test_a_request_that_may_have_been_done_is_not_sent_to_the_next_server(
    backend: RunningBackend,
) -> None:
    """A POST that reached a server is not repeated: it could kill or make twice."""
    requests: list[str] = []
    with answering(0, b"", requests) as url:
        client = Client([url, backend.url], token=backend.admin_token)
        with pytest.raises(BackendUnreachable):
            await client.create_app(small("/once"))
        assert requests == ["POST /v2/apps"]
        assert await client.list_apps() == []
        client.close()


async def test_a_connection_that_breaks_is_made_again_where_that_is_safe() -> None:
    requests: list[str] = []
    with answering(0, b"", requests) as url:
        client = Client(url)
        for ask, made in (
            (client.list_apps(), 2),
            (client.delete_app("/a"), 2),
            (client.kill_and_scale([]), 1),
        ):
            requests.clear()
            with pytest.raises(BackendUnreachable, match="without response"):
                await ask
            assert len(requests) == made
        client.close()


async def test_a_kept_connection_that_the_server_has_closed_is_nobodys_failure() -> None:
    body = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n" + b'{"apps":[]}'
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Client(f"http://127.0.0.1:{server.getsockname()[1]}", timeout=60)

        def serve() -> None:
            """Answer once on each connection, and close it when the next request is there, if one comes."""
            for number in range(3):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(body)
                    if number < 2:
                        connection.recv(65536)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        for _ in range(3):
            assert await client.list_apps() == []
        client.close()
        thread.join(60)


async def test_no_call_runs_on_the_loop() -> None:
    """A server that takes the connection and says nothing holds up nobody but the caller."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=20)
        calls = [asyncio.create_task(client.list_apps()) for _ in range(4)]
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert not any(call.done() for call in calls), "the loop turns while they wait"
    for call in calls:  # the connections end with the server
        with pytest.raises(BackendUnreachable):
            await call
    client.close()


async def test_nothing_secret_is_logged(backend: RunningBackend, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    await backend.client.create_app(small("/secret", instances=0, env={"PASSWORD": "swordfish"}))
    await backend.client.get_app("/secret")
    stranger = Client(backend.url, token="stranger-danger-token")
    with pytest.raises(AccessDenied):
        await stranger.update_app("/secret", {"env": {"PASSWORD": "swordfish"}})
    text = "\n".join(f"{record.getMessage()} {record.__dict__}" for record in caplog.records)
    assert "/v2/apps" in text, "the requests themselves are logged"
    for secret in ("swordfish", backend.admin_token, "stranger-danger-token"):
        assert secret not in text
    assert backend.admin_token not in repr(backend.client)


@pytest.mark.parametrize("urls", ["", " , ", [], "127.0.0.1:8080", "ftp://x"])
def test_addresses_that_are_none(urls: str) -> None:
    with pytest.raises(ValueError, match="Marathon API"):
        split_urls(urls)

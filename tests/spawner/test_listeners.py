"""A process of another account that listens on a server's port before the server does is not taken for it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import pwd
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from stand_in import STAND_IN

from hubfleet.api.app import App
from hubfleet.spawner.listeners import listener_at, stranger_at

OWN = pwd.getpwuid(os.geteuid()).pw_name
ANOTHER = "nobody" if OWN != "nobody" else "daemon"


def interpreter_for_all() -> str:
    """An interpreter that every account reaches; ours may be in somebody's closed home."""
    for place in (Path(sys.executable).resolve(), Path("/usr/bin/python3").resolve()):
        if place.is_file() and all(each.stat().st_mode & stat.S_IXOTH for each in (place, *place.parents)):
            return str(place)
    return ""


def app_of(account: str | None, **fields: Any) -> App:
    return App.model_validate({"id": "/a", "cmd": "x", "user": account, **fields})


@pytest.mark.parametrize(
    ("family", "bound", "asked", "found"),
    [
        (socket.AF_INET, "127.0.0.1", "127.0.0.1", True),
        (socket.AF_INET, "0.0.0.0", "127.0.0.1", True),
        (socket.AF_INET, "127.0.0.2", "127.0.0.1", False),
        (socket.AF_INET6, "::1", "::1", True),
        (socket.AF_INET6, "::", "::1", True),
        (socket.AF_INET6, "::", "127.0.0.1", True),  # of both families
        (socket.AF_INET6, "::1", "127.0.0.1", False),
        (socket.AF_INET6, "::ffff:127.0.0.1", "127.0.0.1", True),
    ],
)
def test_the_account_of_whoever_answers_is_found(
    family: socket.AddressFamily, bound: str, asked: str, found: bool
) -> None:
    port = free_port()
    address = ipaddress.ip_address(asked)
    with closing(socket.socket(family, socket.SOCK_STREAM)) as server:
        server.bind((bound, port))
        assert listener_at(address, port) is None, "it does not listen yet"
        server.listen()
        assert listener_at(address, port) == (os.geteuid() if found else None)
    assert listener_at(address, port) is None


async def test_only_another_account_on_this_machine_is_a_stranger() -> None:
    with socket.create_server(("0.0.0.0", free_port())) as server:
        port = server.getsockname()[1]
        assert await stranger_at("127.0.0.1", port, app_of(ANOTHER)) == OWN
        assert await stranger_at("localhost", port, app_of(ANOTHER)) == OWN
        assert await stranger_at("127.0.0.1", port, app_of(OWN)) is None
        assert await stranger_at("127.0.0.1", port, app_of(None)) is None, "all are of one account"
        assert await stranger_at("127.0.0.1", port, app_of("no-such-account")) is None
        assert await stranger_at("192.0.2.1", port, app_of(ANOTHER)) is None, "another machine's port"
        image = {"type": "DOCKER", "docker": {"image": "x"}}
        assert await stranger_at("127.0.0.1", port, app_of(ANOTHER, container=image)) is None
    assert await stranger_at("127.0.0.1", port, app_of(ANOTHER)) is None, "nobody listens"


@contextmanager
def impostor(port: int) -> Iterator[None]:
    """What answers like a server, and is of our own account."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.skipif(
    os.geteuid() != 0 or not interpreter_for_all(),
    reason="only root runs servers as other accounts, and they need an interpreter that they reach",
)
async def test_a_server_whose_port_was_taken_starts_at_another(hub: Any, backend: Any) -> None:
    wait = 'import os, time\nwhile not os.path.exists("go"): time.sleep(0.02)\n'
    configuration = hub.config.MarathonSpawner
    configuration.mesos_user = ANOTHER
    configuration.cmd = [interpreter_for_all(), "-c", wait + STAND_IN]
    user = hub.user("alice")
    start = asyncio.create_task(user.spawn())

    async def newest() -> Any:
        apps = await backend.client.list_apps()
        return next((task for app in apps for task in app.tasks if task.running), None)

    def let_it_listen(task: Any) -> None:
        (backend.state_dir / "sandboxes" / task.id / "go").touch()

    first = await hub.eventually(newest)
    with impostor(first.ports[0]):
        told = user.spawner._told

        async def noticed() -> bool:
            return any("of another account has taken its port" in each for each in told.messages)

        await hub.eventually(noticed)
        assert not start.done()
        let_it_listen(first)

        async def another() -> Any:
            task = await newest()
            return task if task is not None and task.id != first.id else None

        second = await hub.eventually(another)
        let_it_listen(second)
        await asyncio.wait_for(start, 60)
    assert user.spawner.server.port == second.ports[0] != first.ports[0]
    assert (await hub.ask(user.spawner.server.url))["env"]["JUPYTERHUB_USER"] == "alice"
    await user.stop()
    assert await hub.nothing_left(backend)

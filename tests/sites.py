"""A backend under a hub that is a double: people, services, and their tokens."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from conftest import WarmBackend
from ports import backend_ports
from rest import Rest

BODY = {"cmd": "exec sleep 600", "cpus": 0.01, "mem": 1}

OWNERS: dict[str, Any] = {
    "token-of-alice": {"kind": "user", "name": "alice", "scopes": ["access:servers!user=alice"]},
    "token-of-bob": {"kind": "user", "name": "bob", "scopes": ["access:servers!user=bob"]},
    "token-of-alice-server": {
        "kind": "user",
        "name": "alice",
        "scopes": ["access:servers!server=alice/", "users:activity!user=alice"],
    },
    "token-for-a-login": {"kind": "user", "name": "alice", "scopes": ["read:users!user=alice"]},
    "token-of-a-service": {"kind": "service", "name": "cull", "scopes": ["access:servers"]},
    "token-of-a-dashboard": {"kind": "service", "name": "board", "scopes": ["custom:hubfleet:read"]},
    "token-of-a-spawner": {"kind": "service", "name": "spawner", "scopes": ["custom:hubfleet:hub"]},
    "token-of-an-operator": {
        "kind": "user",
        "name": "op",
        "scopes": ["access:servers!user=op", "custom:hubfleet:admin"],
    },
    "token-of-a-teacher": {
        "kind": "user",
        "name": "tess",
        "scopes": ["access:servers!user=tess", "custom:hubfleet:read!user=alice"],
    },
}


READER = "a-reader-of-the-tests"


class HubDouble:
    """A double of one endpoint of JupyterHub's API: ``/hub/api/user``, which tells whose a token is."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.status: int | None = None
        self.owners = dict(OWNERS)
        double = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                token = self.headers["Authorization"].removeprefix("token ")
                double.asked.append(token)
                owner = double.owners.get(token)
                status = double.status or (200 if owner and self.path == "/hub/api/user" else 403)
                body = json.dumps(owner or {"status": status, "message": "no"}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hub/api"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Site:
    """A backend under a hub, and its users."""

    def __init__(self, folder: Path, accounts: str = "shared", configuration: str = "") -> None:
        self.hub = HubDouble()
        file = folder / "config.py"
        file.write_text(f"c.Backend.read_tokens = [{READER!r}]\n{configuration}")
        self.backend = WarmBackend(folder / "state", backend_ports(), accounts=accounts, config=str(file))
        self.backend.environment = {
            "JUPYTERHUB_API_URL": self.hub.url,
            "JUPYTERHUB_API_TOKEN": "the-backend-itself",
        }
        self.admin = self.user(self.backend.admin_token)
        self.alice, self.bob = self.user("token-of-alice"), self.user("token-of-bob")

    def user(self, token: str | None) -> Rest:
        return Rest(self.backend.url, token)


@asynccontextmanager
async def site_for_one(
    folder: Path, accounts: str = "shared", configuration: str = ""
) -> AsyncIterator[Site]:
    """Yield a site that runs, for one test."""
    site = Site(folder, accounts, configuration)
    try:
        await site.backend.start()
        yield site
    finally:
        await site.backend.destroy()
        site.hub.close()


@contextmanager
def running_site(folder: Path, configuration: str = "") -> Iterator[Site]:
    """Yield a site that runs, for the tests of a whole module."""
    site = Site(folder, configuration=configuration)
    try:
        asyncio.run(site.backend.start())
        yield site
    finally:
        asyncio.run(site.backend.destroy())
        site.hub.close()

"""Servers that run without having been started: copies of one that was, in a hub's database and a backend.

To start five thousand servers takes longer than a bench should. What a hub knows of a running server are rows
of its database, and what a backend does is an app; both are copied from a server that was really started,
with another name, address and token. A hub that is started again on that database cannot tell them apart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from conftest import RunningBackend

APPS_AT_ONCE = 500
PATIENCE_SECONDS = 300
_TOLD_BY_THE_BACKEND = (
    *(
        "version",
        "versionInfo",
        "deployments",
        "tasks",
        "taskStats",
        "lastTaskFailure",
        "readinessCheckResults",
    ),
    *("tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy"),
)


@dataclass(frozen=True)
class Prepared:
    """A server that is to be known to a hub.

    Parameters
    ----------
    name
        Of its user.
    port
        Of its address, whose host is that of the server which is copied; if None, its port, too.
    state
        What the spawner keeps of it.
    """

    name: str
    port: int | None = None
    state: Mapping[str, Any] = field(default_factory=dict)


async def copy_server(
    hub: Path, like: str, names: Sequence[str], backend: RunningBackend | None = None, app_id: str = ""
) -> None:
    """Have a server for each of some users at a hub that does not run.

    Parameters
    ----------
    hub
        Its folder.
    like
        The user whose server is copied.
    backend
        That runs the app `app_id` which is this server; None if it is no app.
    """
    copies = [Prepared(name) for name in names]
    if backend is not None:
        copies = await add_apps(backend.url, backend.admin_token, app_id, like, names)
    await asyncio.to_thread(add_servers, hub / "hub.sqlite", like, copies)


def add_servers(database: Path, like: str, servers: Sequence[Prepared]) -> None:
    """Add servers and their users to the database of a hub that does not run.

    Parameters
    ----------
    like
        The user whose server is copied; the name stands nowhere for anything else.
    """
    with contextlib.closing(sqlite3.connect(database)) as db, db:
        db.row_factory = sqlite3.Row
        [user] = _rows(db, "users", "name", like)
        [spawner] = _rows(db, "spawners", "user_id", user["id"])
        [server] = _rows(db, "servers", "id", spawner["server_id"])
        clients = _rows(db, "oauth_clients", "identifier", spawner["oauth_client_id"])
        tokens = _rows(db, "api_tokens", "user_id", user["id"])
        roles = _rows(db, "user_role_map", "user_id", user["id"])
        for one in servers:
            renamed = (like, one.name)
            user_id = _copy(db, "users", user, renamed, cookie_id=secrets.token_hex(16))
            for client in clients:
                _copy(db, "oauth_clients", client, renamed)
            server_id = _copy(db, "servers", server, renamed, port=one.port or server["port"])
            state = json.dumps(dict(one.state))
            _copy(db, "spawners", spawner, renamed, user_id=user_id, server_id=server_id, state=state)
            for token in tokens:
                hashed = f"{token['hashed']}-of-{one.name}"
                _copy(db, "api_tokens", token, renamed, user_id=user_id, hashed=hashed)
            for role in roles:
                _copy(db, "user_role_map", role, renamed, user_id=user_id)


def _rows(db: sqlite3.Connection, table: str, column: str, value: Any) -> list[dict[str, Any]]:
    found = db.execute(f'SELECT * FROM "{table}" WHERE "{column}" = ?', (value,))
    return [dict(row) for row in found]


def _copy(
    db: sqlite3.Connection, table: str, row: Mapping[str, Any], renamed: tuple[str, str], **changes: Any
) -> int:
    """Insert a row with another id, other words in its texts, and changes; return the id."""
    copy = {
        name: value.replace(*renamed) if isinstance(value, str) else value
        for name, value in row.items()
        if name != "id"
    }
    copy |= changes
    columns, places = ", ".join(f'"{name}"' for name in copy), ", ".join("?" * len(copy))
    done = db.execute(f'INSERT INTO "{table}" ({columns}) VALUES ({places})', list(copy.values()))
    assert done.lastrowid is not None
    return done.lastrowid


async def add_apps(url: str, token: str, like_id: str, like: str, names: Sequence[str]) -> list[Prepared]:
    """Have a backend run an app for each of some users; return their servers as a hub should know them.

    Parameters
    ----------
    like_id
        The app which is copied, and `like` its user.
    """

    async def ask(method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"token {token}"}
        answer = await asyncio.to_thread(
            requests.request, method, url + path, json=body, headers=headers, timeout=PATIENCE_SECONDS
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    app = (await ask("GET", f"/v2/apps/{like_id}"))["app"]
    text = json.dumps({name: value for name, value in app.items() if name not in _TOLD_BY_THE_BACKEND})
    for first in range(0, len(names), APPS_AT_ONCE):
        apps = [json.loads(text.replace(like, name)) for name in names[first : first + APPS_AT_ONCE]]
        for each in apps:
            for port in each.get("portDefinitions") or ():
                port["port"] = 0
        await ask("PUT", "/v2/apps", apps)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await ask("GET", "/v2/deployments"):
                await asyncio.sleep(0.1)
    found = {each["id"]: each["tasks"] for each in (await ask("GET", "/v2/apps?embed=apps.tasks"))["apps"]}
    prepared = []
    for name in names:
        app_id = f"/{like_id}".replace(like, name)
        [task] = found[app_id]
        state = {"app_id": app_id, "group": app_id.rpartition(f"/{name}/")[0], "task_id": task["id"]}
        prepared.append(Prepared(name, task["ports"][0], state))
    return prepared

"""Raw HTTP towards a backend, for tests of what exactly goes over the wire."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

T = TypeVar("T")
DEADLINE = 60.0


async def eventually(look: Callable[[], Awaitable[T]], deadline: float = DEADLINE) -> T:
    """Ask until the answer is true; say what it was when it never became so."""
    end = time.monotonic() + deadline
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < end, f"not within {deadline} s: {look}"
        await asyncio.sleep(0.02)


class Rest:
    """Requests to one backend with one token."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self.headers = {} if token is None else {"Authorization": f"token {token}"}

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        **arguments: Any,
    ) -> requests.Response:
        """Send a request; a body that is no bytes is sent as JSON."""
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        return await asyncio.to_thread(
            requests.request,
            method,
            self.url + path,
            data=content,
            headers={"Content-Type": "application/json", **self.headers, **(headers or {})},
            timeout=DEADLINE,
            **arguments,
        )

    async def get(self, path: str, **arguments: Any) -> Any:
        """Return the JSON of a successful GET."""
        response = await self("GET", path, **arguments)
        assert response.status_code == 200, (path, response.status_code, response.text)
        return response.json()

    async def create(self, app_id: str, cmd: str = "exec sleep 600", **fields: Any) -> dict[str, Any]:
        """Create a small app; return what was answered."""
        response = await self(
            "POST", "/v2/apps", {"id": app_id, "cmd": cmd, "cpus": 0.01, "mem": 1, **fields}
        )
        assert response.status_code == 201, response.text
        found: dict[str, Any] = response.json()
        return found

    async def app(self, app_id: str) -> dict[str, Any]:
        """Return an app."""
        found: dict[str, Any] = (await self.get(f"/v2/apps{app_id}"))["app"]
        return found

    async def tasks(self, app_id: str) -> list[dict[str, Any]]:
        """Return the tasks of an app."""
        found: list[dict[str, Any]] = (await self.get(f"/v2/apps{app_id}/tasks"))["tasks"]
        return found

    async def deployed(self) -> None:
        """Wait until no deployment is under way."""

        async def none() -> bool:
            return not await self.get("/v2/deployments")

        await eventually(none)

    async def running(self, app_id: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until exactly so many tasks of an app are there, and all run; return them."""

        async def all_run() -> list[dict[str, Any]] | bool:
            tasks = await self.tasks(app_id)
            good = len(tasks) == count and all(task["state"] == "TASK_RUNNING" for task in tasks)
            return tasks or True if good else False

        found = await eventually(all_run)
        return [] if found is True else found  # type: ignore[return-value]


class Reader:
    """A connection to the stream, and what came over it."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self.raw = b""
        self.ended = asyncio.Event()
        self._reader = reader

    async def read(self) -> None:
        while chunk := await self._reader.read(65536):
            self.raw += chunk
        self.ended.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        *whole, _ = self.raw.split(b"\r\n")  # the last one may still be under way
        return [json.loads(line[5:]) for line in whole if line.startswith(b"data:")]

    def types(self, app_id: str | None = None) -> list[str]:
        return [event["eventType"] for event in self.events if app_id in (None, about(event))]

    async def until(self, event_type: str, count: int = 1) -> None:
        await eventually(lambda: asyncio.sleep(0, self.types().count(event_type) >= count))


def about(event: dict[str, Any]) -> str | None:
    if "plan" in event:
        found: str = event["plan"]["steps"][0]["actions"][0]["app"]
        return found
    return event.get("appId") or event.get("runSpecId") or event.get("appDefinition", {}).get("id")


@asynccontextmanager
async def stream(url: str, token: str, query: str = "") -> AsyncIterator[Reader]:
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(
        f"GET /v2/events{query} HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
        f"Authorization: token {token}\r\n\r\n".encode()
    )
    heard = Reader(reader)
    task = asyncio.create_task(heard.read())
    try:
        await heard.until("event_stream_attached")
        yield heard
    finally:
        task.cancel()
        writer.close()

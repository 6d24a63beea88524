"""Many people at a hub, in one process that costs little: they log in and start their servers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import HTTPResponse
from tornado.httputil import parse_cookie
from tornado.simple_httpclient import SimpleAsyncHTTPClient

PATIENCE_SECONDS = 300


class Visitors:
    """Shared by all people: the connections."""

    def __init__(self) -> None:
        self.client = SimpleAsyncHTTPClient(force_instance=True, max_clients=10_000)

    def close(self) -> None:
        """Hang up."""
        self.client.close()


class Visitor:
    """Somebody with a browser's cookies, who does what a browser does without drawing it.

    Parameters
    ----------
    url
        The hub, as people reach it, through its proxy.
    """

    def __init__(self, visitors: Visitors, url: str, name: str) -> None:
        self.client, self.url, self.name = visitors.client, url, name
        self.cookies: dict[tuple[str, str], str] = {}

    async def start(self, options: Mapping[str, Any] = MappingProxyType({})) -> float:
        """Log in, start the server, and look at it; return the seconds from the first to the last.

        Parameters
        ----------
        options
            What is chosen for the server, where there is something to choose.

        Raises
        ------
        RuntimeError
            Somebody answered something else than is right; it says what.
        """
        begun = time.perf_counter()
        await self._ask("GET", "/hub/login", (200,))
        form = urlencode({"username": self.name, "password": "bench", "_xsrf": self._xsrf})
        await self._ask("POST", "/hub/login", (302,), form, "application/x-www-form-urlencoded")
        await self._ask("GET", "/hub/home", (200,))  # renews the token that API calls carry
        chosen = json.dumps(dict(options))
        await self._ask("POST", f"/hub/api/users/{self.name}/server", (201,), chosen, "application/json")
        await self._ask("GET", f"/user/{self.name}/api", (200,))
        return time.perf_counter() - begun

    @property
    def _xsrf(self) -> str:
        return self.cookies.get(("/hub/", "_xsrf"), "")

    async def _ask(
        self, method: str, path: str, expected: tuple[int, ...], body: str | None = None, kind: str = ""
    ) -> HTTPResponse:
        headers = {
            "Cookie": "; ".join(
                f"{name}={value}" for (place, name), value in self.cookies.items() if path.startswith(place)
            )
        }
        if body is not None:
            headers |= {
                "Content-Type": kind,
                "X-XSRFToken": self._xsrf,
                "Referer": f"{self.url}/hub/home",
            }
        answer = await self.client.fetch(
            self.url + path,
            method=method,
            headers=headers,
            body=body,
            follow_redirects=False,
            raise_error=False,
            connect_timeout=PATIENCE_SECONDS,
            request_timeout=PATIENCE_SECONDS,
        )
        if answer.code not in expected:
            raise RuntimeError(
                f"{method} {path} of {self.name}: {answer.code} {answer.error or ''} "
                f"{answer.body[:300] if answer.body else ''!r}"
            )
        for cookie in answer.headers.get_list("Set-Cookie"):
            name, _, rest = cookie.partition("=")
            attributes = {
                key.strip().lower(): value for key, _, value in (p.partition("=") for p in rest.split(";"))
            }
            value = parse_cookie(cookie).get(name, "")
            self.cookies[attributes.get("path", "/"), name] = value
        return answer

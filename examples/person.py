"""A person at a hub, over HTTP: logs in, starts and stops a server, runs cells in a kernel."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import requests
from tornado.httpclient import HTTPRequest
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect


class Refused(Exception):
    """The hub or the server did not do what the person asked; the message says what it said."""


class Person:
    """Somebody with a browser's cookies.

    Parameters
    ----------
    url
        The hub, as people reach it.
    """

    def __init__(self, url: str, name: str, password: str) -> None:
        self.url = url.rstrip("/")
        self.name = name
        self._password = password
        self._session = requests.Session()
        self._session.trust_env = False

    # -- the hub ------------------------------------------------------------------------

    def login(self) -> None:
        """Log in by the form."""
        self._get("/hub/login")
        form = {"username": self.name, "password": self._password, "_xsrf": self._xsrf("/hub/")}
        answer = self._session.post(f"{self.url}/hub/login", data=form, allow_redirects=False, timeout=60)
        if answer.status_code != 302:
            raise Refused(f"the login of {self.name} was refused ({answer.status_code})")
        self._get("/hub/home")  # renews the token that forms and API calls carry

    def start_server(self, server: str = "", options: dict[str, Any] | None = None) -> None:
        """Press start."""
        self._hub_api("POST", self._server_path(server), json=options or {})

    def start_and_watch(self, server: str = "") -> Iterator[dict[str, Any]]:
        """Press start, and yield what the hub tells meanwhile, up to the end of the start."""
        with ThreadPoolExecutor(1) as pool:
            pressed = pool.submit(self.start_server, server)
            while self.server(server) is None and not pressed.done():
                time.sleep(0.02)
            if pressed.done():
                pressed.result()
            yield from self.progress(server)
            pressed.result()

    def progress(self, server: str = "") -> Iterator[dict[str, Any]]:
        """Yield what the hub tells about a start that is under way, up to its end."""
        path = f"{self._server_path(server)}/progress"
        with self._session.get(f"{self.url}{path}", stream=True, timeout=120) as answer:
            answer.raise_for_status()
            for line in answer.iter_lines(chunk_size=1):
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    yield event
                    if event.get("ready") or event.get("failed"):
                        return

    def server(self, server: str = "") -> dict[str, Any] | None:
        """Return what the hub knows of a server, or None if there is none."""
        model = self._hub_api("GET", f"/hub/api/users/{quote(self.name, safe='')}").json()
        found = model.get("servers", {}).get(server)
        return found if isinstance(found, dict) and not found.get("stopped") else None

    def open_server(self, server: str = "") -> None:
        """Open the server's page, going through the hub's login as a browser does."""
        answer = self._get(f"{self.server_url(server)}lab")
        if "/hub/" in answer.url:
            raise Refused(f"the server of {self.name} did not open, but {answer.url}")

    def server_url(self, server: str = "") -> str:
        """Return the path of a server, with a slash at its end."""
        return f"/user/{quote(self.name, safe='@')}/" + (f"{quote(server)}/" if server else "")

    def stop_server(self, server: str = "", timeout: float = 60.0) -> None:
        """Press stop, and return when the hub says that the server is gone."""
        self._hub_api("DELETE", self._server_path(server))
        deadline = time.monotonic() + timeout
        while self.server(server) is not None:
            if time.monotonic() > deadline:
                raise Refused(f"the server of {self.name} is still there after {timeout:g} s")
            time.sleep(0.02)

    # -- the server ---------------------------------------------------------------------

    def start_kernel(self, server: str = "") -> Kernel:
        """Start a Python kernel and connect to it."""
        path = f"{self.server_url(server)}api/kernels"
        answer = self._api("POST", path, self._xsrf(self.server_url(server)), json={"name": "python3"})
        socket_url = f"{self.url.replace('http', 'ws', 1)}{path}/{answer.json()['id']}/channels"
        request = requests.Request("GET", f"{self.url}{path}/")
        cookies = self._session.prepare_request(request).headers.get("Cookie", "")
        return Kernel(socket_url, cookies)

    def start_terminal(self, server: str = "") -> dict[str, Any]:
        """Open a terminal, and return what the server says of it."""
        path = f"{self.server_url(server)}api/terminals"
        found: dict[str, Any] = self._api("POST", path, self._xsrf(self.server_url(server)), json={}).json()
        return found

    # -- requests -----------------------------------------------------------------------

    def _server_path(self, server: str) -> str:
        path = f"/hub/api/users/{quote(self.name, safe='')}"
        return f"{path}/servers/{quote(server)}" if server else f"{path}/server"

    def _xsrf(self, path: str) -> str:
        found = [cookie for cookie in self._session.cookies if cookie.name == "_xsrf" and cookie.path == path]
        return str(found[-1].value) if found else ""

    def _get(self, path: str) -> requests.Response:
        answer = self._session.get(f"{self.url}{path}", timeout=60)
        answer.raise_for_status()
        return answer

    def _hub_api(self, method: str, path: str, **arguments: Any) -> requests.Response:
        return self._api(method, path, self._xsrf("/hub/"), **arguments)

    def _api(self, method: str, path: str, xsrf: str, **arguments: Any) -> requests.Response:
        headers = {"X-XSRFToken": xsrf, "Referer": f"{self.url}/hub/home"}
        answer = self._session.request(method, f"{self.url}{path}", headers=headers, timeout=120, **arguments)
        if answer.status_code >= 400:
            raise Refused(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        return answer


class Kernel:
    """A kernel on the other side of a websocket (Jupyter's messaging, version 5.3)."""

    def __init__(self, url: str, cookies: str) -> None:
        self._session = uuid.uuid4().hex
        self._loop = IOLoop(make_current=False)
        self._socket: WebSocketClientConnection = self._wait(
            lambda: websocket_connect(HTTPRequest(url, headers={"Cookie": cookies}))
        )

    def run(self, code: str, timeout: float = 120.0) -> str:
        """Run a cell and return what it printed.

        Raises
        ------
        Refused
            The cell failed; the message holds its traceback.
        """
        identity = uuid.uuid4().hex
        header = {"msg_id": identity, "msg_type": "execute_request", "version": "5.3"}
        header |= {"session": self._session, "username": "", "date": ""}
        content = {"code": code, "silent": False, "store_history": False, "allow_stdin": False}
        request = {"header": header, "parent_header": {}, "metadata": {}, "content": content}
        self._wait(lambda: self._socket.write_message(json.dumps({**request, "channel": "shell"})))
        printed: list[str] = []
        deadline = time.monotonic() + timeout
        replied = idle = False
        while not (replied and idle):
            message = self._read(deadline)
            if message["parent_header"].get("msg_id") != identity:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream" and content["name"] == "stdout":
                printed.append(content["text"])
            elif kind == "error":
                raise Refused("the cell failed:\n" + "\n".join(content["traceback"]))
            elif kind == "status" and content["execution_state"] == "idle":
                idle = True
            elif kind == "execute_reply":
                replied = True
        return "".join(printed)

    def close(self) -> None:
        """Hang up; the kernel goes on."""
        self._wait(self._socket.close)  # within the loop, where its last frame is written
        self._loop.close(all_fds=True)

    def _read(self, deadline: float) -> dict[str, Any]:
        text = self._wait(self._socket.read_message, deadline - time.monotonic())
        if text is None:
            raise Refused("the kernel's connection was closed")
        found: dict[str, Any] = json.loads(text)
        return found

    def _wait(self, start: Callable[[], Any], timeout: float = 30.0) -> Any:
        return self._loop.run_sync(start, timeout=max(0.1, timeout))

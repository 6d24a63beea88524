"""The field's own Python client of Marathon, repaired where 0.13.0 is broken.

`marathon.MarathonClient` carries the requests; what it does badly is overridden here
and nowhere else (``marathon-v2`` 7.1). When a release of it no longer needs a repair,
the repair is deleted.
"""

from __future__ import annotations

import json
import logging
import re
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

from marathon import MarathonClient
from marathon.models import MarathonDeployment, MarathonTask

from .app import App
from .errors import (
    AccessDenied,
    BackendUnreachable,
    Conflict,
    Locked,
    NotFound,
    RequestRefused,
    TooManyDeployments,
)
from .quota import QuotaReport
from .session import SAFE_TO_REPEAT, Answer, NeverSent, Session
from .status import AppHistory, AppStatus, Deployment, HistoryEvent, QueueItem, Task
from .wire import Wire

log = logging.getLogger("hubfleet.client")

_NOT_THERE = frozenset({502, 503, 504})
# Marathon writes its stream's keep-alive every 10 s; three missed ones mean that nobody is there.
STREAM_SILENCE_SECONDS = 35.0

# Marathon's sentence, and our backend's on the share of one user. Both answer 403, as to a stranger.
_TOO_MANY = re.compile(r"of running deployments is achieved|deployments under way, which is the most")

_OURS: dict[type, type[Wire]] = {MarathonTask: Task, MarathonDeployment: Deployment}
# The last of them, and the queue's `explanation`, are our backend's own. They are asked for, since
# the client 0.13.0 takes no field that it does not know; Marathon ignores values it does not know.
_EMBEDDED = ["app.tasks", "app.deployments", "app.lastTaskFailure", "app.stderr"]


class Transport(MarathonClient):
    """A client of a Marathon API whose calls block, or are run by its session where none may.

    Repairs: answers become our own models, so that a field that 0.13.0 does not know is
    no error and nothing is encoded through ``collections.Iterable`` (gone in Python 3.10);
    no body is ever logged, since bodies hold tokens; a request that is not safe to repeat
    is sent to the next server only if the first was not reached at all; the event stream
    has time-outs and sends the token.

    Parameters
    ----------
    session
        How requests travel.
    """

    session: Session

    def __init__(
        self,
        servers: Sequence[str],
        session: Session,
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout: float = 10.0,
        verify: bool | str = True,
    ) -> None:
        super().__init__(
            list(servers),
            username=username,
            password=password,
            timeout=timeout,
            session=session,
            sse_session=session,
            auth_token=token,
            verify=verify,
        )

    @staticmethod
    def _parse_response(
        response: Answer, clazz: type, is_list: bool = False, resource_name: str | None = None
    ) -> Any:
        body = response.json()
        target = body[resource_name] if resource_name else body
        model = _OURS[clazz]
        return [model.from_wire(item) for item in target] if is_list else model.from_wire(target)

    def _do_request(
        self, method: str, path: str, params: dict[str, Any] | None = None, data: str | None = None
    ) -> Answer:
        body = data.encode("utf-8") if data is not None else None
        failures = []
        for server in self.servers:
            try:
                response = self._send(method, server + path, params=params, data=body, timeout=self.timeout)
            except OSError as error:  # or a file of certificates cannot be read
                failures.append(f"{server}: {error}")
                if method in SAFE_TO_REPEAT or isinstance(error, NeverSent):
                    continue
                break
            log.debug("%s %s: %d", method, path, response.status_code)
            if response.status_code in _NOT_THERE and method in SAFE_TO_REPEAT and server != self.servers[-1]:
                # What answers is a proxy whose backend is away, or one that starts; another may be well.
                failures.append(f"{server}: it answered {response.status_code}")
                continue
            if response.status_code < 400:
                return response
            raise _error(response, f"{method} {path}")
        raise BackendUnreachable(f"no Marathon API answered {method} {path} ({'; '.join(failures)})")

    def _send(self, method: str, url: str, accept: str = "application/json", **settings: Any) -> Answer:
        headers = {"Content-Type": "application/json", "Accept": accept}
        if self.auth_token:
            headers["Authorization"] = f"token={self.auth_token}"
        elif self.auth:
            headers["Authorization"] = f"Basic {b64encode(':'.join(self.auth).encode()).decode()}"
        answer: Answer = self.session.request(method, url, headers=headers, verify=self.verify, **settings)
        return answer

    def create_app(self, app_id: str, app: App, minimal: bool = True) -> AppStatus:
        """Submit a new app; its own id counts."""
        response = self._do_request("POST", "/v2/apps", data=json.dumps(app.to_wire()))
        return AppStatus.from_wire(response.json())

    def get_app(self, app_id: str) -> AppStatus:
        """Return an app with its tasks."""
        response = self._do_request("GET", f"/v2/apps/{app_id.strip('/')}", params={"embed": _EMBEDDED})
        return AppStatus.from_wire(response.json()["app"])

    def list_apps(self, app_id: str | None = None, label: str | None = None) -> list[AppStatus]:
        """Return the apps with their tasks, of an id that contains a text and with a label if given."""
        params = {"id": app_id, "label": label, "embed": _EMBEDDED}
        response = self._do_request("GET", "/v2/apps", params=params)
        return [AppStatus.from_wire(app) for app in response.json()["apps"]]

    def list_queue(self) -> list[QueueItem]:
        """Return what waits, and why."""
        response = self._do_request("GET", "/v2/queue", params={"embed": "explanation"})
        return [QueueItem.from_wire(item) for item in response.json()["queue"]]

    def reset_delay(self, app_id: str) -> None:
        """End the back-off of an app of which something waits."""
        self._do_request("DELETE", f"/v2/queue/{app_id.strip('/')}/delay")

    def is_hubfleet(self) -> bool:
        """Whether this is our own backend, by what it says of itself."""
        return str(self._do_request("GET", "/v2/info").json().get("buildref", "")).startswith("hubfleet-")

    def task_output(self, task_id: str, name: str, params: dict[str, int]) -> bytes:
        """Return what a task has written; our backend's own."""
        return self._do_request("GET", f"/v2/tasks/{task_id}/files/{name}", params=params).content

    def task_history(self, task_id: str) -> list[HistoryEvent]:
        """Return what happened to a task; our backend's own."""
        response = self._do_request("GET", f"/v2/tasks/{task_id}/history")
        return [HistoryEvent.from_wire(event) for event in response.json()["history"]]

    def app_history(self, app_id: str) -> AppHistory:
        """Return what happened to an app and its tasks; our backend's own."""
        response = self._do_request("GET", f"/v2/history/apps/{app_id.strip('/')}")
        return AppHistory.from_wire(response.json())

    def get_quota(self, user: str | None = None) -> QuotaReport:
        """Return what a user may have and has: the holder of the token, or the one asked for."""
        params = None if user is None else {"user": user}
        return QuotaReport.from_wire(self._do_request("GET", "/hubfleet/quota", params=params).json())

    def renew_lease(self, app_id: str) -> None:
        """Say that an app is still needed; our backend's own."""
        self._do_request("PUT", f"/hubfleet/leases/{app_id.strip('/')}")

    def update_app(
        self,
        app_id: str,
        app: dict[str, Any],
        force: bool = False,
        minimal: bool = True,
        partial: bool = True,
    ) -> dict[str, Any]:
        """Change the given fields of an app, or with ``partial=False`` all of it."""
        params = {"force": force, "partialUpdate": partial}
        response = self._do_request(
            "PUT", f"/v2/apps/{app_id.strip('/')}", params=params, data=json.dumps(app)
        )
        return dict(response.json())

    def kill_given_tasks(
        self, task_ids: Sequence[str], scale: bool = False, force: bool | None = None
    ) -> dict[str, Any]:
        """Kill tasks by id, and with ``scale`` lower their apps' instances by as many."""
        params = {"scale": scale, "force": bool(force)}
        body = json.dumps({"ids": list(task_ids)})
        return dict(self._do_request("POST", "/v2/tasks/delete", params=params, data=body).json())

    def open_event_stream(self, event_types: Sequence[str] = ()) -> Any:
        """Open the event stream at the first server that answers; the caller reads and closes it."""
        failures = []
        for server in self.servers:
            try:
                response = self._send(
                    "GET",
                    f"{server}/v2/events",
                    "text/event-stream",
                    params={"event_type": list(event_types)} if event_types else None,
                    stream=True,
                    timeout=(self.timeout, STREAM_SILENCE_SECONDS),
                )
            except OSError as error:
                failures.append(f"{server}: {error}")
                continue
            if response.status_code < 400:
                return response
            try:
                if response.status_code not in _NOT_THERE or server == self.servers[-1]:
                    raise _error(response, "GET /v2/events")
            finally:
                response.close()
            failures.append(f"{server}: it answered {response.status_code}")
        raise BackendUnreachable(f"no Marathon API offers its events ({'; '.join(failures)})")


def _error(response: Answer, request: str) -> Exception:
    """Turn a bad answer into our own error; the one place where statuses are told apart."""
    message, details = response.reason or "", None
    try:
        body = response.json()
    except ValueError:
        body = None
    if isinstance(body, dict):
        message = str(body.get("message", message))
        details = body.get("details")
    status = response.status_code
    if status >= 500:
        return BackendUnreachable(f"the Marathon API answered {request} with {status}: {message}")
    if status == 403 and _TOO_MANY.search(message):
        return TooManyDeployments(message, status, details)
    # Only the body tells a lock from a name that is taken (``marathon-v2`` 0.1).
    holders = body.get("deployments") if isinstance(body, dict) else None
    if status == 409 and isinstance(holders, list):
        ids = [str(holder["id"]) for holder in holders if isinstance(holder, dict) and "id" in holder]
        return Locked(message, status, details, ids)
    kinds = {401: AccessDenied, 403: AccessDenied, 404: NotFound, 409: Conflict}
    return kinds.get(status, RequestRefused)(message, status, details)

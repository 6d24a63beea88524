"""Readiness checks: whether a task that a deployment has started may count in it (``marathon-v2`` 2.5).

Only tasks that a deployment launches are asked, from when they run until they say yes once. A
task that is started again meanwhile is asked again; after the deployment nobody is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from hubfleet.api.app import App, ReadinessCheck
from hubfleet.api.status import ReadinessResponse, ReadinessResult

from ..records import Condition, Instance
from ..state import State
from .background import Spawn
from .history import History
from .probes import any_certificate, cause, place, request_path
from .turns import Turns

LONGEST_RESPONSE = 1 << 20
"""Bytes of a response that are read; a longer one is no answer."""

KEPT_OF_RESPONSE = 8192
"""Characters of its body that ``preserveLastResponse`` keeps; they are stored."""

_GATEWAY_TIMEOUT = 504  # what Marathon notes where there was no response


class Readiness:
    """Asks the tasks that deployments have launched whether they are ready.

    Parameters
    ----------
    state
        What is known; results are kept with the instances.
    history
        Where it is told.
    spawn
        As `background.Background.spawn`.
    turns
        Bounds how many are asked at once.
    changed
        Called with the app id when a task became ready.
    """

    def __init__(
        self, state: State, history: History, spawn: Spawn, turns: Turns, changed: Callable[[str], None]
    ) -> None:
        self._state = state
        self._history = history
        self._spawn = spawn
        self._turns = turns
        self._changed = changed
        self._client = AsyncHTTPClient(
            force_instance=True, max_clients=1_000_000, max_body_size=LONGEST_RESPONSE
        )
        self._askers: dict[str, list[asyncio.Task[None]]] = {}  # by task id

    def expect(self, instance: Instance, app: App) -> None:
        """Note what a task that begins to run has yet to say; to be stored with its being running."""
        launched = self._state.launched_by(instance) is not None
        instance.readiness = [
            ReadinessResult(name=check.name, task_id=instance.task_id, ready=False)
            for check in (app.readiness_checks if launched else ())
        ]

    def begin(self, instance: Instance, app: App) -> None:
        """Ask a running task what it has not said yes to."""
        self.stop(instance)
        waited_for = {result.name for result in instance.readiness if not result.ready}
        checks = [check for check in app.readiness_checks if check.name in waited_for]
        if checks:
            self._askers[instance.task_id] = [
                self._spawn(self._ask_until_ready(instance, check, _port(instance, app, check)))
                for check in checks
            ]

    def stop(self, instance: Instance) -> None:
        """Ask a task no more."""
        for asker in self._askers.pop(instance.task_id, ()):
            asker.cancel()

    def review(self, app_id: str) -> None:
        """Expect nothing more of the tasks whose deployment is over: it was done, or cancelled."""
        for instance in self._state.instances_of(app_id):
            if instance.readiness and self._state.launched_by(instance) is None:
                self.stop(instance)
                instance.readiness = []
                self._state.put_instance(instance)

    async def _ask_until_ready(self, instance: Instance, check: ReadinessCheck, port: int) -> None:
        asked_before = False
        while True:
            async with self._turns.one(instance.app_id):
                answer = await ask(self._client, check, instance.host, port)
            if instance.condition is not Condition.RUNNING:
                return
            status = answer.said.status
            ready = not answer.failed and status in check.http_status_codes_for_ready
            self._take(instance, check, ready, answer)
            if ready:
                self._history.note(instance, f"Ready: {check.name} answered {status}")
                self._changed(instance.app_id)
                return
            if not asked_before:
                # Of what it says only the status is told, which holds no secret.
                told = answer.said.body if answer.failed else f"answered {status}"
                self._history.note(instance, f"Not ready yet: {check.name} {told}")
            asked_before = True
            await asyncio.sleep(check.interval_seconds)

    def _take(self, instance: Instance, check: ReadinessCheck, ready: bool, answer: Answer) -> None:
        result = ReadinessResult(name=check.name, task_id=instance.task_id, ready=ready)
        if check.preserve_last_response:
            result.last_response = answer.said
        results = [result if each.name == check.name else each for each in instance.readiness]
        if results != instance.readiness:
            instance.readiness = results
            self._state.put_instance(instance)


@dataclass(frozen=True)
class Answer:
    """What came of asking a task once.

    Parameters
    ----------
    said
        What it answered; where it did not, what Marathon says in its place.
    failed
        Whether it did not answer.
    """

    said: ReadinessResponse
    failed: bool = False


async def ask(client: AsyncHTTPClient, check: ReadinessCheck, host: str, port: int) -> Answer:
    """Ask a task once; redirects are not followed, certificates not verified."""
    url = f"{check.protocol.lower()}://{place(host, port)}{request_path(check.path)}"
    try:
        response = await client.fetch(
            url,
            raise_error=False,
            follow_redirects=False,
            decompress_response=False,
            connect_timeout=check.timeout_seconds,
            request_timeout=check.timeout_seconds,
            ssl_options=any_certificate(),
            user_agent="hubfleet",
        )
    except HTTPClientError as error:
        reason = error.message if error.code == 599 else str(error)
    except Exception as error:
        # Whatever ended the connection for tornado, which is the task's to choose: headers without an end.
        reason = cause(error)
    else:
        content_type = response.headers.get("Content-Type", "").partition(";")[0].strip()
        return _answer(response.code, content_type, response.body.decode("utf-8", errors="replace"))
    return _answer(_GATEWAY_TIMEOUT, "text/plain", f"could not query {url}: {reason}", failed=True)


def _answer(status: int, content_type: str, body: str, failed: bool = False) -> Answer:
    said = ReadinessResponse(status=status, content_type=content_type, body=body[:KEPT_OF_RESPONSE])
    return Answer(said, failed)


def _port(instance: Instance, app: App, check: ReadinessCheck) -> int:
    """Return the port that a check names; the definition was accepted with a port of that name."""
    mappings = app.container.port_mappings if app.container is not None else None
    names = [port.name for port in (mappings if mappings is not None else app.port_definitions or [])]
    return instance.ports[names.index(check.port_name)]

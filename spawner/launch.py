"""One start of one server: from its app's submission to its first answer, or to the reason why not."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Coroutine, Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

from hubfleet.api.errors import BackendError
from hubfleet.api.status import FAILED_STATES, AppStatus, Event, QueueItem, Task
from hubfleet.api.watcher import StateUnknown
from hubfleet.api.wire import parse_timestamp

from . import progress
from .diagnosis import is_for_good, last_lines, unreachable_hub
from .errors import StartRefused, closed
from .listeners import stranger_at
from .probe import pause_after, status_of
from .submission import Submission

log = logging.getLogger("hubfleet.spawner.launch")

Result = TypeVar("Result")

_SIGHT_OF_NEW_APP_SECONDS = 2.0
_FIRST_EXPLANATION_SECONDS, _NEXT_EXPLANATION_SECONDS = 1.0, 2.0
_OUTPUT_PATIENCE_SECONDS = 2.0


class Launch:
    """The submission of an app and the wait for its server.

    Parameters
    ----------
    submission
        The app's, which is not sent yet.
    api_path
        Path of the server that answers without a login.
    tls
        How the hub shows itself to the server, and recognises it; None for a server without TLS.
    most_failures
        After so many ends of its process the start has failed.
    secrets
        What must not be shown of the server's output.
    patience
        How long the start was given in all, as it is told to the user. Seconds.
    """

    def __init__(
        self,
        submission: Submission,
        *,
        api_path: str,
        tls: ssl.SSLContext | None = None,
        most_failures: int = 3,
        secrets: Iterable[str] = (),
        patience: float = 60.0,
    ) -> None:
        self.link, self.app, self.told = submission.link, submission.app, submission.told
        self.api_path = api_path
        self.tls = tls
        self.most_failures = most_failures
        self.secrets = tuple(secrets)
        self.patience = patience
        self.failures = 0
        self.task_id: str | None = None
        """The task that was seen last; after `run` the one that serves."""
        self._submission = submission

    async def run(self, timeout: float) -> str:
        """Return the server's address, such as ``http://10.0.0.4:31007``.

        Raises
        ------
        StartRefused
            It failed, or `timeout` seconds have passed; with what was last known.
        """
        try:
            async with asyncio.timeout(timeout):
                # The events are followed before the app is submitted, so that none is missed.
                return await first_of(
                    self._follow_events(), self._explain_waiting(), self._explain_silence(), self._reach()
                )
        except TimeoutError:
            raise await self._too_late(timeout) from None

    async def settled(self) -> bool:
        """Return whether there may be an app of this launch, once no submission is on its way."""
        return await self._submission.settled()

    # -- the way to the first answer --------------------------------------------------

    async def _reach(self) -> str:
        self.told.add(progress.SUBMITTED, "Handing the server over to the backend")
        await self._submission.send()
        self._expect("it waits for a place")
        self.told.add(progress.SUBMITTED, f"Accepted by the backend as {self.app.id}")
        try:
            await self.link.watcher.wait_for(
                self.app.id, lambda status: status is not None, _SIGHT_OF_NEW_APP_SECONDS
            )
        except TimeoutError:
            log.debug("%s is not in sight yet", self.app.id)
        while True:
            task = await self._running_task()
            self.task_id = task.id
            address = url_of("https" if self.tls else "http", task.host, task.ports[0])
            place = urlsplit(address).netloc
            self._expect(f"its process runs at {place}, but no server answers there")
            self.told.add(progress.STARTED, f"Started at {place}; waiting for its first answer")
            if await first_of(self._probe(address), self._leave(task)):
                stranger = await stranger_at(task.host, task.ports[0], self.app)
                if stranger is None:
                    self.told.add(
                        progress.ANSWERS, f"The server answers, after {self.told.seconds:.1f} seconds"
                    )
                    return address
                await self._do_without(task, place, stranger)
            self._expect("its process ended and waits to be started again")

    def _expect(self, outlook: str) -> None:
        self._submission.outlook = outlook

    async def _running_task(self) -> Task:
        """Wait until a task of this definition runs."""
        while True:
            status = await self.link.watcher.wait_for(
                self.app.id, lambda status: status is None or self._current(status) is not None
            )
            if status is not None:
                task = self._current(status)
                assert task is not None
                return task
            await self._check_existence()
            await asyncio.sleep(0.2)

    async def _check_existence(self) -> None:
        """Raise if the app, which the watcher does not know, is truly gone and not merely too new."""
        try:
            known = await self._submission.look_up() is not None
        except BackendError as error:
            log.debug("cannot ask for %s: %s", self.app.id, error)
            return
        if not known:
            self._submission.may_exist = False
            raise StartRefused(
                f"The server's app {self.app.id} was removed from the backend while it started. "
                "Start it again.",
                reason="removed",
                status_code=500,
            )

    def _current(self, status: AppStatus) -> Task | None:
        return newest_running(status, self._submission.since)

    async def _probe(self, address: str) -> bool:
        """Return when the server answers anything but an error of its own."""
        clock = asyncio.get_running_loop().time
        since = clock()
        while True:
            try:
                if await status_of(address + self.api_path, self.tls) < 500:
                    return True
            except OSError as error:
                log.debug("%s does not answer yet: %s", address, type(error).__name__)
            await asyncio.sleep(pause_after(clock() - since))

    async def _do_without(self, task: Task, place: str, stranger: str) -> None:
        """Wait for the end of a server whose port somebody else has: it cannot listen there."""
        log.warning("a process of %s answers at %s, which is the port of %s", stranger, place, self.app.id)
        taken = f"a process of another account has taken its port, {place}"
        self._expect(taken)
        self.told.add(progress.STARTED, f"{taken[0].upper()}{taken[1:]}; waiting for the server's next one")
        await self.link.watcher.wait_for(
            self.app.id,
            lambda status: status is None or not any(t.id == task.id and t.running for t in status.tasks),
        )

    async def _leave(self, task: Task) -> bool:
        """Return True when the backend's own check finds the server alive, False when the task is no more."""
        alive = False

        def decided(status: AppStatus | None) -> bool:
            nonlocal alive
            found = None if status is None else next((t for t in status.tasks if t.id == task.id), None)
            if found is None or not found.running or found.ports != task.ports:
                return True
            alive = any(result.alive for result in found.health_check_results)
            return alive

        await self.link.watcher.wait_for(self.app.id, decided)
        return alive

    # -- what happens meanwhile -------------------------------------------------------

    async def _follow_events(self) -> str:
        updates = self.link.watcher.events(self.app.id, "status_update_event")
        async with aclosing(updates) as events:  # type: ignore[type-var]
            async for event in events:
                # It may have overtaken the answer, which says what is of this launch.
                await self._submission.agreed.wait()
                if self._is_of_this_launch(event):
                    await self._note(event)
        raise AssertionError("the events of an app have no end")

    def _is_of_this_launch(self, event: Event) -> bool:
        since, version = self._submission.since, event["version"]
        return since is not None and (not version or parse_timestamp(version) >= since)

    async def _note(self, event: Event) -> None:
        state = event["taskStatus"]
        if state in {"TASK_STAGING", "TASK_STARTING"}:
            self._expect("it is being prepared")
            self.task_id = event["taskId"]  # what fetches for it writes to its output already
            place = f" on {event['host']}" if event["host"] else ""
            self.told.add(progress.PREPARED, f"Being prepared{place}")
        elif state in FAILED_STATES:
            self.failures += 1
            self.task_id = event["taskId"]
            message = str(event["message"] or "")
            if self.failures >= self.most_failures or is_for_good(state, message):
                raise await self._failure(message)
            output = await self._output()
            if hub_url := unreachable_hub(output, ended=True):
                raise no_way_to_hub(hub_url, last_lines(output, self.secrets))
            self._expect(f"its process ended ({message})")
            self.told.add(
                progress.PREPARED, progress.ended_sentence(message, self.failures, self.most_failures)
            )

    async def _explain_waiting(self) -> str:
        """Tell why the app waits, as long as it has no task."""
        await asyncio.sleep(_FIRST_EXPLANATION_SECONDS)
        while True:
            try:
                status = self.link.watcher.lookup(self.app.id)
                if status is not None and not status.tasks:
                    item = await self.link.queue_item(self.app.id)
                    if item is not None and not self._is_of_a_former_one(item):
                        sentence = progress.waiting_sentence(item)
                        if item.hopeless:
                            raise StartRefused(
                                f"No place of the backend could ever take this server. {closed(sentence)}",
                                reason="no-place",
                            )
                        self._expect(sentence[0].lower() + sentence[1:])
                        self.told.add(progress.WAITING, sentence)
            except StateUnknown:
                self.told.add(progress.WAITING, "The backend cannot be followed now; looking again")
            except BackendError as error:
                log.debug("cannot ask why %s waits: %s", self.app.id, error)
            await asyncio.sleep(_NEXT_EXPLANATION_SECONDS)

    def _is_of_a_former_one(self, item: QueueItem) -> bool:
        """Whether an answer, which many share for a moment, was given to a start before this one."""
        since, version = self._submission.since, item.app and item.app.version
        return bool(since and version and version < since)

    async def _explain_silence(self) -> str:
        """Tell if a server that runs and does not answer says that it cannot reach the hub.

        It would ask five times before it ends, which takes most of a minute.
        """
        while True:
            await asyncio.sleep(_NEXT_EXPLANATION_SECONDS)
            if self.task_id is None:
                continue
            if hub_url := unreachable_hub(await self._output()):
                self._expect(f"it runs, but cannot reach the hub's API at {hub_url}")
                self.told.add(
                    progress.STARTED,
                    f"The server runs, but cannot reach the hub's API at {hub_url}; it goes on trying",
                )

    # -- failure ----------------------------------------------------------------------

    async def _output(self, patience: float = _OUTPUT_PATIENCE_SECONDS) -> str:
        """Return the last lines on stderr of the task that was seen last; nothing if they cannot be had."""
        if self.task_id is None:
            return ""
        try:
            async with asyncio.timeout(patience):
                return await self.link.client.task_output(self.task_id, "stderr", tail=100)
        except (BackendError, TimeoutError) as error:
            log.debug("cannot read what %s wrote: %s", self.task_id, error)
            return ""

    async def _failure(self, message: str) -> StartRefused:
        output = await self._output()
        if hub_url := unreachable_hub(output, ended=True):
            return no_way_to_hub(hub_url, last_lines(output, self.secrets))
        try:
            status = await self._submission.look_up()
            last = status.last_task_failure if status else None
            message = (last and last.message) or message
            output = output or (last and last.stderr) or ""
        except BackendError as error:
            log.debug("cannot ask for the failure of %s: %s", self.app.id, error)
        times = "once" if self.failures == 1 else f"{self.failures} times"
        return StartRefused(
            f"Your server's process ended {times} while it started. "
            f"The backend says: {closed(message or 'it ended without a message')}",
            reason="crashed",
            status_code=500,
            output=last_lines(output, self.secrets),
        )

    async def _too_late(self, timeout: float) -> StartRefused:
        output = await self._output(min(_OUTPUT_PATIENCE_SECONDS, 0.05 * timeout))
        lines = last_lines(output, self.secrets)
        if hub_url := unreachable_hub(output):
            return no_way_to_hub(hub_url, lines)
        return StartRefused(
            f"Your server did not start within {self.patience:.0f} seconds: {self._submission.outlook}. "
            "Try again later; an administrator can raise c.Spawner.start_timeout.",
            reason="start-timeout",
            status_code=504,
            output=lines,
        )


def no_way_to_hub(hub_url: str, output: str) -> StartRefused:
    """Return the failure of a server that cannot reach the hub's API."""
    return StartRefused(
        f"Your server was started, but it cannot reach the hub's API at {hub_url}. An administrator has "
        "to set c.JupyterHub.hub_connect_url (or c.Spawner.hub_connect_url) to an address of the hub "
        "that can be reached from where the servers run, and c.JupyterHub.hub_bind_url to one that listens "
        "there.",
        reason="hub-unreachable",
        status_code=500,
        output=output,
    )


def newest_running(status: AppStatus, since: datetime | None = None) -> Task | None:
    """Return the running task of an app that started last, of those not older than a version."""
    running = [
        task
        for task in status.tasks
        if task.running
        and task.host
        and task.ports
        and (not since or not task.version or task.version >= since)
    ]
    return max(running, key=lambda task: task.started_at or datetime.min.replace(tzinfo=UTC), default=None)


def url_of(scheme: str, host: str, port: int) -> str:
    """Return the URL of a host and port; an IPv6 address gets its brackets."""
    bare = host.strip("[]")
    url = f"{scheme}://[{bare}]:{port}" if ":" in bare else f"{scheme}://{bare}:{port}"
    assert urlsplit(url).port == port
    return url


async def first_of(*steps: Coroutine[Any, Any, Result]) -> Result:
    """Run all, return or raise what the first to end does, and end the others."""
    tasks = [asyncio.create_task(step) for step in steps]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return next(task for task in tasks if task.done()).result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

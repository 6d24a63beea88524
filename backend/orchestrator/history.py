"""What happens to tasks, in sentences that a person can read, kept over restarts and past the end."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from hubfleet.api.app import Fetch
from hubfleet.api.status import EndedTask, HistoryEvent
from hubfleet.api.wire import now

from ..archive import Archive
from ..records import Backoff, Condition, Instance
from . import backoff
from .ends import TaskEnd


class History:
    """Writes down what happens, as it happens.

    Parameters
    ----------
    archive
        Where it is kept, and how much of it.
    """

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def note(self, instance: Instance, sentence: str) -> None:
        """Tell something of the present task of an instance."""
        self._archive.add(
            HistoryEvent(timestamp=now(), app_id=instance.app_id, task_id=instance.task_id, message=sentence)
        )

    def waits(self, app_id: str, reason: str) -> None:
        """Tell why an app waits, unless it was the last that was told: after a restart of the backend."""
        sentence = reason[0].upper() + reason[1:] if reason.startswith("waiting") else f"Waiting: {reason}"
        if self._archive.last_message(app_id) != sentence:
            self._archive.add(HistoryEvent(timestamp=now(), app_id=app_id, message=sentence))

    def placed(self, instance: Instance) -> None:
        """Tell where a task is to run."""
        ports = ", ".join(map(str, instance.ports))
        self.note(instance, f"Placed on {instance.host}" + (f" with the ports {ports}" if ports else ""))

    def fetching(self, instance: Instance, files: Sequence[Fetch], resumed: bool) -> None:
        """Tell what is fetched for a task; `resumed`: a former life of the backend had begun with it."""
        uris = without_secrets([each.uri for each in files])
        self.note(instance, f"Still fetching {uris}" if resumed else f"Fetching {uris}")

    def stuck(self, instance: Instance, kills: int) -> str:
        """Tell that a task does not end, and return what was told."""
        sentence = f"Still there after {kills} kills; it is killed again, every two minutes"
        self.note(instance, sentence)
        return sentence

    def ended(self, instance: Instance, message: str, end: TaskEnd) -> None:
        """Tell how a task ended, and remember it as one whose output may be read."""
        self.note(instance, end_sentence(instance, message, end))
        self._archive.end(
            EndedTask(
                id=instance.task_id,
                app_id=instance.app_id,
                state=f"TASK_{instance.condition.name}",
                message=message,
                timestamp=now(),
            )
        )

    def killing(self, instance: Instance) -> None:
        """Tell that a task is being ended, and why."""
        self.note(instance, f"Ending: {_kill_reason(instance) or 'it is not wanted any more'}")

    def restarting(self, instance: Instance, held: Backoff | None, message: str) -> None:
        """Tell when the next task of an instance is started, and why there is one."""
        launch_at = backoff.launch_at(held)
        seconds = 0.0 if launch_at is None else (launch_at - now()).total_seconds()
        when = f"in {seconds:.1f} s" if seconds > 0 else "at once"
        self.note(instance, f"Restarting {when}: {message}")


def _kill_reason(instance: Instance) -> str:
    return (instance.kill_reason or "").removeprefix("Task was killed since ")


def end_sentence(instance: Instance, message: str, end: TaskEnd) -> str:
    """Return how a task ended, for a person."""
    if instance.condition is Condition.ERROR:
        return f"Not started: {message}"
    if instance.condition is Condition.KILLED:
        reason = _kill_reason(instance)
        return f"Killed: {reason}" if reason else "Killed"
    if end.failure is not None or end.exit.reason is not None:
        return f"Failed: {message}"
    if end.exit.exit_code is not None:
        return f"Terminated: exit code {end.exit.exit_code}"
    if end.exit.signal is not None:
        return f"Terminated: signal {signal.strsignal(end.exit.signal) or end.exit.signal}"
    return "Terminated: nobody could see how"


def without_secrets(uris: Sequence[str]) -> str:
    """Return addresses as they may be told to all who see the app: without passwords and queries."""
    return ", ".join(map(_public, uris))


def _public(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    place, slash, path = rest.partition("/")
    return scheme + separator + place.rpartition("@")[2] + slash + path.partition("?")[0].partition("#")[0]

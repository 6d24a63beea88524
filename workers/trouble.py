"""Says each trouble once, however often it is met, until it is over; and why a task has ended badly."""

from __future__ import annotations

from collections.abc import Callable

from hubfleet.api.status import TaskFailure


class Trouble:
    """Troubles of several kinds, each of which is said once per streak.

    Parameters
    ----------
    tell
        Takes the sentence.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._said: dict[str, str] = {}

    def say(self, kind: str, sentence: str) -> None:
        """Tell a sentence, unless this kind of trouble has been told and is not over."""
        if kind not in self._said:
            self._said[kind] = sentence
            self._tell(sentence)

    def say_new(self, kind: str, sentence: str) -> None:
        """Tell a sentence, unless it was the last one of its kind."""
        if self._said.get(kind) != sentence:
            self._said[kind] = sentence
            self._tell(sentence)

    def over(self, kind: str) -> None:
        """Take note that a trouble is over; the next one is told again."""
        self._said.pop(kind, None)


def why(failure: TaskFailure) -> str:
    """Return why a task has ended: the backend's words, and the last that the task wrote."""
    lines = [line.strip() for line in (failure.stderr or "").splitlines() if line.strip()]
    return ": ".join([failure.message, *lines[-1:]])


def replaced(failure: TaskFailure) -> str:
    """Return what the user is told of a worker that has ended badly."""
    return f"a worker ended badly and is replaced: {why(failure)}"

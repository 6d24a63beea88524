"""What workers that were waited for in vain are waiting for themselves, as a sentence. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from distributed.exceptions import WorkerStartTimeoutError

from .states import GroupState


class WorkersMissing(WorkerStartTimeoutError):
    """Fewer workers than were waited for came in time; distributed's own error, and the reason.

    Parameters
    ----------
    available, expected, timeout
        As in `distributed.exceptions.WorkerStartTimeoutError`.
    reason
        What is known of those who did not come; may be empty.
    """

    def __init__(self, available: int, expected: int, timeout: float, reason: str) -> None:
        super().__init__(available, expected, timeout)
        self.reason = reason
        self.args = (available, expected, timeout, reason)  # with which it is unpickled

    def __str__(self) -> str:
        return ": ".join(filter(None, (super().__str__(), self.reason)))


def what_is_missing(expected: int, groups: Mapping[str, GroupState]) -> str:
    """Return why a cluster has not as many workers as somebody expects; empty where nothing is known.

    Parameters
    ----------
    expected
        How many workers there should be in all.
    groups
        How the groups of workers stand, by name.
    """
    states = groups.values()
    wanted = sum(len(state.workers) for state in states)
    starting = sum(max(0, len(state.workers) - state.waiting - state.present) for state in states)
    said = []
    if wanted < expected and not any(state.limit for state in states):
        said.append(
            f"the cluster is to have {wanted} at present, and more after scale({expected}) or "
            f"adapt(minimum={expected})"
        )
    if starting:
        said.append(f"{starting} starting")
    for label, state in groups.items():
        if state.hint:
            said.append(state.hint if len(groups) == 1 else f"group {label}: {state.hint}")
    return "; ".join(said)

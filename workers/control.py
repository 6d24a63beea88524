"""How a cluster is scaled from another process: by words to its scheduler, which take and give plain values.

Whoever may talk to the scheduler may use them: with encryption, who has the cluster's certificate.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from distributed.protocol import pickle

from hubfleet.api import errors

from .states import GroupState

PREFIX = "hubfleet_"
"""Of the names of our operations among the scheduler's own."""

_REFUSAL = "hubfleet-refusal"
_PASSED_ON = (errors.HubfleetError, TypeError, ValueError, RuntimeError)


class Controlled(Protocol):
    """A cluster that can be scaled from afar."""

    def group_states(self) -> dict[str, GroupState]:
        """Return how the groups of workers stand."""

    async def scale_group(self, label: str, n: int | None, cores: Any, memory: Any) -> None:
        """Have so many workers in a group."""

    def adapt_group(self, label: str, options: dict[str, Any]) -> Any:
        """Let a group follow the load."""

    async def make_group(self, label: str, n: int, options: dict[str, Any]) -> None:
        """Add a group of workers."""

    async def end(self) -> None:
        """End the cluster."""


def install(scheduler: Any, cluster: Controlled) -> None:
    """Make a scheduler take our words for a cluster."""

    async def state() -> dict[str, Any]:
        return {label: group.to_message() for label, group in cluster.group_states().items()}

    async def scale(label: str, n: int | None, cores: Any, memory: Any) -> dict[str, Any]:
        await cluster.scale_group(label, n, cores, memory)
        return await state()

    async def adapt(label: str, options: dict[str, Any], worker_key: bytes | None = None) -> dict[str, Any]:
        if worker_key is not None:
            options = {**options, "worker_key": pickle.loads(worker_key)}
        cluster.adapt_group(label, options)
        return await state()

    async def add_group(label: str, n: int, options: dict[str, Any]) -> dict[str, Any]:
        await cluster.make_group(label, n, options)
        return await state()

    for word in (state, scale, adapt, add_group):
        scheduler.handlers[PREFIX + word.__name__] = _answering(word)


async def call(scheduler_comm: Any, word: str, **arguments: Any) -> dict[str, GroupState]:
    """Say one of our words to a scheduler elsewhere, and return how its groups stand then.

    Raises
    ------
    hubfleet.api.errors.HubfleetError, TypeError, ValueError, RuntimeError
        It was refused there; as it would have been here.
    OSError
        The scheduler cannot be reached.
    """
    answer = await getattr(scheduler_comm, PREFIX + word)(**arguments)
    if refusal := answer.get(_REFUSAL):
        raise _error(**refusal)
    return {label: GroupState.from_message(message) for label, message in answer.items()}


def _answering(word: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Have a refusal be an answer: the scheduler would log what is raised as a failure of its own."""

    @functools.wraps(word)
    async def answered(**arguments: Any) -> Any:
        try:
            return await word(**arguments)
        except _PASSED_ON as error:
            status = getattr(error, "status", None)
            return {_REFUSAL: {"kind": type(error).__name__, "sentence": str(error), "status": status}}

    return answered


def _error(kind: str, sentence: str, status: int | None) -> Exception:
    known = getattr(errors, kind, None) or getattr(builtins, kind, None)
    if isinstance(known, type) and issubclass(known, errors.RequestRefused):
        return known(sentence, 0 if status is None else status)
    if isinstance(known, type) and issubclass(known, _PASSED_ON):
        return known(sentence)
    return RuntimeError(sentence)

"""What the parts of a cluster have written: those that live, and those that have ended.

distributed asks the workers that are there. One that could not start, or that was killed, answers
nothing, and is the one whose words are wanted; the backend keeps what its tasks wrote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from distributed.utils import Log

from hubfleet.api.client import Client
from hubfleet.api.errors import BackendError, RequestRefused

_LINES = 10_000
_ANSWER_SECONDS = 10.0  # for the workers' own words; one that computes without pause gives none


async def of_scheduler(scheduler: Any) -> Log:
    """Return what a scheduler says of itself, or that it says nothing."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return _log(await scheduler.get_logs())
    except (OSError, TimeoutError) as error:
        return Log(f"(the scheduler does not answer: {error or f'not within {_ANSWER_SECONDS:g} s'})")


async def of_workers(scheduler: Any, addresses: Collection[str]) -> dict[str, Log]:
    """Return what workers that live say of themselves, by address; those are left out that say nothing."""

    async def of_worker(address: str) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                found: Mapping[str, Any] = await scheduler.broadcast(
                    msg={"op": "get_logs", "n": None}, workers=[address], on_error="ignore"
                )
                return found
        except (OSError, TimeoutError):
            return {}  # it, or the scheduler, has just ended, or is too busy

    # Each by itself, so that one that leaves or computes without a pause takes no other's words along.
    answers = await asyncio.gather(*(of_worker(address) for address in addresses))
    return {
        address: _log(lines)
        for answer in answers
        for address, lines in answer.items()
        if isinstance(lines, Iterable)
    }


def _log(lines: Iterable[Any]) -> Log:
    return Log("\n".join(line for _, line in lines))


async def of_tasks(marathon: Client, task_ids: Collection[str]) -> dict[str, Log]:
    """Return what tasks have written, by id; those are left out of which the backend knows nothing."""
    outputs = await asyncio.gather(*(_of_task(marathon, task_id) for task_id in task_ids))
    return {task_id: Log(text) for task_id, text in zip(task_ids, outputs, strict=True) if text is not None}


async def of_ended(marathon: Client, app_id: str) -> dict[str, Log]:
    """Return what the ended tasks of an app had written, and how they ended, by id.

    Empty on a Marathon, which does not tell.
    """
    try:
        history = await marathon.app_history(app_id)
    except RequestRefused:
        return {}
    written = await of_tasks(marathon, [task.id for task in history.ended_tasks])
    return {
        task.id: Log(f"{written.get(task.id, '')}\n({task.state}: {task.message})".lstrip("\n"))
        for task in history.ended_tasks
    }


async def _of_task(marathon: Client, task_id: str) -> str | None:
    parts = []
    for name in ("stderr", "stdout"):
        try:
            parts.append(await marathon.task_output(task_id, name, tail=_LINES))
        except BackendError:
            continue
    return "\n".join(part.rstrip("\n") for part in parts if part) if parts else None


def selected(known: Mapping[str, str], workers: Any) -> tuple[list[str], list[str]]:
    """Return addresses and task ids of the workers that were asked for.

    Parameters
    ----------
    known
        Workers that live: address to name.
    workers
        True for all of them, or addresses and names.
    """
    if workers is True:
        return list(known), list(known.values())
    asked = {str(worker) for worker in ([workers] if isinstance(workers, str) else workers)}
    chosen = {address: name for address, name in known.items() if address in asked or name in asked}
    others = asked - set(chosen) - set(chosen.values())
    return list(chosen), [*chosen.values(), *sorted(others)]

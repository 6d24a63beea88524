"""How workers leave without a loss: the conversation with the scheduler before anybody is killed.

A retired worker keeps its registration and takes nothing new. Its results go to others,
what waits on it goes back to the scheduler, what runs on it may end. Only then is it safe
to kill. A worker whose results have no other place is not retired, and says so by staying.

A task of the backend may hold several workers, which come and go together.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distributed.core import Status
from distributed.protocol import pickle

from . import drain as worker_side
from .counting import task_of

log = logging.getLogger("hubfleet.workers")

_LOOK_SECONDS = 0.1
_MOVE_SECONDS = 60.0  # at least this long may results take to move
_RETIRED = Status.closing_gracefully.name
_ANSWER_SECONDS = 10.0  # for a word to workers; one that is lost must not hold up the others


@dataclass(frozen=True)
class Drained:
    """What came of a retirement.

    Parameters
    ----------
    tasks
        Whose workers are empty, or are to go although they are busy.
    busy
        Addresses of workers among them on which something runs still.
    """

    tasks: Sequence[str] = ()
    busy: Collection[str] = ()


async def addresses_by_task(scheduler: Any, nworkers: int) -> dict[str, list[str]]:
    """Return the workers that the scheduler knows: task to addresses."""
    identity = await scheduler.identity()
    found: dict[str, list[str]] = {}
    for address, worker in identity["workers"].items():
        found.setdefault(task_of(str(worker["name"]), nworkers), []).append(address)
    return found


async def cheapest_first(scheduler: Any, among: Collection[str], nworkers: int) -> list[str]:
    """Return tasks, those first whose leaving costs least.

    Idle ones with few bytes come first. Those that the scheduler would never name, because
    a task on them waits for tasks of its own, come last.
    """
    ranking = await scheduler.workers_to_close(target=0, attribute="name")
    # Of several workers in one task the one that costs most counts.
    last = {task_of(str(name), nworkers): position for position, name in enumerate(ranking)}
    named = sorted((task for task in last if task in among), key=lambda task: last[task])
    return [*named, *sorted(set(among) - set(named))]


async def drain(
    scheduler: Any,
    tasks: Sequence[str],
    known: Mapping[str, Sequence[str]],
    *,
    seconds: float,
    force: bool,
) -> Drained:
    """Empty workers so that they may be killed, and return those that may.

    Parameters
    ----------
    scheduler
        The ``distributed.rpc`` of the scheduler.
    tasks
        Whose workers shall leave, cheapest first.
    known
        All workers that the scheduler knows, task to addresses.
    seconds
        How long running tasks may take to end.
    force
        What happens with a worker that is still busy then: it is to go all the same (see
        `dismiss`), or else it stays and works on.

    Returns
    -------
    Drained
        All others take tasks again.
    """
    wanted = [task for task in tasks if task in known]
    addresses = {address for task in wanted for address in known[task]}
    # If all leave, the one that holds most comes last, when it has what the others had: together
    # none would be a recipient for any other, and all would stay.
    parts = [wanted[:-1], wanted[-1:]] if set(wanted) >= set(known) else [wanted]
    retired: set[str] = set()
    busy: set[str] = set()
    try:
        for part in parts:
            empty, working = await _empty(scheduler, [a for task in part for a in known[task]], seconds)
            retired |= empty
            busy |= working
    except BaseException:
        await asyncio.shield(resume(scheduler, addresses))
        raise
    leaving = [
        task for task in wanted if retired.issuperset(known[task]) and (force or not busy & set(known[task]))
    ]
    gone = {address for task in leaving for address in known[task]}
    await resume(scheduler, addresses - gone)
    return Drained(leaving, gone & busy)


async def dismiss(scheduler: Any, addresses: Collection[str]) -> None:
    """Have the tasks of busy workers start anew elsewhere, without blame; to be called once they are killed.

    Not before: a worker that the scheduler does not know ends by itself, and the backend would
    start another one in its place.
    """
    try:
        for address in addresses:
            await scheduler.unregister(
                address=address, expected=True, close=False, stimulus_id="hubfleet-scale-down"
            )
    except OSError as error:
        log.warning("the scheduler cannot be reached: %s", error)


async def resume(scheduler: Any, addresses: Iterable[str]) -> None:
    """Let retired workers take tasks again.

    The scheduler tells a worker over another connection that it retires. Where that word comes
    after ours, the worker is told again: else it would stay, and do nothing for ever.
    """
    retired = set(addresses)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _ANSWER_SECONDS
    try:
        while retired:
            await _tell(scheduler, worker_side.resume, retired)
            await asyncio.sleep(_LOOK_SECONDS)
            workers = (await scheduler.identity())["workers"]
            retired = {a for a in retired if a in workers and workers[a]["status"] == _RETIRED}
            if retired and loop.time() > deadline:
                log.warning("%d workers that were to take tasks again do not", len(retired))
                return
    except OSError as error:
        log.warning("the scheduler cannot be reached: %s", error)


async def _empty(scheduler: Any, addresses: Sequence[str], seconds: float) -> tuple[set[str], set[str]]:
    """Empty workers; return those that are retired, and those of them that are busy still."""
    retired = await _retire(scheduler, addresses, seconds)
    busy = await _until_idle(scheduler, retired, seconds)
    # What has ended meanwhile left its result behind; a second call moves it.
    return await _retire(scheduler, retired, seconds), busy


async def _retire(scheduler: Any, addresses: Collection[str], seconds: float) -> set[str]:
    """Retire workers and return those that are."""
    if not addresses:
        return set()
    try:
        async with asyncio.timeout(max(seconds, _MOVE_SECONDS)):
            return set(
                await scheduler.retire_workers(workers=list(addresses), close_workers=False, remove=False)
            )
    except TimeoutError:
        log.warning("%d workers stay: their results could not be moved in time", len(addresses))
        return set()


async def _until_idle(scheduler: Any, addresses: Iterable[str], seconds: float) -> set[str]:
    """Wait until workers have nothing more to do, and return those that still have at the end."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    watched = set(addresses)
    while True:
        processing = await _processing(scheduler, watched)
        busy = {address for address in watched if processing.get(address)}
        if not busy or loop.time() >= deadline:
            return busy
        # Each time round: a task that was on its way at the first time is there now.
        await _tell(scheduler, worker_side.give_back, busy)
        await asyncio.sleep(_LOOK_SECONDS)


async def _processing(scheduler: Any, addresses: Collection[str]) -> Mapping[str, Sequence[Any]]:
    try:
        found: Mapping[str, Sequence[Any]] = await scheduler.processing(workers=list(addresses))
    except KeyError:
        found = await scheduler.processing()  # one of them has gone by itself
    return found


async def _tell(scheduler: Any, what: Callable[..., None], addresses: Iterable[str]) -> None:
    """Call a function in workers; one that cannot be reached is not worth a failure here."""
    listeners = list(addresses)
    if not listeners:
        return
    message = {"op": "run", "function": pickle.dumps(what), "wait": True}
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            await scheduler.broadcast(msg=message, workers=listeners, on_error="ignore")
    except TimeoutError:
        log.warning("not all of %d workers answered within %.0f s", len(listeners), _ANSWER_SECONDS)
    except OSError as error:
        log.warning("the scheduler cannot be reached: %s", error)

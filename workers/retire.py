"""How workers leave without a loss: the conversation with the scheduler before anybody is killed.

A retired worker keeps its registration and takes nothing new. Its results go to others,
what waits on it goes back to the scheduler, what runs on it may end. Only then is it safe
to kill. A worker whose results have no other place is not retired, and says so by staying.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from distributed.protocol import pickle

from . import drain as worker_side

log = logging.getLogger("hubfleet.workers")

_LOOK_SECONDS = 0.1
_MOVE_SECONDS = 60.0  # at least this long may results take to move
_ANSWER_SECONDS = 10.0  # for a word to workers; one that is lost must not hold up the others


async def addresses_by_name(scheduler: Any) -> dict[str, str]:
    """Return the workers that the scheduler knows: name to address."""
    identity = await scheduler.identity()
    return {str(worker["name"]): address for address, worker in identity["workers"].items()}


async def cheapest_first(scheduler: Any, among: Collection[str]) -> list[str]:
    """Return worker names, those first whose leaving costs least.

    Idle ones with few bytes come first. Those that the scheduler would never name, because
    a task on them waits for tasks of its own, come last.
    """
    ranking = await scheduler.workers_to_close(target=0, attribute="name")
    named = [str(name) for name in ranking if str(name) in among]
    return [*named, *sorted(set(among) - set(named))]


async def drain(
    scheduler: Any, names: Sequence[str], known: Mapping[str, str], *, seconds: float, force: bool
) -> list[str]:
    """Empty workers so that they may be killed, and return the names of those that may.

    Parameters
    ----------
    scheduler
        The ``distributed.rpc`` of the scheduler.
    names
        The workers that shall leave, cheapest first.
    known
        All workers that the scheduler knows, name to address.
    seconds
        How long running tasks may take to end.
    force
        What happens with a worker that is still busy then: its tasks start anew elsewhere,
        without blame; or else it stays and works on.

    Returns
    -------
    list of str
        The workers that are empty. All others take tasks again.
    """
    wanted = [name for name in names if name in known]
    addresses = {known[name] for name in wanted}
    # If all leave, the one that holds most comes last, when it has what the others had: together
    # none would be a recipient for any other, and all would stay.
    parts = [wanted[:-1], wanted[-1:]] if set(wanted) >= set(known) else [wanted]
    empty: dict[str, str] = {}
    try:
        for part in parts:
            empty |= await _empty(scheduler, part, seconds, force)
    except BaseException:
        await asyncio.shield(resume(scheduler, addresses))
        raise
    await resume(scheduler, addresses - set(empty.values()))
    return [name for name in wanted if name in empty]


async def _empty(scheduler: Any, names: Sequence[str], seconds: float, force: bool) -> dict[str, str]:
    """Empty workers and return those that are: name to address."""
    retired = await _retire(scheduler, names, seconds)
    busy = await _until_idle(scheduler, retired.values(), seconds)
    # What has ended meanwhile left its result behind; a second call moves it.
    empty = await _retire(scheduler, retired, seconds)
    if not force:
        return {name: address for name, address in empty.items() if address not in busy}
    for address in busy & set(empty.values()):
        await scheduler.unregister(
            address=address, expected=True, close=False, stimulus_id="hubfleet-scale-down"
        )
    return empty


async def resume(scheduler: Any, addresses: Iterable[str]) -> None:
    """Let retired workers take tasks again."""
    await _tell(scheduler, worker_side.resume, addresses)


async def _retire(scheduler: Any, names: Collection[str], seconds: float) -> dict[str, str]:
    """Retire workers and return those that are: name to address."""
    if not names:
        return {}
    try:
        async with asyncio.timeout(max(seconds, _MOVE_SECONDS)):
            retired = await scheduler.retire_workers(names=list(names), close_workers=False, remove=False)
    except TimeoutError:
        log.warning("%d workers stay: their results could not be moved in time", len(names))
        return {}
    return {str(worker["name"]): address for address, worker in retired.items()}


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

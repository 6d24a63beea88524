"""The number of workers of one app: up to what is allowed, and down without a loss.

A count is never lowered alone where there are workers: the backend would choose its victims
blindly. They are drained, and then killed by name while the count is lowered by as many.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from hubfleet.api.client import Client
from hubfleet.api.errors import BackendError, BackendUnreachable, NotFound, RequestRefused
from hubfleet.api.status import AppStatus

from . import retire
from .counting import Count, is_placeholder, tasks_for, whole_tasks
from .options import WorkerOptions
from .patience import NOT_NOW, patiently

log = logging.getLogger("hubfleet.workers")

_LOOK_SECONDS = 0.2
_DYING_SECONDS = 10.0  # until the backend has begun to kill what it took note of killing
_ROUNDS = 5  # a task that dies by itself amid a change makes one more necessary
_HOPELESS_SECONDS = 300.0  # until workers that crashed are tried again where the load asks for them
_KILL_SECONDS = 30.0  # for a backend that cannot now, while drained workers wait for their end


@dataclass(frozen=True)
class Growth:
    """What came of asking for more workers.

    Parameters
    ----------
    granted
        How many workers there will be.
    refusal
        Why there will be no more; empty if there will be as many as were asked for.
    """

    granted: int
    refusal: str = ""

    def in_workers(self, nworkers: int) -> Growth:
        """Return the growth that this one means, which counts tasks of so many workers each."""
        return Growth(self.granted * nworkers, self.refusal)


def fitting(refusal: RequestRefused) -> int | None:
    """Return how many instances would have been accepted, if the backend says so."""
    details = refusal.details if isinstance(refusal.details, list) else []
    told = [detail.get("fits") for detail in details if isinstance(detail, dict)]
    numbers = [number for number in told if isinstance(number, int)]
    return min(numbers, default=None)


def sentence_of(refusal: RequestRefused) -> str:
    """Return the backend's sentence without its details, which say the same again."""
    return str(refusal.args[0])


class Resizing(ABC):
    """Scales the workers of one app; `hubfleet.workers.MarathonWorkers` brings the app.

    Whoever asks counts workers, the backend counts tasks, each of which holds ``nworkers`` of them and
    comes and goes as a whole. What begins with one underscore and is not named after workers counts tasks.

    All changes wait for one another. After each the count is read anew: the backend's word
    counts, not what we think we asked for.
    """

    app_id: str
    marathon: Client
    options: WorkerOptions
    drain_seconds: float
    count: Count
    tell: Callable[[str], None]
    limit = ""
    """Why there are fewer workers than were asked for; empty if there are as many."""

    _lock: asyncio.Lock
    _killed: frozenset[str]
    _hopeless = ""
    _hopeless_until = 0.0

    @property
    @abstractmethod
    def scheduler(self) -> Any:
        """The scheduler's ``distributed.rpc``."""

    @abstractmethod
    async def refresh(self) -> Count:
        """Read the count anew."""

    @abstractmethod
    async def _read(self) -> AppStatus:
        """Read the app anew, and learn the count from it."""

    async def give_up(self, n: int, sentence: str) -> None:
        """Have no more than `n` tasks for a while, unless somebody asks for workers by `scale`."""
        async with self._lock:
            for _ in range(_ROUNDS):
                # One that ends by itself meanwhile is not killed, and the count stays as it was.
                surplus = (await self._present()).instances - n
                if surplus <= 0 or not await self._shrink(surplus):
                    break
            self._hopeless = sentence
            self.limit = f"no more workers are started, since {sentence}"
            self._hopeless_until = asyncio.get_running_loop().time() + _HOPELESS_SECONDS

    async def _scale(self, n: int) -> int:
        """Have `n` workers, or as many as are allowed; return how many there will be."""
        each = self.options.nworkers
        tasks = tasks_for(n, each)
        async with self._lock:
            self._hopeless = self.limit = ""
            for _ in range(_ROUNDS):
                count = await self._present()
                if count.instances == tasks:
                    break
                if count.instances < tasks:
                    growth = await self._grow(tasks)
                    if growth.refusal:
                        self.tell_limit(n, growth.in_workers(each))
                        break
                elif not await self._shrink(count.instances - tasks):
                    break
            return self.count.instances * each

    def tell_limit(self, wanted: int, growth: Growth) -> None:
        """Tell the user that there will not be as many workers as were asked for."""
        self.limit = limit_sentence(wanted, growth)
        self.tell(self.limit)

    async def _scale_up(self, n: int) -> Growth:
        """Have at least `n` workers, or as many of them as are allowed."""
        each = self.options.nworkers
        async with self._lock:
            present = Growth(self.count.instances)
            if tasks_for(n, each) <= present.granted:
                return present.in_workers(each)
            if self._hopeless and asyncio.get_running_loop().time() < self._hopeless_until:
                return Growth(present.granted, self._hopeless).in_workers(each)
            return (await self._grow(tasks_for(n, each))).in_workers(each)

    async def _scale_down(self, names: Collection[str], drain_seconds: float | None = None) -> list[str]:
        """Take away these workers, and return the tasks that were, which bear a single worker's name.

        One that is still busy after `drain_seconds`, or whose results have no other place, stays; so
        does a task of several workers of which not all are named.
        """
        seconds = self.drain_seconds if drain_seconds is None else drain_seconds
        async with self._lock:
            count = await self._present()
            tasks = whole_tasks(names, count, self.options.nworkers)
            dropped = sum(1 for task in tasks if is_placeholder(task))
            known = await self._known()
            alive = [task for task in tasks if task in count.states]
            return await self._take_away(dropped, alive, known, seconds=seconds, force=False)

    async def _present(self) -> Count:
        count = await self.refresh()
        if count.gone:
            raise self.removed()
        return count

    def removed(self) -> NotFound:
        """Return the error that says that the app is gone."""
        return NotFound(
            f"the Dask workers {self.app_id} were removed, by somebody else or because their server "
            "ended; close this cluster and make a new one",
            404,
        )

    async def _known(self) -> dict[str, list[str]]:
        return await retire.addresses_by_task(self.scheduler, self.options.nworkers)

    # -- up ---------------------------------------------------------------------------

    async def _grow(self, n: int) -> Growth:
        """Raise the count of tasks to `n`, or to what the backend says would fit."""
        refusal = ""
        for _ in range(_ROUNDS):
            try:
                await self._set_instances(n)
                break
            except RequestRefused as error:
                fits = fitting(error)
                if fits is None:
                    raise
                refusal = sentence_of(error)
                # Others of the user's apps may take what would have fitted, so this may be refused too.
                n = min(fits, n - 1)
                if n <= self.count.instances:
                    break
        return Growth(self.count.instances, refusal)

    async def _set_instances(self, n: int) -> None:
        try:
            await patiently(lambda: self.marathon.update_app(self.app_id, {"instances": n}, force=True))
        except NotFound:
            raise self.removed() from None
        await self.refresh()

    # -- down -------------------------------------------------------------------------

    async def _shrink(self, surplus: int) -> list[str]:
        """Choose who leaves: who has not begun, then who is not there yet, then who costs least."""
        count = self.count
        known = await self._known()
        dropped = min(count.waiting, surplus)
        absent = sorted(name for name in count.states if name not in known)
        present = set(count.states) & set(known)
        ranked = await retire.cheapest_first(self.scheduler, present, self.options.nworkers)
        leaving = [*absent, *ranked][: surplus - dropped]
        return await self._take_away(dropped, leaving, known, seconds=self.drain_seconds, force=True)

    async def _take_away(
        self,
        dropped: int,
        alive: Sequence[str],
        known: dict[str, list[str]],
        *,
        seconds: float,
        force: bool,
    ) -> list[str]:
        """Lower the count by waiting instances and by these workers; return what was taken away."""
        done: list[str] = []
        if dropped:
            before = self.count.instances
            # Never below what is alive. It comes before the kill, since a later change of the
            # count might overtake the kill.
            await self._set_instances(max(len(self.count.states), before - dropped))
            done += [f"waiting-{number}" for number in range(before - self.count.instances)]
        if not alive:
            return done
        drained = await retire.drain(self.scheduler, alive, known, seconds=seconds, force=force)
        leaving, busy = set(drained.tasks), set(drained.busy)
        absent = [name for name in alive if name not in known]
        if absent:
            # Who has come meanwhile may have been given work at once.
            known = {**known, **await self._known()}
            late = [name for name in absent if name in known]
            came = await retire.drain(self.scheduler, late, known, seconds=seconds, force=force)
            leaving |= {*came.tasks, *(set(absent) - set(late))}
            busy |= set(came.busy)
        victims = [name for name in alive if name in leaving]
        if not victims:
            return done
        try:
            await self._kill(victims)
        except BaseException:
            addresses = [address for name in victims for address in known.get(name, ())]
            with contextlib.suppress(OSError):
                await asyncio.shield(retire.resume(self.scheduler, addresses))
            raise
        self._killed |= set(victims)
        await retire.dismiss(self.scheduler, busy)
        await self._until_dying(victims)
        return [*done, *victims]

    async def _kill(self, victims: Sequence[str]) -> None:
        """Kill exactly these tasks and lower the count by as many, once, however the backend feels.

        An answer that does not come may belong to a request that was taken. A second one
        would kill nobody else, but it might lower the count again, so the app is read first.
        """
        loop = asyncio.get_running_loop()
        deadline, pause = loop.time() + _KILL_SECONDS, 0.1
        before, left, unsure = self.count.instances, list(victims), False
        while True:
            try:
                if unsure:
                    app = await self._read()
                    left = [name for name in left if name in {task.id for task in app.tasks}]
                    if app.instances < before or not left:
                        return  # it was taken, or they have ended by themselves
                    unsure = False
                await self.marathon.kill_and_scale(left)
                return
            except NotFound:
                raise self.removed() from None
            except NOT_NOW as error:
                unsure = True
                if loop.time() + pause > deadline:
                    raise BackendUnreachable(str(error)) from error
            await asyncio.sleep(pause)
            pause = min(pause * 2, 3.0)

    async def _until_dying(self, victims: Collection[str]) -> None:
        """Wait until the backend has begun to end tasks; a change before that might spare them."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _DYING_SECONDS
        while loop.time() < deadline:
            try:
                app = await self._read()
                if not {task.id for task in app.tasks if task.state != "TASK_KILLING"} & set(victims):
                    break
            except NOT_NOW:
                pass  # it will say in a moment
            except BackendError:
                break
            await asyncio.sleep(_LOOK_SECONDS)


def limit_sentence(wanted: int, growth: Growth) -> str:
    """Return what a person is told who asked for more than is allowed."""
    return f"there will be {growth.granted} workers and not {wanted}: {growth.refusal}"

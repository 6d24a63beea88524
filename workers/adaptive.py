"""Adaptive scaling: distributed's policy, with ends and refusals treated as this backend needs it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import Any

import dask.config
from dask.utils import parse_timedelta
from distributed.deploy.adaptive import Adaptive

from hubfleet.api.errors import BackendError, BackendUnreachable, NotFound, RequestRefused

from .checks import MOST_WORKERS, duration, known_names, whole_number
from .counting import task_of, tasks_for
from .elastic import ElasticCluster
from .nudge import Nudge
from .resizing import Growth, limit_sentence, sentence_of
from .steady import Steady

OPTIONS = ("minimum", "maximum", "interval", "wait_count", "target_duration", "worker_key")

_HOLD_FIRST, _HOLD_MOST = 15.0, 300.0  # seconds until a refused growth is asked for again
_AWAY_FIRST, _AWAY_MOST = 1.0, 15.0  # seconds until a backend that is away is asked again
_SOON = 0.02  # seconds from the news of work to the look at it, which then sees all of it
_DRAIN_SECONDS = 10.0  # for a task that began between the choice of a worker and its retirement


def checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of ``adapt`` with Dask's configured values where none are given.

    Raises
    ------
    TypeError, ValueError
        An option does not exist, has the wrong type or is out of range.
    """
    known_names("adapt", options, OPTIONS)
    given = {name: value for name, value in options.items() if value is not None}

    def option(name: str) -> Any:
        return given.get(name, dask.config.get(f"distributed.adaptive.{name.replace('_', '-')}"))

    minimum = whole_number("minimum", option("minimum"), 0, MOST_WORKERS)
    maximum = option("maximum")
    if not (isinstance(maximum, float) and maximum == math.inf):
        maximum = whole_number("maximum", maximum, 0, MOST_WORKERS)
    if maximum < minimum:
        raise ValueError(f"maximum must not be less than minimum, got minimum={minimum}, maximum={maximum}")
    worker_key = given.get("worker_key")
    if worker_key is not None and not callable(worker_key):
        raise TypeError(f"worker_key must be a function of a worker's state, got {worker_key!r}")
    return {
        "minimum": minimum,
        "maximum": maximum,
        "interval": duration("interval", option("interval"), 0.05),
        "wait_count": whole_number("wait_count", option("wait_count"), 1, 10_000),
        "target_duration": duration("target_duration", option("target_duration"), 0.001),
        "worker_key": worker_key,
    }


class WorkersAdaptive(Adaptive):
    """Follows the load of a `MarathonCluster` with the number of its workers.

    distributed's own class closes workers before it tells the backend, which by then has
    started others in their place. Here they leave by the cluster's drain path. A refusal,
    of a quota for instance, is told once; what is allowed is taken, and more is asked for
    only after a while.
    """

    cluster: ElasticCluster

    def __init__(self, cluster: ElasticCluster, **options: Any) -> None:
        self._allowed = math.inf  # workers, until `_hold_until`
        self._hold_until = self._away_until = -math.inf
        self._hold, self._away = _HOLD_FIRST, _AWAY_FIRST
        # The last of `wait_count` looks at which less is asked for is the one that counts.
        looks, interval = options.get("wait_count", 3), parse_timedelta(options.get("interval", 1))
        self._steady = Steady((looks - 0.5) * float(interval))
        self._nudge = Nudge(self.look_soon)
        self._looking: asyncio.TimerHandle | None = None
        self._look_task: asyncio.Future[None] | None = None
        # Last: the event loop may be another thread's, which begins to look before this returns.
        super().__init__(cluster, **options)

    def _start(self) -> None:
        super()._start()
        if self.state == "running":
            self._nudge.listen_to(self.cluster.scheduler)

    def stop(self, reason: str = "unknown") -> None:
        """End adaptive scaling; the workers that there are stay."""
        super().stop(reason)
        nudge = getattr(self, "_nudge", None)  # stop is called by __del__ too, whatever __init__ has done
        if nudge is not None:
            nudge.leave()
            if self._looking is not None:
                self._looking.cancel()

    def look_soon(self) -> None:
        """Look at the load in a moment and not at the next interval, since work has come."""
        if self._looking is None and self.state == "running":
            self._looking = asyncio.get_running_loop().call_later(_SOON, self._look)

    def _look(self) -> None:
        self._looking = None
        callback = self.periodic_callback
        if callback is not None and self.state == "running":
            # The same that the interval calls, with its care for errors.
            self._look_task = asyncio.ensure_future(callback.callback())

    @property
    def _nworkers(self) -> int:
        return self.cluster.marathon_workers.options.nworkers

    def _tasks(self, workers: Iterable[Any]) -> set[str]:
        return {task_of(str(name), self._nworkers) for name in workers}

    async def recommendations(self, target: int) -> dict[str, Any]:
        """Say what to do: growth at once, shrinking with patience (`hubfleet.workers.steady`).

        The workers of a task come and go together, so there are as many tasks as hold the `target`, and
        no more than `maximum` allows.
        """
        tasks, each = self._tasks(self.plan), self._nworkers
        most = MOST_WORKERS if self.maximum == math.inf else int(self.maximum) // each
        asked = min(tasks_for(target, each), most)
        wanted = self._steady.decide(_now(), asked, len(tasks))
        surplus = len(tasks) - wanted
        if surplus == 0:
            return {"status": "same"}
        if surplus < 0:
            return {"status": "up", "n": wanted * each}
        leaving = sorted(tasks - self._tasks(self.observed))[:surplus]
        if len(leaving) < surplus:
            named = dict.fromkeys(
                task_of(str(name), each) for name in await self.workers_to_close(wanted * each)
            )
            idle = [task for task in named if task in tasks and task not in leaving]
            # Those that a key of the user's holds together leave together.
            leaving += idle if self.worker_key else idle[: surplus - len(leaving)]
        return {"status": "down", "workers": leaving} if leaving else {"status": "same"}

    async def scale_up(self, n: int) -> None:
        """Bring the number of workers up to `n`, or to what is allowed of it."""
        async with self.cluster.scaling:
            if self.state != "running" or self._is_away():
                return
            if _now() < self._hold_until:
                n = int(min(n, self._allowed))
            if n <= len(self.plan):
                return  # nobody was asked, so nothing is known anew
            try:
                growth = await self.cluster.marathon_workers.scale_up(n)
            except (BackendUnreachable, NotFound) as error:
                self._note_away(error)
                return
            except RequestRefused as error:
                growth = Growth(len(self.plan), sentence_of(error))
            self._note_back()
            if growth.refusal:
                self._note_refusal(n, growth)
            elif _now() >= self._hold_until:
                self._allowed, self._hold = math.inf, _HOLD_FIRST
                self.cluster.trouble.over("refused")
                self.cluster.marathon_workers.limit = ""

    async def scale_down(self, workers: list[str]) -> None:
        """Take workers away by the drain path; one that has become busy stays."""
        async with self.cluster.scaling:
            if self.state != "running" or self._is_away():
                return
            try:
                await self.cluster.marathon_workers.scale_down(workers, _DRAIN_SECONDS)
            except BackendError as error:
                self._note_away(error)
            else:
                self._note_back()

    def _is_away(self) -> bool:
        return _now() < self._away_until

    def _note_away(self, error: BackendError) -> None:
        self._away_until = _now() + self._away
        self._away = min(self._away * 2, _AWAY_MOST)
        self.cluster.trouble.say("away", f"scaling waits: {error}")

    def _note_back(self) -> None:
        self._away = _AWAY_FIRST
        self.cluster.trouble.over("away")

    def _note_refusal(self, wanted: int, growth: Growth) -> None:
        self._allowed = growth.granted
        self._hold_until = _now() + self._hold
        self._hold = min(self._hold * 2, _HOLD_MOST)
        sentence = f"{limit_sentence(wanted, growth)} (the load asks for them)"
        self.cluster.marathon_workers.limit = sentence
        self.cluster.trouble.say("refused", sentence)


def _now() -> float:
    return asyncio.get_running_loop().time()

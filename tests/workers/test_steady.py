"""Adaptive scaling does not thrash: the pure decision over an hour of load, on a simulated clock.

The measure is distributed's own rule on the same load (`Stock`).
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count, pairwise

import pytest
from distributed.deploy.adaptive_core import AdaptiveCore
from hypothesis import given
from hypothesis import strategies as st

from hubfleet.workers.steady import MOST_PATIENCE, Steady

PATIENCE = 2.5
"""That of an interval of a second and a wait_count of three, which are the defaults."""


def turns(series: list[int]) -> int:
    """Return how often a series changes from growing to shrinking, or back."""
    steps = [after - before for before, after in pairwise(series) if after != before]
    return sum(1 for one, next_one in pairwise(steps) if (one > 0) != (next_one > 0))


@given(st.lists(st.integers(0, 30), min_size=2, max_size=200), st.integers(1, 10))
def test_whatever_the_load_the_answer_turns_no_more_often_than_it(targets: list[int], patience: int) -> None:
    steady, present, answers = Steady(patience), 0, [0]
    for second, target in enumerate(targets):
        present = steady.decide(second, target, present)
        assert present >= target  # nobody waits for workers because of it
        answers.append(present)
    assert turns(answers) <= turns([0, *targets])


def test_a_burst_is_answered_at_once_and_its_end_with_patience() -> None:
    steady = Steady(3)
    assert [steady.decide(second, 0, 0) for second in range(5)] == [0] * 5
    assert steady.decide(5, 40, 0) == 40
    assert [steady.decide(5 + second, 0, 40) for second in range(1, 4)] == [40, 40, 0]


def test_the_patience_is_that_of_wait_count_at_first_and_grows_by_regret_only() -> None:
    steady = Steady(3)
    now, present = 0.0, 0
    answers = []
    for _ in range(20):  # work for 5 s, nothing for 6 s
        for target in (4,) * 5 + (0,) * 6:
            now += 1
            present = steady.decide(now, target, present)
            answers.append(present)
    assert 6 < steady.patience < 25  # it outlasts the pause, after the first of them
    assert turns(answers) == 1
    for _ in range(int(30 * MOST_PATIENCE)):
        now += 1
        present = steady.decide(now, 2 if now % 400 < 200 else 1, present)
    assert steady.patience == 3


class Simulation:
    """A cluster for a while: tasks come, wait, run and end; workers take 1 s to start.

    A double of the scheduler, whose formula of what the load asks for is distributed's own
    (`Scheduler.adaptive_target`): occupancy over the target duration, no more than there are tasks, and
    no less than the workers that are busy.
    """

    def __init__(
        self, arrivals: Callable[[int], list[float]], decide: Callable[[int, int, int], int]
    ) -> None:
        self.arrivals = arrivals
        self.decide = decide
        self.waiting: deque[float] = deque()
        self.running: list[float] = []
        self.plan: list[int] = [0]
        self.targets: list[int] = [0]
        self.slowest = 0.0

    def run(self, seconds: int) -> Simulation:
        ready: list[int] = []
        for now in range(seconds):
            self.running = [left - 1 for left in self.running if left > 1]
            self.waiting.extend(self.arrivals(now))
            workers = min(self.plan[-1], sum(1 for since in ready if since <= now))
            while self.waiting and len(self.running) < workers:
                self.running.append(self.waiting.popleft())
            occupancy = sum(self.waiting) + sum(self.running)
            target = min(math.ceil(occupancy / 5), len(self.waiting) + len(self.running))
            target = max(target, len(self.running), 1 if self.waiting else 0)
            present = self.decide(now, target, self.plan[-1])
            ready = ready[:present] + [now + 1] * (present - len(ready))
            self.plan.append(present)
            self.targets.append(target)
        return self


def mixed(chance: random.Random) -> Callable[[int], list[float]]:
    """Return mixed load of seventy minutes.

    Fourteen times it goes up for some minutes and down again; within these, tasks come one by one or
    in small flocks, as many as chance wants, with a burst here and there.
    """
    levels = [chance.uniform(2, 6) if phase % 2 else chance.uniform(0.05, 0.3) for phase in range(28)]

    def arrivals(now: int) -> list[float]:
        level = levels[now // 150]
        count = sum(1 for _ in range(20) if chance.random() < level / 20)
        burst = 30 if level > 1 and chance.random() < 0.005 else 0
        return [chance.choice([0.5, 1, 2, 4]) for _ in range(count + burst)]

    return arrivals


class Stock(AdaptiveCore):
    """distributed's own rule, told of a cluster where every worker that is too many is idle."""

    def __init__(self) -> None:
        super().__init__(wait_count=3)
        self._there: list[str] = []
        self._names = count()

    @property
    def plan(self) -> set[str]:
        return set(self._there)

    requested = observed = plan

    async def target(self) -> int:
        raise NotImplementedError

    async def workers_to_close(self, target: int) -> list[str]:
        return self._there[target:]

    async def scale_up(self, n: int) -> None:
        self._there += [f"worker-{next(self._names)}" for _ in range(n - len(self._there))]

    async def scale_down(self, workers: Iterable[str]) -> None:
        self._there = [name for name in self._there if name not in set(workers)]

    async def _decide(self, target: int) -> int:
        advice = await self.recommendations(target)
        if advice["status"] == "up":
            await self.scale_up(advice["n"])
        elif advice["status"] == "down":
            await self.scale_down(advice["workers"])
        return len(self._there)

    def decide(self, now: int, target: int, present: int) -> int:
        """`Steady.decide`, by that rule."""
        with pytest.raises(StopIteration) as done:  # nothing in it waits, so it needs no event loop
            self._decide(target).send(None)
        return int(done.value.value)


@pytest.fixture(params=[1, 2, 3])
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


def compared(simulated: Simulation, begin: int, end: int) -> tuple[int, int]:
    """Return how often workers and load have turned meanwhile, the load as seen each half minute."""
    load = [max(simulated.targets[start : start + 30]) for start in range(begin, end, 30)]
    return turns(simulated.plan[begin:end]), turns(load)


def test_in_an_hour_of_mixed_load_workers_turn_no_more_often_than_it(chance: random.Random) -> None:
    """After the first ten minutes, in which the pauses of this load were learned."""
    workers, load = compared(Simulation(mixed(chance), Steady(PATIENCE).decide).run(4200), 600, 4200)
    assert 0 < workers <= load, (workers, load)


@pytest.mark.parametrize("end", [600, 3600])
def test_from_the_first_second_each_of_the_few_regrets_costs_one_turn_down_and_one_up(
    chance: random.Random, end: int
) -> None:
    workers, load = compared(Simulation(mixed(chance), Steady(PATIENCE).decide).run(end), 0, end)
    regrets = math.ceil(math.log(MOST_PATIENCE / PATIENCE, 3))
    assert 0 < workers <= load + 2 * regrets, (workers, load)


@pytest.mark.parametrize("end", [600, 3600])
def test_distributeds_own_rule_turns_far_more_often_on_the_same_load(chance: random.Random, end: int) -> None:
    """So the measure above would tell a cluster that thrashes."""
    state = chance.getstate()
    stock, load = compared(Simulation(mixed(chance), Stock().decide).run(end), 0, end)
    chance.setstate(state)
    ours, _ = compared(Simulation(mixed(chance), Steady(PATIENCE).decide).run(end), 0, end)
    assert stock > 3 * load
    assert ours < stock / 4

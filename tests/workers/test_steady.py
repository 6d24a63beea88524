"""Adaptive scaling does not thrash: the pure decision over an hour of load, on a simulated clock."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubfleet.workers.steady import MOST_PATIENCE, Steady


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
    for _ in range(20):  # work for 5 s, nothing for 6 s
        for target in (4,) * 5 + (0,) * 6:
            now += 1
            present = steady.decide(now, target, present)
    assert steady.patience == 12  # it outlasts the pause
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
    """Return mixed load of seventy minutes, of which a cluster needs the first few to learn patience.

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


@pytest.fixture(params=[1, 2, 3])
def chance(request: pytest.FixtureRequest) -> random.Random:
    return random.Random(request.param)


def compared(hour: Simulation) -> tuple[int, int]:
    """Return how often workers and load have turned in the last hour, the load as seen each half minute."""
    load = [max(hour.targets[start : start + 30]) for start in range(len(hour.targets) - 3600, 4200, 30)]
    return turns(hour.plan[-3600:]), turns(load)


def test_in_an_hour_of_mixed_load_workers_turn_no_more_often_than_it(chance: random.Random) -> None:
    workers, load = compared(Simulation(mixed(chance), Steady(3).decide).run(4200))
    assert 0 < workers <= load, (workers, load)


def test_the_measure_would_tell_a_cluster_that_thrashes(chance: random.Random) -> None:
    """distributed's own rule: three looks in a row."""
    looks: deque[int] = deque(maxlen=3)

    def decide(now: int, target: int, present: int) -> int:
        looks.append(target)
        return max(target, min(present, max(looks)))

    workers, load = compared(Simulation(mixed(chance), decide).run(4200))
    assert workers > 3 * load, (workers, load)

"""When changes are acted on, and for how long failures are remembered."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import pytest
from instances import moment

from hubfleet.backend.orchestrator.debounce import Debounce
from hubfleet.backend.orchestrator.failures import Failures


class Unwaiting(asyncio.SelectorEventLoop):
    """A loop whose clock goes on to its next timer at once, so that no other process makes anything late."""

    def __init__(self) -> None:
        loop = self
        self.now = 0.0

        class Selector(selectors.DefaultSelector):
            def select(self, timeout: float | None = None) -> Any:
                loop.now += (timeout or 0) + 1e-9  # so that what is rounded off holds nothing back
                return super().select(0)

        super().__init__(Selector())

    def time(self) -> float:
        return self.now


def rounds(quiet: float, most: float, changes: list[float], until: float) -> list[float]:
    """When it was time to act, for changes at their seconds from now."""

    async def run() -> list[float]:
        loop, debounce = asyncio.get_running_loop(), Debounce(quiet, most)
        begun, found = loop.time(), []
        for second in changes:
            loop.call_at(begun + second, debounce.change)
        while (left := begun + until - loop.time()) > 0:
            await debounce.wait(left)
            if loop.time() < begun + until:
                found.append(loop.time() - begun)
                debounce.acted()
        return found

    with asyncio.Runner(loop_factory=Unwaiting) as runner:
        return runner.run(run())


def test_a_lone_change_is_acted_on_at_once() -> None:
    assert rounds(0.2, 10, [0.0], 0.1) == pytest.approx([0], abs=1e-6)


def test_a_burst_is_answered_at_once_and_again_when_it_is_quiet() -> None:
    assert rounds(0.1, 10, [0, 0.02, 0.06, 0.1], 0.5) == pytest.approx([0, 0.2], abs=1e-6)


def test_changes_without_end_are_answered_all_the_same() -> None:
    found = rounds(0.1, 0.2, [step * 0.03 for step in range(20)], 0.7)
    assert found == pytest.approx([0, 0.23, 0.44, 0.65], abs=1e-6)


def test_failures_are_forgotten_with_time_and_with_a_new_configuration() -> None:
    failures = Failures()
    for second in range(5):
        failures.note("/app", moment(0), "a", second)
    assert failures.last("/app", moment(0), ["a", "b"], 10) == {"a"}
    assert failures.last("/app", moment(0), ["a", "b"], 301) == set()
    assert failures.last("/app", moment(1), ["a", "b"], 10) == set()
    assert failures.last("/other", moment(0), ["a", "b"], 10) == set()


def test_only_so_many_failures_are_remembered() -> None:
    failures = Failures()
    for number in range(10_050):
        for second in range(5):
            failures.note(f"/app-{number}", moment(0), "a", second)
    assert failures.last("/app-49", moment(0), ["a"], 5) == set()
    assert failures.last("/app-50", moment(0), ["a"], 5) == {"a"}

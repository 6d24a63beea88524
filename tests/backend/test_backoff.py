"""Marathon's back-off (``marathon-v2`` 5.5)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from instances import app, moment

from hubfleet.backend.orchestrator import backoff
from hubfleet.backend.records import Backoff


def test_the_delay_grows_by_the_factor_up_to_the_most() -> None:
    slow = app(backoffSeconds=2, backoffFactor=3, maxLaunchDelaySeconds=20)
    delays = []
    held = None
    for second in range(5):
        held = backoff.after_end(held, slow, moment(second))
        delays.append(held.delay)
    assert delays == [2, 6, 18, 20, 20]


def test_the_first_delay_is_not_longer_than_the_most_either() -> None:
    assert backoff.after_end(None, app(backoffSeconds=50, maxLaunchDelaySeconds=7), moment()).delay == 7


def test_the_next_start_is_counted_from_the_end_and_again_from_each_start() -> None:
    held = backoff.after_end(None, app(backoffSeconds=4), moment(10))
    assert backoff.launch_at(held) == moment(14)
    advanced = backoff.advanced(held, moment(30))
    assert advanced == Backoff(delay=4, reference=moment(30))
    assert backoff.launch_at(None) is None
    assert backoff.advanced(None, moment()) is None


@pytest.mark.parametrize(
    ("second", "slack", "delay"),
    [(100, 0, 20), (100.1, 0, 2), (110, backoff.CHECK_SECONDS, 10), (110.1, backoff.CHECK_SECONDS, None)],
)
def test_after_a_long_peace_the_next_end_counts_as_the_first(
    second: float, slack: float, delay: float | None
) -> None:
    """What counts is the time since the last end, or since the last start."""
    patient = app(maxLaunchDelaySeconds=100, backoffSeconds=2, backoffFactor=2)
    held = Backoff(delay=10, reference=moment(0))
    if slack:
        kept = backoff.kept(held, patient, moment(second), slack)
        assert (kept and kept.delay) == delay
    else:
        assert backoff.after_end(held, patient, moment(second)).delay == delay


def test_an_app_that_fails_whenever_it_starts_is_held_back_for_the_most_for_ever() -> None:
    failing = app(maxLaunchDelaySeconds=8, backoffSeconds=2, backoffFactor=2)
    held, second, delays = None, 0.0, []
    for _ in range(6):
        held = backoff.after_end(held, failing, moment(second))
        delays.append(held.delay)
        second += held.delay + 0.5  # placed a little late, and it ends at once
        held = backoff.advanced(backoff.kept(held, failing, moment(second), 10), moment(second))
    assert delays == [2, 4, 8, 8, 8, 8]


@given(
    seconds=st.floats(0, 2**31 - 1),
    factor=st.floats(1, 1.7e308),
    most=st.floats(0, 2**31 - 1),
)
def test_no_definition_that_is_taken_makes_a_moment_that_is_none(
    seconds: float, factor: float, most: float
) -> None:
    """An overflow here would end the backend for everybody."""
    extreme = app(backoffSeconds=seconds, backoffFactor=factor, maxLaunchDelaySeconds=most)
    held = None
    for _ in range(4):
        held = backoff.after_end(held, extreme, moment())
        assert 0 <= held.delay <= most
        launch = backoff.launch_at(held)
        assert launch is not None
        assert launch - moment() <= timedelta(seconds=most)
        backoff.kept(held, extreme, moment(5), backoff.CHECK_SECONDS)


def test_a_back_off_that_begins_in_the_future_is_counted_from_now() -> None:
    held = Backoff(delay=3, reference=moment(1000))
    assert backoff.counted_from_now(held, moment(10)) == Backoff(delay=3, reference=moment(10))
    assert backoff.counted_from_now(held, moment(1001)) is held
    assert backoff.counted_from_now(None, moment()) is None

"""What the outcomes of probes mean, and probes of real sockets (``marathon-v2`` 2.4)."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from answering import listening, saying, silent, unknown_certificate
from instances import moment
from rest import eventually

from hubfleet.api.app import HealthCheck
from hubfleet.backend.orchestrator.health import Verdict, judge
from hubfleet.backend.orchestrator.probes import NoVerdict, first_probe_in, found_probe_in, probe
from hubfleet.backend.orchestrator.turns import Turns
from hubfleet.backend.records import Health

CHECK = HealthCheck(grace_period_seconds=100, max_consecutive_failures=2)


def play(outcomes: list[tuple[float, str | None]], check: HealthCheck = CHECK) -> list[Verdict]:
    """Judge probes at their seconds after the start."""
    health, verdicts = Health(), []
    for second, failure in outcomes:
        verdict = judge(health, check, failure, second, moment(second))
        verdicts.append(verdict)
        health = verdict.health
    return verdicts


def test_failures_in_the_grace_period_are_recorded_but_do_not_count() -> None:
    verdicts = play([(1, "refused"), (99, "refused")])
    assert [(verdict.counted, verdict.kill) for verdict in verdicts] == [(False, False)] * 2
    assert verdicts[-1].health.alive is False
    assert verdicts[-1].health.consecutive_failures == 0
    assert verdicts[-1].health.last_failure_cause == "refused"


def test_the_first_success_ends_the_grace_period() -> None:
    verdicts = play([(1, None), (2, "500 x"), (3, None), (4, "500 x")])
    assert [verdict.counted for verdict in verdicts] == [False, True, False, True]
    assert [verdict.health.alive for verdict in verdicts] == [True, False, True, False]
    assert verdicts[-1].health.consecutive_failures == 1
    assert verdicts[-1].health.first_success == moment(1)


def test_the_kill_comes_with_the_failure_after_the_last_one_allowed() -> None:
    verdicts = play([(second, "down") for second in (100, 101, 102, 103)])
    assert [verdict.kill for verdict in verdicts] == [False, False, True, True]


def test_the_clock_that_people_see_decides_nothing() -> None:
    """A day forward ends no grace period, and a day back gives no new one, nor makes a failure the older."""
    day = 86400
    forward = judge(Health(), CHECK, "refused", 1, moment(day))
    assert not forward.counted
    back = judge(Health(), CHECK, "refused", 101, moment(-day))
    assert back.counted
    success = judge(Health(), CHECK, None, 1, moment(day)).health
    failure = judge(success, CHECK, "down", 2, moment(0))
    assert failure.counted
    assert not failure.health.alive
    assert judge(failure.health, CHECK, None, 3, moment(-day)).health.alive


def test_what_was_stored_without_the_last_outcome_tells_it_by_its_times() -> None:
    assert Health.model_validate({"last_success": moment(2), "last_failure": moment(1)}).alive
    assert not Health.model_validate({"last_success": moment(1), "last_failure": moment(2)}).alive
    assert not Health.model_validate({}).alive


def test_a_new_task_is_probed_when_marathon_would_and_found_ones_all_over_the_interval() -> None:
    assert first_probe_in(HealthCheck(interval_seconds=60)) == 5
    assert first_probe_in(HealthCheck(interval_seconds=2)) == 2
    assert first_probe_in(HealthCheck(protocol="COMMAND", delay_seconds=7)) == 7
    chance = Random(1)
    healthy = Health(first_success=moment(0))
    tenths = Counter(
        int(found_probe_in(HealthCheck(interval_seconds=60), healthy, chance) // 6) for _ in range(1000)
    )
    assert set(tenths) == set(range(10))
    assert max(tenths.values()) < 150
    unknown = [found_probe_in(HealthCheck(interval_seconds=60), Health(), chance) for _ in range(100)]
    assert max(unknown) <= 5 < 10 * min(unknown) + 5


async def test_an_owner_whose_tasks_do_not_answer_costs_others_no_turn() -> None:
    turns = Turns(most=5, most_of_owner=2)
    asked: list[str] = []

    async def hang(app_id: str) -> None:
        async with turns.one(app_id):
            asked.append(app_id)
            await asyncio.Event().wait()

    hanging = [asyncio.create_task(hang(f"/hub/eve/dask/{number}")) for number in range(4)]
    hanging += [asyncio.create_task(hang("/hub/mallory/notebook")) for _ in range(4)]
    await eventually(lambda: asyncio.sleep(0, len(asked) == 4))
    async with turns.one("/hub/alice/notebook"):
        hanging.append(asyncio.create_task(hang("/hub/bob")))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(asked) == 4, "five at once are the most in all"
    await eventually(lambda: asyncio.sleep(0, asked[4:] == ["/hub/bob"]))
    for task in hanging:
        task.cancel()
    await asyncio.gather(*hanging, return_exceptions=True)
    async with turns.one("/hub/eve/dask/1"):
        pass


async def test_the_address_asked_is_of_the_kind_asked_for() -> None:
    async with listening(silent) as port:
        old, new = (
            HealthCheck(protocol="MESOS_TCP", timeout_seconds=60, ip_protocol=kind)
            for kind in ("IPv4", "IPv6")
        )
        assert await probe(old, "localhost", port) is None
        assert await probe(new, "localhost", port) is not None


def test_without_a_limit_nothing_is_killed() -> None:
    endless = CHECK.model_copy(update={"max_consecutive_failures": 0})
    assert not any(
        verdict.kill for verdict in play([(second, "down") for second in range(100, 120)], endless)
    )


@pytest.mark.parametrize("protocol", ["COMMAND", "MESOS_HTTP", "MESOS_TCP", "MESOS_HTTPS"])
@pytest.mark.parametrize(("most", "killing"), [(0, 1), (1, 1), (3, 3)])
def test_a_check_of_the_agents_kills_with_the_last_failure_allowed(
    protocol: str, most: int, killing: int
) -> None:
    check = CHECK.model_copy(update={"protocol": protocol, "max_consecutive_failures": most})
    verdicts = play([(5, "in grace"), *((second, "down") for second in (100, 101, 102))], check)
    assert [verdict.kill for verdict in verdicts].index(True) == killing


async def test_a_want_of_our_own_is_no_verdict_on_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    async def exhausted(*_: Any, **__: Any) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(asyncio, "open_connection", exhausted)
    with pytest.raises(NoVerdict):
        await probe(HealthCheck(protocol="TCP"), "127.0.0.1", 1)


def http(**fields: Any) -> HealthCheck:
    return HealthCheck(protocol="HTTP", timeout_seconds=60, **fields)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"HTTP/1.0 399\r\n\r\n", None),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 2_000_000, None),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "503 Service Unavailable"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found"),
        (b"HTTP/1.1 199 x\r\n\r\n", "199 x"),
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0\r\n", "what answers does not speak HTTP"),
        (b"x" * 200_000, "Separator is not found, and chunk exceed the limit"),
    ],
)
async def test_an_http_check_judges_by_the_status(text: bytes, verdict: str | None) -> None:
    async with listening(saying(text)) as port:
        assert await probe(http(), "127.0.0.1", port) == verdict


async def test_informational_answers_can_be_ignored() -> None:
    async with listening(saying(b"HTTP/1.1 102 Processing\r\n\r\n")) as port:
        with pytest.raises(NoVerdict):
            await probe(http(ignore_http1xx=True), "127.0.0.1", port)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (None, b"GET / HTTP/1.1"),
        ("x/y?a=b&c=%20", b"GET /x/y?a=b&c=%20 HTTP/1.1"),
        ("/a b\r\nX-Evil: 1\r\n\r\n", b"GET /a%20b%0D%0AX-Evil:%201%0D%0A%0D%0A HTTP/1.1"),
        ("//other.host/é", b"GET /other.host/%C3%A9 HTTP/1.1"),
    ],
)
async def test_no_path_leaves_its_line(path: str | None, line: bytes) -> None:
    heard: list[bytes] = []
    async with listening(saying(b"HTTP/1.1 200 OK\r\n\r\n", heard)) as port:
        assert await probe(http(path=path), "127.0.0.1", port) is None
    assert heard[0].split(b"\r\n")[0] == line
    assert heard[0].count(b"\r\n") == 6


async def test_silence_and_refusal_are_failures_with_a_cause() -> None:
    async with listening(silent) as port:
        check = http().model_copy(update={"timeout_seconds": 0.05})
        assert await probe(check, "127.0.0.1", port) == "no answer within 0.05 s"
        assert await probe(HealthCheck(protocol="TCP"), "127.0.0.1", port) is None
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # and so nobody else listens there
        port = deaf.getsockname()[1]
        assert "refused" in (await probe(HealthCheck(protocol="TCP"), "127.0.0.1", port) or "").lower()


async def test_a_certificate_is_not_verified(tmp_path: Path) -> None:
    context = unknown_certificate(tmp_path)
    async with listening(saying(b"HTTP/1.1 200 OK\r\n\r\n"), ssl=context) as port:
        assert await probe(HealthCheck(protocol="HTTPS", timeout_seconds=60), "127.0.0.1", port) is None
        assert await probe(http(), "127.0.0.1", port) is not None

"""What a user reads while their server starts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hubfleet.api.app import App
from hubfleet.api.status import QueueItem
from hubfleet.spawner.progress import ProgressLog, ended_sentence, waiting_sentence


async def read(log: ProgressLog) -> list[dict[str, Any]]:
    return [message async for message in log.follow()]


async def test_every_page_reads_all_whenever_it_is_opened() -> None:
    log = ProgressLog()
    log.add(10, "one")
    early = [asyncio.create_task(read(log)) for _ in range(3)]
    await asyncio.sleep(0)
    log.add(60, "two")
    await asyncio.sleep(0)
    log.add(90, "three")
    log.close()
    async with asyncio.timeout(60):
        for messages in [*[await task for task in early], await read(log)]:
            assert [message["message"] for message in messages] == ["one", "two", "three"]


async def test_a_page_that_is_left_does_not_disturb_the_others() -> None:
    log = ProgressLog()
    left, stays = asyncio.create_task(read(log)), asyncio.create_task(read(log))
    await asyncio.sleep(0)
    left.cancel()
    log.add(1, "one")
    log.close()
    assert len(await asyncio.wait_for(stays, 60)) == 1


async def test_the_number_never_falls_and_never_says_ready() -> None:
    log = ProgressLog()
    for percent in (10, 60, 40, 100, 250):
        log.add(percent, f"at {percent}")
    log.close()
    assert [message["progress"] for message in await read(log)] == [10, 60, 60, 99, 99]


async def test_a_repeated_sentence_is_told_once() -> None:
    log = ProgressLog()
    for sentence in ("waits", "waits", "runs", "waits"):
        log.add(10, sentence)
    assert log.messages == ["waits", "runs", "waits"]


async def test_a_reader_may_change_what_it_was_given() -> None:
    log = ProgressLog()
    log.add(10, "one")
    log.close()
    (await read(log))[0].pop("message")
    assert log.messages == ["one"]


def queued(**fields: Any) -> QueueItem:
    return QueueItem.from_wire({"count": 1, **fields})


APP = App(id="/jupyter/alice/notebook", cpus=4, mem=1024, gpus=1)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (queued(explanation="4 cpus asked, 1 free"), "Waiting: 4 cpus asked, 1 free"),
        (queued(explanation="waiting for 4 cpus; 1 of 2 free"), "Waiting for 4 cpus; 1 of 2 free"),
        (
            queued(delay={"timeLeftSeconds": 7, "overdue": False}),
            "Waiting 7 s before the next attempt, since the last one failed",
        ),
        (queued(), "Waiting for a place with enough free resources"),
        (
            queued(app=APP.to_wire()),
            "Waiting for a place with enough free resources; asked for 4 CPUs, 1024 MiB of memory, 1 GPUs",
        ),
        (
            queued(
                processedOffersSummary={
                    "rejectSummaryLastOffers": [
                        {"reason": "InsufficientCpus", "declined": 2, "processed": 3},
                        {"reason": "InsufficientMemory", "declined": 0, "processed": 1},
                        {"reason": "SomethingNew", "declined": 1, "processed": 1},
                    ]
                }
            ),
            "Waiting for a place: not enough free CPUs (2 of 3 offers declined), "
            "SomethingNew (1 of 1 offers declined)",
        ),
        (
            queued(
                processedOffersSummary={
                    "rejectSummaryLaunchAttempt": [
                        {"reason": "UnfulfilledConstraint", "declined": 1, "processed": 1}
                    ]
                }
            ),
            "Waiting for a place: the placement constraints are not met (1 of 1 offers declined)",
        ),
    ],
)
def test_why_it_waits_is_said_in_words(item: QueueItem, sentence: str) -> None:
    assert waiting_sentence(item) == sentence


def test_an_end_is_told_with_its_reason_and_the_attempts_left() -> None:
    assert ended_sentence("exit status 1", 1, 3) == (
        "The server's process ended (exit status 1); it is started again, attempt 2 of 3"
    )
    assert ended_sentence("", 2, 3).startswith("The server's process ended; ")

"""The event stream (``marathon-v2`` section 6): what is told, to whom, and readers who do not read."""

from __future__ import annotations

import asyncio
import socket

import psutil
import pytest
from conftest import RunningBackend
from rest import Rest, eventually, stream

from hubfleet.backend import events
from hubfleet.backend.access import Caller, administrator, reader
from hubfleet.backend.events import BUFFERED_EVENTS, MOST_EVENTS, EventBus, Notice, Subscription
from hubfleet.backend.server.seats import NoSeat, Seats
from hubfleet.backend.server.stream import text_for


async def test_the_life_of_an_app_is_told_in_order(rest: Rest, backend: RunningBackend) -> None:
    async with stream(backend.url, backend.admin_token) as heard:
        await rest.create("/a/b")
        await rest.running("/a/b")
        await rest.deployed()
        await rest("DELETE", "/v2/apps/a/b")
        await heard.until("deployment_success", 2)
    assert heard.types()[0] == "event_stream_attached"
    assert b"HTTP/1.1 200" in heard.raw
    assert b"Content-Type: text/event-stream;charset=utf-8" in heard.raw
    states = [event["taskStatus"] for event in heard.events if event["eventType"] == "status_update_event"]
    assert states == ["TASK_STAGING", "TASK_RUNNING", "TASK_KILLING", "TASK_KILLED"]
    conditions = [
        event["condition"] for event in heard.events if event["eventType"] == "instance_changed_event"
    ]
    assert conditions == ["Scheduled", "Provisioned", "Running", "Killing", "Killed"]
    plans = [kind for kind in heard.types("/a/b") if kind.startswith(("deployment", "app_terminated"))]
    assert plans == [
        *("deployment_info", "deployment_step_success", "deployment_info", "deployment_step_success"),
        "deployment_success",
        *("deployment_info", "app_terminated_event", "deployment_step_success", "deployment_success"),
    ]
    by_type = {event["eventType"]: event for event in heard.events}
    assert by_type["api_post_event"]["appDefinition"]["id"] == "/a/b"
    assert by_type["group_change_success"]["groupId"] == "/a"
    assert by_type["deployment_success"]["plan"]["original"] == {"id": "/"}
    update = by_type["status_update_event"]
    assert update.keys() == {
        *("eventType", "timestamp", "slaveId", "taskId", "taskStatus", "message", "appId", "host"),
        *("ipAddresses", "ports", "version"),
    }


async def test_readers_hear_of_each_other_and_of_health_checks(rest: Rest, backend: RunningBackend) -> None:
    async with stream(backend.url, backend.admin_token) as heard:
        async with stream(backend.url, backend.admin_token) as other:
            await heard.until("event_stream_attached", 2)
        await heard.until("event_stream_detached")
        check = {"protocol": "TCP", "gracePeriodSeconds": 600, "intervalSeconds": 600}
        made = await rest.create("/checked", healthChecks=[check], cpus=60, instances=2)
        await rest("DELETE", "/v2/apps/checked")
        await heard.until("app_terminated_event")
    assert other.types() == ["event_stream_attached"], "its own arrival is told once"
    assert b"Connection: close" in heard.raw
    by_type = {event["eventType"]: event for event in heard.events}
    added = by_type["add_health_check_event"]
    assert (added["appId"], added["version"]) == ("/checked", made["version"])
    assert added["healthCheck"]["protocol"] == "TCP"
    assert by_type["remove_health_check_event"].keys() == {"eventType", "timestamp", "appId"}
    changes = [event for event in heard.events if event["eventType"] == "instance_changed_event"]
    assert changes[0]["condition"] == "Scheduled"
    assert (changes[0]["host"], changes[0]["agentId"]) == (None, None)


def test_event_streams_are_limited_for_each_and_in_all() -> None:
    seats = Seats(per_caller=2, in_all=6, kept_free=3)
    for _ in range(2):
        seats.take("alice", trusted=False)
    with pytest.raises(NoSeat, match="alice reads 2 event streams already") as own:
        seats.take("alice", trusted=False)
    seats.take("bob", trusted=False)
    with pytest.raises(NoSeat, match="try again later") as all_users:
        seats.take("carol", trusted=False)
    for _ in range(3):
        seats.take("the hub", trusted=True)
    with pytest.raises(NoSeat):
        seats.take("the hub", trusted=True)
    assert (own.value.status, all_users.value.status) == (429, 503)
    seats.leave("alice")
    seats.leave("the hub")
    seats.take("the hub", trusted=True)


async def test_only_asked_types_are_told(shared: RunningBackend, shared_rest: Rest) -> None:
    types = ("event_stream_attached", "api_post_event", "app_terminated_event")
    query = "?" + "&".join(f"event_type={name}" for name in types)
    async with stream(shared.url, shared.admin_token, query) as heard:
        await shared_rest.create("/types")
        await shared_rest.running("/types")
        await shared_rest("DELETE", "/v2/apps/types?force=true")
        await heard.until("app_terminated_event")
    assert heard.types() == list(types)


@pytest.mark.parametrize("accept", [None, "*/*", "application/json"])
async def test_the_stream_needs_its_header(shared_rest: Rest, accept: str | None) -> None:
    answer = await shared_rest("GET", "/v2/events", headers={"Accept": accept or ""})
    assert answer.status_code == 405
    assert "Accept: text/event-stream" in answer.json()["message"]


async def test_a_reader_that_does_not_read_is_cut_off_and_delays_nobody(
    rest: Rest, backend: RunningBackend
) -> None:
    lazy = socket.create_connection(("127.0.0.1", backend.port))
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    lazy.sendall(
        b"GET /v2/events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n"
        b"Authorization: token " + backend.admin_token.encode() + b"\r\n\r\n"
    )
    text = "x" * 100_000
    query = "?event_type=group_change_success&event_type=event_stream_attached"
    async with stream(backend.url, backend.admin_token, query) as other:
        for number in range(60):
            await rest.create(f"/lazy/{number}", instances=0, labels={"text": text})
        # Each is some events: more than the sockets' buffers and the queue hold.
        for _ in range(3):
            await rest.create("/lazy/many", cpus=60, instances=1000)
            await rest("DELETE", "/v2/apps/lazy/many")
            await rest.deployed()
        await other.until("group_change_success", 66)

    assert backend.process is not None
    server = psutil.Process(backend.process.pid)

    async def cut_off() -> bool:
        return lazy.getsockname()[1] not in [
            connection.raddr.port for connection in server.net_connections("tcp") if connection.raddr
        ]

    await eventually(cut_off)
    lazy.close()


async def test_the_end_of_the_backend_ends_the_streams(rest: Rest, backend: RunningBackend) -> None:
    async with stream(backend.url, backend.admin_token) as heard:
        await backend.stop()
        async with asyncio.timeout(60):
            await heard.ended.wait()


async def test_the_bus_lets_go_of_a_subscriber_that_stays_too_slow() -> None:
    bus, overruns, dropped = EventBus(), [], asyncio.Event()

    def overrun() -> None:
        overruns.append("slow")
        dropped.set()

    slow = Subscription(lambda event: True, overrun, patience=0.01)
    picky = Subscription(lambda event: event["n"] == 1, lambda: overruns.append("picky"))
    quick = Subscription(lambda event: True, lambda: overruns.append("quick"), patience=0.01)
    for subscription in (slow, picky, quick):
        bus.subscribe(subscription)
    for number in range(BUFFERED_EVENTS + 2):
        bus.publish(events.event("x", n=number))
    assert overruns == [], "it may have more before it for a moment"
    heard = [notice.event["n"] for notice in await quick.take(1)]
    async with asyncio.timeout(60):
        await dropped.wait()
    bus.publish(events.event("x", n=BUFFERED_EVENTS + 2))
    assert overruns == ["slow"]
    assert [notice.event["n"] for notice in await picky.take(1)] == [1]
    assert slow.queue.qsize() == BUFFERED_EVENTS + 2, "nothing is collected from then on"
    assert await picky.take(0.01) == []
    while len(heard) < BUFFERED_EVENTS + 3:
        heard += [notice.event["n"] for notice in await quick.take(1)]
    assert heard == list(range(BUFFERED_EVENTS + 3))


async def test_what_waits_for_a_subscriber_has_an_end() -> None:
    bus, overruns = EventBus(), []
    slow = Subscription(lambda event: True, lambda: overruns.append("slow"))
    bus.subscribe(slow)
    event = events.event("x")
    for _ in range(MOST_EVENTS):
        bus.publish(event)
    assert overruns == []
    bus.publish(event)
    bus.publish(event)
    assert overruns == ["slow"]


def test_an_event_is_written_out_once_for_all_who_are_shown_the_same() -> None:
    app = {"id": "/a", "env": {"SECRET": "x"}}
    notice = Notice(events.event("api_post_event", appDefinition=app))
    everything = text_for(administrator("one"), notice)
    assert text_for(administrator("another"), notice) is everything
    assert b'"SECRET":"x"' in everything
    hidden = text_for(reader("somebody"), notice)
    assert text_for(reader("somebody else"), notice) is hidden
    assert b'"SECRET":"(hidden)"' in hidden
    own = Caller("alice", reads=frozenset({""}), opens=frozenset({"/a"}))
    other = events.event("api_post_event", appDefinition={**app, "id": "/a/b"})
    assert b'"SECRET":"x"' in text_for(own, Notice(other))
    assert b'"SECRET":"(hidden)"' in text_for(own, notice)

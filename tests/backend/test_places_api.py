"""Constraints, required ports and reasons of the queue, on a real backend (``marathon-v2`` 1.2 and 2.2)."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from conftest import RunningBackend
from rest import Rest, eventually

from hubfleet.backend.orchestrator.unused import free_ranges


async def queued(rest: Rest, app_id: str, sentence: str) -> Any:
    """Return the app's item of the queue once it explains itself so."""

    async def look() -> Any:
        items = (await rest.get("/v2/queue?embed=explanation"))["queue"]
        found = [item for item in items if item["app"]["id"] == app_id]
        return found[0] if found and sentence in found[0].get("explanation", "") else None

    return await eventually(look)


async def test_a_unique_host_on_one_machine_is_one_instance(shared_rest: Rest) -> None:
    await shared_rest.create("/unique", instances=3, constraints=[["hostname", "unique"]])
    await shared_rest.running("/unique", 1)
    item = await queued(shared_rest, "/unique", "has an instance of the app already")
    assert item["hopeless"] is False
    assert item["count"] == 2
    summary = item["processedOffersSummary"]
    assert summary["processedOffersCount"] > summary["unusedOffersCount"] > 0
    assert {"lastUsedOfferAt", "lastUnusedOfferAt"} < set(summary)
    declined = {step["reason"]: step["declined"] for step in summary["rejectSummaryLastOffers"]}
    assert {reason for reason, count in declined.items() if count} == {"UnfulfilledConstraint"}
    assert [
        deployment
        for deployment in await shared_rest.get("/v2/deployments")
        if "/unique" in deployment["affectedApps"]
    ]
    await shared_rest("DELETE", "/v2/apps/unique")


async def test_a_constraint_that_this_machine_does_not_fulfil_says_so(shared_rest: Rest) -> None:
    await shared_rest.create("/rack", constraints=[["rack", "LIKE", "r1"]])
    item = await queued(shared_rest, "/rack", "constraint rack LIKE r1: the place 127.0.0.1 has no rack")
    assert item["hopeless"] is True
    await shared_rest("DELETE", "/v2/apps/rack")


async def test_a_required_port_is_waited_for_and_given(tmp_path: Path, port_range: tuple[int, int]) -> None:
    _, port = port_range  # which nobody else takes when the stranger has gone
    with socket.socket() as stranger:
        stranger.bind(("0.0.0.0", port))
        stranger.listen()
        running = RunningBackend(tmp_path / "state", port_range)
        try:
            await running.start()
            rest = Rest(running.url, running.admin_token)
            definitions = [{"port": 0}, {"port": port, "name": "web"}]
            await rest.create("/fixed", requirePorts=True, portDefinitions=definitions)
            await queued(rest, "/fixed", f"port {port} is in use")
            stranger.close()
            (task,) = await rest.running("/fixed")
            assert task["ports"][1] == port
        finally:
            await running.destroy()


async def test_gpus_that_are_not_there_are_refused(shared_rest: Rest) -> None:
    refused = await shared_rest("POST", "/v2/apps", {"id": "/gpu", "cmd": "sleep 1", "gpus": 1})
    assert refused.status_code == 422
    assert "1 GPUs asked, but there are 0 in all" in refused.text


async def test_the_places_that_did_not_do_are_told_to_who_asks(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/first", cpus=60, mem=100, portDefinitions=[{"port": 0}, {"port": 0}])
    (task,) = await rest.running("/first")
    await rest.create("/second", cpus=5)
    await queued(rest, "/second", "5 cpus")
    assert "lastUnusedOffers" not in (await rest.get("/v2/queue"))["queue"][0]
    (item,) = (await rest.get("/v2/queue?embed=lastUnusedOffers"))["queue"]
    (unused,) = item["lastUnusedOffers"]
    assert unused["reason"] == ["InsufficientCpus"]
    assert unused["timestamp"] == item["processedOffersSummary"]["lastUnusedOfferAt"]
    offer = unused["offer"]
    assert (offer["hostname"], offer["agentId"]) == ("127.0.0.1", "127.0.0.1")
    resources = {resource["name"]: resource for resource in offer["resources"]}
    assert {name: resources[name]["scalar"] for name in ("cpus", "mem", "gpus")} == {
        "cpus": 4,
        "mem": 65436,
        "gpus": 0,
    }
    free = resources["ports"]["ranges"]
    held = [any(each["begin"] <= port <= each["end"] for each in free) for port in task["ports"]]
    assert held == [False, False]
    first, last = backend.ports
    assert sum(each["end"] - each["begin"] + 1 for each in free) == last - first + 1 - 2


def test_what_is_left_of_a_range_is_ranges() -> None:
    for taken, left in (
        (set(), [(5, 9)]),
        ({5}, [(6, 9)]),
        ({9}, [(5, 8)]),
        ({6, 7}, [(5, 5), (8, 9)]),
        ({5, 6, 7, 8, 9}, []),
        ({4, 10}, [(5, 9)]),
    ):
        assert [(each.begin, each.end) for each in free_ranges(5, 9, taken)] == left

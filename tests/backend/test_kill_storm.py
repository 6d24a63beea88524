"""Backend, launcher or both are killed 200 times under load: nothing is lost, doubled or left over."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path

import pytest
from ports import hub_ports
from rest import eventually
from storm import PORTS, Storm, leftovers, storm_backend

# Two storms at once: where one waits the other one works.
ROUNDS = int(os.environ.get("HUBFLEET_KILL_ROUNDS", "200")) // 2

pytestmark = [pytest.mark.long, pytest.mark.timeout(9 * ROUNDS)]


async def test_nothing_is_lost_in_a_storm_of_kills(tmp_path: Path) -> None:
    seeds = [secrets.randbits(32) for _ in range(2)]
    print(f"seeds {seeds}, {2 * ROUNDS} rounds")
    # Every port of theirs must be free, so they are of a range that no hub of another test is given.
    first_port = int(hub_ports().partition("-")[0])
    forked = await asyncio.gather(
        *(
            _storm(tmp_path / str(number), first_port + PORTS * number, seed)
            for number, seed in enumerate(seeds)
        )
    )
    assert sum(forked) > 0, "tasks that a template could fork were executed, all of them"


async def _storm(place: Path, first_port: int, seed: int) -> int:
    place.mkdir()
    backend = storm_backend(place / "state", first_port)
    try:
        storm = Storm(backend, seed)
        await storm.rounds(ROUNDS)
        changes = sum((person.changes for person in storm.people), start=type(storm.kills)())
        told = f"kills {dict(storm.kills)}, changes {dict(changes)}, {storm.forked} tasks forked"
        print(f"seed {seed}: {told}")
        for app in (await storm.rest.get("/v2/apps"))["apps"]:
            await storm.rest("DELETE", f"/v2/apps{app['id']}")
        await storm.rest.deployed()
        await backend.stop()
        await eventually(lambda: asyncio.sleep(0, not leftovers(backend)))
        return storm.forked
    finally:
        await backend.destroy()

"""The hub is killed at random moments while people start and stop servers: nothing is lost or doubled."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest
from conftest import WarmBackend
from hub_storm import HubStorm
from stand_in import stand_in_command
from warm_hub import WarmHub

ROUNDS = int(os.environ.get("HUBFLEET_HUB_KILL_ROUNDS", "12"))

pytestmark = [pytest.mark.long, pytest.mark.timeout(60 * ROUNDS)]


async def test_nothing_is_lost_whenever_the_hub_is_killed(
    tmp_path: Path, port_range: tuple[int, int]
) -> None:
    seed = int(os.environ.get("HUBFLEET_HUB_KILL_SEED") or secrets.randbits(32))
    print(f"seed {seed}, {ROUNDS} rounds")
    backend = WarmBackend(tmp_path / "state", port_range)
    hub = WarmHub(
        tmp_path / "hub", backend, stand_in_command(tmp_path), "c.MarathonSpawner.leftover_grace = 1"
    )
    try:
        storm = HubStorm(hub, backend, seed)
        await storm.rounds(ROUNDS)
        changes = sum((user.changes for user in storm.users), start=type(storm.kills)())
        print(f"seed {seed}: kills {dict(storm.kills)}, changes {dict(changes)}")
    finally:
        await hub.destroy()
        await backend.destroy()

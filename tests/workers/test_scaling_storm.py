"""A storm of scalings under load, over a bad API: nothing is lost, nothing is computed twice."""

from __future__ import annotations

import os
import random
import secrets
from pathlib import Path
from typing import Any

import pytest
from bad_api import BadApi
from scaling_storm import ScalingStorm

from hubfleet.workers import MarathonCluster

pytestmark = pytest.mark.long

ROUNDS = int(os.environ.get("HUBFLEET_SCALINGS", "60"))
SEED = int(os.environ.get("HUBFLEET_SEED", "0")) or secrets.randbits(32)
# The 5 s that a busy API takes, at a twentieth.
DELAY_SECONDS = 0.25


async def test_random_scalings_lose_nothing_and_compute_nothing_twice(
    backend: Any, arguments: dict[str, Any], tmp_path: Path
) -> None:
    print(f"seed {SEED}, {ROUNDS} scalings")
    folder = tmp_path / "runs"
    folder.mkdir()
    async with (
        BadApi(backend.url, random.Random(SEED)).serving() as api,
        MarathonCluster(**{**arguments, "url": api.url}) as cluster,
    ):
        api.delay, api.refuses, api.loses = DELAY_SECONDS, 0.05, 0.03
        storm = ScalingStorm(cluster, api, folder, SEED)
        try:
            await storm.rounds(ROUNDS)
        finally:
            api.delay = api.refuses = api.loses = 0.0
            print(f"seed {SEED}: {dict(storm.asked)}, {storm.submitted} results, API {dict(api.counts)}")

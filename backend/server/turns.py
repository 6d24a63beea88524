"""Long work for one caller is done in turns, between which others are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

TURN_SECONDS = 0.01
"""How long is worked for one caller before others have their turn."""


async def in_turns(items: Iterable[T]) -> list[T]:
    """Return what an iterable yields, whose making is the work; others change things meanwhile."""
    loop = asyncio.get_running_loop()
    found = []
    turn_ends = loop.time() + TURN_SECONDS
    for item in items:
        found.append(item)
        if loop.time() >= turn_ends:
            await asyncio.sleep(0)
            turn_ends = loop.time() + TURN_SECONDS
    return found

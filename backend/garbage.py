"""Python's collector of cycles, kept from stopping the backend for longer the more it knows.

Each time the objects of a process have grown by a quarter the collector looks at all of them: with 10,000
apps for a third of a second, in which nobody is answered. What the backend knows is in no cycles, and goes
when nothing refers to it any more. So what has been looked at once is passed over from then on, and only
now and then, at one go, is everything looked at again. Nor is anything looked at while the backend reads
what it knows, which took twice as long as the reading.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

_WHOLE_SECONDS = 3600.0
"""Between two looks at everything: connections that have lived long may leave cycles behind."""

_OLDEST = 2
"""The generation whose collection looks at everything, also at what outlived former collections."""


@contextmanager
def put_off() -> Iterator[None]:
    """Let the collector do nothing while much is made that stays, and pass over that from then on."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class Garbage:
    """Lets the collector pass over what it has seen, while it is entered.

    It concerns the whole process: there is one at a time.
    """

    async def __aenter__(self) -> Garbage:
        self._whole = asyncio.create_task(self._look_at_everything())
        gc.callbacks.append(_after)
        gc.collect()
        return self

    async def __aexit__(self, *_: object) -> None:
        gc.callbacks.remove(_after)
        self._whole.cancel()
        gc.unfreeze()

    async def _look_at_everything(self) -> None:
        while True:
            await asyncio.sleep(_WHOLE_SECONDS)
            gc.unfreeze()
            gc.collect()


def _after(phase: str, found: Mapping[str, int]) -> None:
    if phase == "stop" and found["generation"] == _OLDEST:
        gc.freeze()

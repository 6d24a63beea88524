"""What is remembered about tokens, and how many unknown ones are asked about: both within bounds."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from .access import TooManyUnknown

_ALL_ADDRESSES = 10
"""How many times as many guesses come from all addresses as from one."""

_MOST_ADDRESSES = 10_000

V = TypeVar("V")


class Remembered(Generic[V]):
    """The latest of some values, each for a while.

    Parameters
    ----------
    most
        How many; the oldest go first.
    seconds
        How long each is kept.
    clock
        Seconds that only grow.
    """

    def __init__(self, most: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._values: OrderedDict[str, tuple[float, V]] = OrderedDict()

    def get(self, key: str) -> V | None:
        """Return what is remembered, or None."""
        found = self._values.get(key)
        return found[1] if found is not None and self._clock() < found[0] else None

    def put(self, key: str, value: V) -> None:
        """Remember a value from now on."""
        self._values.pop(key, None)
        self._values[key] = self._clock() + self._seconds, value
        while len(self._values) > self._most:
            self._values.popitem(last=False)


class _Bucket:
    """Room for so many, filled again within a minute."""

    def __init__(self, size: int, now: float) -> None:
        self._size = size
        self.left = float(size)
        self._at = now

    def fill(self, now: float) -> None:
        self.left = min(self._size, self.left + (now - self._at) * self._size / 60)
        self._at = now

    def seconds_to_one(self) -> float:
        return max(0.0, 1 - self.left) * 60 / self._size


class Guesses:
    """How many unknown tokens may still be asked about, by address and in all.

    Parameters
    ----------
    per_minute
        From one address; at once, and then as many again within a minute.
    clock
        Seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._all = _Bucket(_ALL_ADDRESSES * per_minute, clock())
        self._by_address: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, address: str) -> None:
        """Use one.

        Raises
        ------
        TooManyUnknown
            There is none left.
        """
        now = self._clock()
        bucket = self._by_address.pop(address, None) or _Bucket(self._per_minute, now)
        self._by_address[address] = bucket
        while len(self._by_address) > _MOST_ADDRESSES:
            self._by_address.popitem(last=False)
        for each in (bucket, self._all):
            each.fill(now)
        if (wait := max(bucket.seconds_to_one(), self._all.seconds_to_one())) > 0:
            raise TooManyUnknown(math.ceil(wait))
        for each in (bucket, self._all):
            each.left -= 1

    def give_back(self, address: str) -> None:
        """Undo one: the token was no guess."""
        for bucket in (self._by_address.get(address), self._all):
            if bucket is not None:
                bucket.left += 1

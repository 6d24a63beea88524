"""The collector of cycles: what it has seen is passed over, and yet nothing is kept for ever."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from hubfleet.backend import garbage
from hubfleet.backend.garbage import Garbage, put_off


class Knot:
    def __init__(self) -> None:
        self.self = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    assert gc.get_freeze_count() == 0, "the process is left as it was"
    gc.collect()


async def test_what_was_seen_is_not_looked_at_again() -> None:
    async with Garbage():
        old = Knot()
        gc.collect()
        assert all(each is not old for each in gc.get_objects())
        seen, young = weakref.ref(old), weakref.ref(Knot())
        del old
        gc.collect()
        assert young() is None, "what is new is collected as ever"
        assert seen() is not None, "what was seen already is not, until all of it is"


def test_what_is_read_at_the_start_is_not_looked_at_while_it_is_read_nor_later() -> None:
    try:
        with put_off():
            assert not gc.isenabled()
            known = Knot()
        assert gc.isenabled()
        assert all(each is not known for each in gc.get_objects())
    finally:
        gc.unfreeze()
    with pytest.raises(OSError, match="no disk"), put_off():
        raise OSError("no disk")
    assert gc.isenabled()
    gc.unfreeze()


async def test_now_and_then_everything_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "_WHOLE_SECONDS", 0.01)
    async with Garbage():
        old = Knot()
        gc.collect()
        seen = weakref.ref(old)
        del old
        async with asyncio.timeout(60):
            while seen() is not None:
                await asyncio.sleep(0.01)

"""Calls that block in a script, and are awaited in a coroutine, as those of distributed's own classes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from distributed.utils import LoopRunner, sync

T = TypeVar("T")


class Either:
    """Runs coroutines for callers of both kinds.

    Parameters
    ----------
    asynchronous
        True for callers who await, False for those who block, from whatever thread; None to find out
        at the first call: who calls from a running event loop, as a coroutine and a cell of a notebook
        do, awaits.
    """

    def __init__(self, asynchronous: bool | None) -> None:
        self._asynchronous = asynchronous
        self._runner: LoopRunner | None = None

    def run(self, function: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> Any:
        """Call a coroutine function; return its result, or the coroutine to those who await."""
        running = _running_loop()
        if self._asynchronous is None:
            self._asynchronous = running is not None
        if self._asynchronous:
            return function(*arguments)
        if self._runner is None:
            self._runner = LoopRunner(asynchronous=False)
            self._runner.start()
        if running is self._runner.loop.asyncio_loop:
            return function(*arguments)
        return sync(self._runner.loop, function, *arguments)

    def end(self) -> None:
        """Let go of the thread that works for callers who block; the next call has another one."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.stop()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

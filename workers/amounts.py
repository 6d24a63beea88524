"""From amounts of cores and memory to numbers of workers. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dask.utils import parse_bytes

from .checks import MOST_WORKERS, real_number, whole_number
from .options import WorkerOptions

BOUNDS = ("minimum_cores", "maximum_cores", "minimum_memory", "maximum_memory")
"""The bounds of ``adapt`` that are amounts, as in distributed's own clusters."""


def size_of(options: WorkerOptions) -> tuple[int, int]:
    """Return what one worker brings: threads, and bytes of memory."""
    return options.nthreads, options.memory_limit


def workers_wanted(options: WorkerOptions, n: Any, cores: Any, memory: Any) -> int:
    """Return the number of workers that has at least all that is asked for.

    Parameters
    ----------
    options
        What one worker is.
    n, cores, memory
        A number of workers, of threads, and an amount of memory (bytes, or a text such as
        ``"10 GB"``); None is not asked for.

    Raises
    ------
    TypeError, ValueError
        Nothing is asked for, or something that is no such amount.
    """
    if n is None and cores is None and memory is None:
        raise TypeError("scale needs a number of workers, cores=... or memory=..., such as scale(4)")
    threads, size = size_of(options)
    wanted = [0 if n is None else whole_number("the number of workers", n, 0, MOST_WORKERS)]
    if cores is not None:
        wanted.append(math.ceil(real_number("cores", cores, 0) / threads))
    if memory is not None:
        wanted.append(math.ceil(_bytes("memory", memory) / size))
    return whole_number("the number of workers", max(wanted), 0, MOST_WORKERS)


def with_bounds_in_workers(options: WorkerOptions, bounds: Mapping[str, Any]) -> dict[str, Any]:
    """Return bounds of ``adapt`` with those that are amounts turned into numbers of workers.

    Of two lower bounds the higher holds, of two upper bounds the lower.

    Raises
    ------
    TypeError, ValueError
        An amount is none, or an upper bound is less than one worker, or than the workers of one task.
    """
    given = {name: value for name, value in bounds.items() if value is not None}
    amounts = {name: given.pop(name) for name in BOUNDS if name in given}
    threads, size = size_of(options)
    for name, amount in amounts.items():
        side, _, what = name.partition("_")
        if what == "cores":
            number, one = real_number(name, amount, 0), threads
        else:
            number, one = _bytes(name, amount), size
        if side == "minimum":
            least = math.ceil(number / one)
            given[side] = max(least, _checked(side, given.get(side, 0)))
        else:
            if 0 < number < one:
                has = f"{threads} threads" if what == "cores" else f"{size} bytes of memory"
                raise ValueError(f"{name} must be 0 or at least one worker, which has {has}; got {amount!r}")
            most = math.floor(number / one)
            given[side] = min(most, _checked(side, given.get(side, most)))
    most = given.get("maximum", math.inf)
    if isinstance(most, int) and 0 < most < options.nworkers:
        raise ValueError(
            f"maximum must be 0 or at least the {options.nworkers} workers that come and go together "
            f"(nworkers); got {most}"
        )
    return given


def _checked(side: str, value: Any) -> Any:
    unbounded = isinstance(value, float) and value == math.inf
    return value if unbounded else whole_number(side, value, 0, MOST_WORKERS)


def _bytes(name: str, value: Any) -> float:
    wanted = f"{name} must be a number of bytes, or a text such as '10 GB'"
    if isinstance(value, str):
        try:
            value = parse_bytes(value)
        except ValueError:
            raise ValueError(f"{wanted}; got {value!r}") from None
    elif isinstance(value, bool):
        raise TypeError(f"{wanted}; got {value!r}")
    return real_number(name, value, 0, "bytes")

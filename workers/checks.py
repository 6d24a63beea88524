"""Checks of what a person passes in; each refusal is a sentence that says what would be taken."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from dask.utils import parse_timedelta

MOST_WORKERS = 10_000
"""More than this in one cluster is taken for a slip: a single scheduler does not carry them."""


def whole_number(name: str, value: Any, least: int, most: int) -> int:
    """Return a whole number within its limits; NumPy's are welcome, booleans and 2.0 are not.

    Raises
    ------
    TypeError
        It is not a whole number.
    ValueError
        It is too small or too large.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name} must be a whole number from {least} to {most}, got {_shown(value)}"
        ) from None
    if not least <= number <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, got {number}")
    return number


def real_number(name: str, value: Any, least: float, unit: str = "") -> float:
    """Return a finite number not below its least value.

    Raises
    ------
    TypeError
        It is not a number.
    ValueError
        It is too small, infinite or not a number.
    """
    wanted = f"{name} must be a number{' of ' + unit if unit else ''}, at least {least:g}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{wanted}; got {_shown(value)}")
    number = float(value)
    if not math.isfinite(number) or number < least:
        raise ValueError(f"{wanted}; got {number:g}")
    return number


def duration(name: str, value: Any, least: float) -> float:
    """Return a time in seconds, given as a number or as Dask's texts such as ``"5 minutes"``.

    Raises
    ------
    TypeError
        It is no time.
    ValueError
        It is not understood, too short or infinite.
    """
    wanted = f"{name} must be a time such as '1s' or a number of seconds, at least {least:g}"
    if isinstance(value, bool) or not isinstance(value, str | int | float | timedelta):
        raise TypeError(f"{wanted}; got {value!r}")
    try:
        seconds = float(parse_timedelta(value, "seconds"))
    except (ValueError, KeyError):
        raise ValueError(f"{wanted}; got {value!r}") from None
    if not least <= seconds < math.inf:
        raise ValueError(f"{wanted}; got {value!r}")
    return seconds


def truth(name: str, value: Any) -> bool:
    """Return a truth value, and nothing that merely could be taken for one.

    Raises
    ------
    TypeError
        It is none.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {_shown(value)}")
    return value


def text(name: str, value: Any) -> str:
    """Return a text that is not empty.

    Raises
    ------
    TypeError
        It is no text.
    ValueError
        It is empty.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, got {_shown(value)}")
    if not value.strip():
        raise ValueError(f"{name} must not be empty; leave it out for the default")
    return value


def texts(name: str, value: Any) -> dict[str, str]:
    """Return a mapping from texts to texts, as a dictionary of its own.

    Raises
    ------
    TypeError
        It is not such a mapping.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dictionary of texts, got {_shown(value)}")
    for key, item in value.items():
        if not isinstance(key, str) or not isinstance(item, str):
            # The value is not shown: an environment may hold secrets.
            raise TypeError(
                f"{name} must be a dictionary of texts; of {key!r} the value is {type(item).__name__}"
            )
    return dict(value)


def known_names(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse names of arguments that do not exist, naming the one that was probably meant.

    Raises
    ------
    TypeError
        There is such a name.
    """
    names = sorted(known)
    for name in given:
        if name in names:
            continue
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(names)}"
        raise TypeError(f"{function} has no option {name!r}; {hint}")


def _shown(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"

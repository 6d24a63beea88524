"""What a user may ask of a server, and what they get: checked here whatever way it came.

A form, a query and the REST API all end in ``user_options``, and the REST API stores
what it is sent unlooked at. So nothing is believed before `choose` has read it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

LEAST_CPU = 0.001  # Marathon's own limit (marathon-v2 section 2)
LEAST_MEM = 32.0  # MiB
LEAST_DISK = 1000.0  # MiB


class OptionsRefused(ValueError):
    """The options ask for what is not allowed; the message names each and what is allowed."""


@dataclass(frozen=True)
class Range:
    """One amount: what is given unasked, and what may be asked for."""

    default: float
    least: float
    most: float
    unit: str = ""


@dataclass(frozen=True)
class Offer:
    """All that a user may choose. CPUs and GPUs are counts, memory and disk MiB."""

    cpu: Range
    mem: Range
    disk: Range
    gpu: Range
    image: str = ""
    allowed_images: Sequence[str] = ()


@dataclass(frozen=True)
class Choice:
    """What a server gets. CPUs and GPUs are counts, memory and disk MiB."""

    cpu: float
    mem: float
    disk: float
    gpu: int
    image: str = ""
    force_pull: bool = False


KEYS = frozenset({"cpu", "mem", "disk", "gpu", "image", "force_pull"})


def choose(options: Mapping[str, Any], offer: Offer) -> Choice:
    """Return what a server gets when these options are asked for.

    Absent, None and empty values mean the default. Numbers may come as text, as
    forms and queries send them. Keys of others are not looked at.

    Raises
    ------
    OptionsRefused
        A value is of the wrong type or out of bounds; all such values are named.
    """
    refusals: list[str] = []
    amounts = {
        name: _amount(name, options.get(name), getattr(offer, name), refusals, whole=name == "gpu")
        for name in ("cpu", "mem", "disk", "gpu")
    }
    image = _image(options.get("image"), offer, refusals)
    force_pull = _flag("force_pull", options.get("force_pull"), refusals)
    if refusals:
        raise OptionsRefused(" ".join(refusals))
    return Choice(
        cpu=amounts["cpu"],
        mem=amounts["mem"],
        disk=amounts["disk"],
        gpu=int(amounts["gpu"]),
        image=image,
        force_pull=force_pull,
    )


def _absent(value: Any) -> bool:
    return value is None or value == ""


def _amount(name: str, asked: Any, allowed: Range, refusals: list[str], whole: bool) -> float:
    if _absent(asked):
        return allowed.default
    unit = f" {allowed.unit}" if allowed.unit else ""
    bounds = f"allowed is {_plain(allowed.least)} to {_plain(allowed.most)}{unit}"
    if allowed.most < allowed.least:
        bounds = "none is offered here"
    elif allowed.most == allowed.least:
        bounds = f"allowed is {_plain(allowed.most)}{unit} only"
    number = _number(asked)
    if number is None or (whole and not number.is_integer()):
        kind = "a whole number" if whole else "a number"
        refusals.append(f"The option {name!r} is {kind}, got {asked!r}; {bounds}.")
    elif not allowed.least <= number <= allowed.most:
        refusals.append(f"The option {name!r} asks for {_plain(number)}{unit}; {bounds}.")
    else:
        return number
    return allowed.default


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _plain(number: float) -> str:
    return f"{number:.12g}"


def _flag(name: str, asked: Any, refusals: list[str]) -> bool:
    if _absent(asked):
        return False
    if isinstance(asked, bool):
        return asked
    if isinstance(asked, str) and asked.lower() in {"true", "on", "false"}:
        return asked.lower() != "false"
    refusals.append(f"The option {name!r} is true or false, got {asked!r}.")
    return False


def _image(asked: Any, offer: Offer, refusals: list[str]) -> str:
    if _absent(asked) or asked == offer.image:
        return offer.image
    if not isinstance(asked, str):
        refusals.append(f"The option 'image' is the name of an image, got {asked!r}.")
    elif not any(fnmatchcase(asked, pattern) for pattern in offer.allowed_images):
        offered = [name for name in (offer.image, *offer.allowed_images) if name]
        listed = f"allowed is {', '.join(offered)}" if offered else "no image may be chosen here"
        refusals.append(
            f"The option 'image' asks for {asked!r}; {listed}. "
            "An administrator can add to c.MarathonSpawner.allowed_images."
        )
    else:
        return asked
    return offer.image

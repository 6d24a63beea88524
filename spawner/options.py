"""What a user may ask of a server, and what they get: checked here whatever way it came.

A form, a query and the REST API all end in ``user_options``, and the REST API stores
what it is sent unlooked at. So nothing is believed before `choose` has read it.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

LEAST_CPU = 0.001  # Marathon's own limit (marathon-v2 section 2)
LEAST_MEM = 32.0  # MiB
LEAST_DISK = 1000.0  # MiB

AMOUNTS = ("cpu", "mem", "disk", "gpu")
KEYS = frozenset({*AMOUNTS, "image", "force_pull"})
FORMER_KEYS = {"app_image": "image", "force_pull_image": "force_pull"}
"""Names under which older forms sent an option, and what it is called here."""

MOST_TEXT = 255  # characters of an image's name or a free choice
_MOST_DIGITS = 40

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80


@dataclass(frozen=True)
class Refusal:
    """Why one option is refused: its key in ``user_options``, and a sentence for the user."""

    option: str
    message: str


class OptionsRefused(ValueError):
    """The options ask for what is not allowed; the message names each and what is allowed."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__(" ".join(refusal.message for refusal in refusals))
        self.refusals = tuple(refusals)


@dataclass(frozen=True)
class Range:
    """One amount: what is given unasked, and what may be asked for."""

    default: float
    least: float
    most: float
    unit: str = ""

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.most < self.least:
            return "none is offered here"
        if self.most == self.least:
            return f"allowed is {plain(self.most)}{unit} only"
        return f"allowed is {plain(self.least)} to {plain(self.most)}{unit}"


@dataclass(frozen=True)
class Offer:
    """All that a user may choose. CPUs and GPUs are counts, memory and disk MiB.

    Parameters
    ----------
    allowed_images
        Name shown to people -> image, or pattern of images.
    options
        The keys that may be asked for at all.
    ignored
        Keys that are let through unlooked at, for the site's own hooks.
    """

    cpu: Range
    mem: Range
    disk: Range
    gpu: Range
    image: str = ""
    allowed_images: Mapping[str, str] = field(default_factory=dict)
    options: Collection[str] = KEYS
    ignored: Collection[str] = ()


@dataclass(frozen=True)
class Choice:
    """What a server gets. CPUs and GPUs are counts, memory and disk MiB."""

    cpu: float
    mem: float
    disk: float
    gpu: int
    image: str = ""
    force_pull: bool = False


def choose(options: Mapping[str, Any], offer: Offer, others: Collection[str] = ()) -> Choice:
    """Return what a server gets when these options are asked for.

    Absent, None and empty values mean the default. Numbers may come as text, as
    forms and queries send them.

    Parameters
    ----------
    others
        Keys that may be asked for as well, but were read before; for the message about a key that
        is not known.

    Raises
    ------
    OptionsRefused
        A key is not known, or a value is of the wrong type or out of bounds; all are named.
    """
    refusals: list[Refusal] = []
    asked: dict[str, Any] = {}
    for given, value in options.items():
        key = FORMER_KEYS.get(given, given)
        if key in offer.options and key not in asked:
            asked[key] = value
        elif key not in offer.ignored:
            refusals.append(_unknown(given, [*others, *offer.options], twice=key in asked))
    amounts = {
        name: _amount(name, asked.get(name), getattr(offer, name), refusals, whole=name == "gpu")
        for name in AMOUNTS
    }
    image = _image(asked.get("image"), offer, refusals)
    force_pull = _flag("force_pull", asked.get("force_pull"), refusals)
    if refusals:
        raise OptionsRefused(refusals)
    return Choice(
        cpu=amounts["cpu"],
        mem=amounts["mem"],
        disk=amounts["disk"],
        gpu=int(amounts["gpu"]),
        image=image,
        force_pull=force_pull,
    )


def check_within(taken: Offer, limits: Offer, asked: str) -> None:
    """Refuse a free choice that gives more than could be had without it.

    Parameters
    ----------
    taken
        What the server is offered with the free choice.
    limits
        What it would be offered without.
    asked
        The key of the free choice.

    Raises
    ------
    OptionsRefused
        An amount, or the bound of one, or the image is beyond the limits.
    """
    refusals: list[Refusal] = []
    for name in AMOUNTS:
        given, allowed = getattr(taken, name), getattr(limits, name)
        beyond = [
            amount
            for amount, usual in ((given.default, allowed.default), (given.most, allowed.most))
            if amount != usual and not min(allowed.least, usual) <= amount <= max(allowed.most, usual)
        ]
        if beyond:
            refusals.append(
                Refusal(asked, f"The choice of {asked!r} gives {plain(beyond[0])} as {name}; {allowed}.")
            )
    if taken.image != limits.image and limits.allowed_images:
        _image(taken.image, limits, refusals, asked)
    if refusals:
        raise OptionsRefused(refusals)


def shown(value: Any) -> str:
    """Return a value as it can stand in a sentence, however long it is."""
    return _repr.repr(value)


def plain(number: float) -> str:
    """Return a number as people write it."""
    return f"{number:.12g}"


def absent(value: Any) -> bool:
    """Whether a value means that nothing is asked: JSON has null for it, a form's empty field a text."""
    return value is None or value == ""


def is_text(value: Any) -> bool:
    """Whether a value is one line of printable text, not too long."""
    return isinstance(value, str) and len(value) <= MOST_TEXT and value.isprintable()


def _unknown(key: Any, allowed: Collection[str], twice: bool) -> Refusal:
    if twice:
        return Refusal(str(key), f"The option {shown(key)} is given twice, under two names; send one.")
    names = ", ".join(sorted(allowed))
    may = f"allowed are {names}" if names else "none may be chosen"
    return Refusal(
        str(key),
        f"There is no option {shown(key)} here; {may}. An administrator can let it through to hooks of the "
        "hub by c.MarathonSpawner.ignored_options.",
    )


def _amount(name: str, asked: Any, allowed: Range, refusals: list[Refusal], whole: bool) -> float:
    if absent(asked):
        return allowed.default
    unit = f" {allowed.unit}" if allowed.unit else ""
    number = _number(asked)
    if number is None or (whole and not number.is_integer()):
        kind = "a whole number" if whole else "a number"
        refusals.append(Refusal(name, f"The option {name!r} is {kind}, got {shown(asked)}; {allowed}."))
    elif not allowed.least <= number <= allowed.most:
        refusals.append(Refusal(name, f"The option {name!r} asks for {plain(number)}{unit}; {allowed}."))
    else:
        return number
    return allowed.default


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and len(value) > _MOST_DIGITS:
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _flag(name: str, asked: Any, refusals: list[Refusal]) -> bool:
    if absent(asked):
        return False
    if isinstance(asked, bool):
        return asked
    if isinstance(asked, str) and asked.lower() in {"true", "on", "false"}:
        return asked.lower() != "false"
    refusals.append(Refusal(name, f"The option {name!r} is true or false, got {shown(asked)}."))
    return False


def _image(asked: Any, offer: Offer, refusals: list[Refusal], option: str = "image") -> str:
    if absent(asked) or asked == offer.image:
        return offer.image
    if not is_text(asked) or (" " in asked and asked not in offer.allowed_images):
        what = f"The option {option!r} is the name of an image, got {shown(asked)}."
        refusals.append(Refusal(option, what))
        return offer.image
    if asked in offer.allowed_images and not is_pattern(offer.allowed_images[asked]):
        return offer.allowed_images[asked]
    if any(fnmatchcase(asked, pattern) for pattern in offer.allowed_images.values()):
        return str(asked)
    offered = [name for name in (offer.image, *offer.allowed_images) if name]
    listed = f"allowed is {', '.join(offered)}" if offered else "no image may be chosen here"
    refusals.append(
        Refusal(
            option,
            f"The option {option!r} asks for {shown(asked)}; {listed}. "
            "An administrator can add to c.MarathonSpawner.allowed_images.",
        )
    )
    return offer.image


def is_pattern(image: str) -> bool:
    """Whether an entry of the allowed images stands for more than one image."""
    return any(character in image for character in "*?[")

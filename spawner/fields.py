"""The fields of the page: which there are, what they say, and what stands in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .options import FORMER_KEYS, MOST_TEXT, Offer, Range, is_pattern, plain
from .profiles import SEPARATOR, UNLISTED, Option, Profile
from .selection import PREFIX, UNLISTED_SUFFIX

_MIB_IN_GIB = 1024
_AMOUNTS = {"cpu": "CPUs", "mem": "Memory (MiB)", "disk": "Disk (MiB)", "gpu": "GPUs"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field: ``kind`` is number, text, select or checkbox.

    Parameters
    ----------
    option
        Its key in ``user_options``.
    value
        What stands in it, or is selected or checked.
    choices
        Of a select: (value, text). Of a text: what the browser proposes.
    least, most
        Of a number: what the browser refuses by itself; empty where that depends on other fields.
    other_of
        Id of the select that this text belongs to.
    """

    option: str
    id: str
    name: str
    label: str
    kind: str
    value: str = ""
    hint: str = ""
    error: str = ""
    choices: tuple[tuple[str, str], ...] = ()
    least: str = ""
    most: str = ""
    step: str = "any"
    placeholder: str = ""
    other_of: str = ""
    longest: int = MOST_TEXT

    @property
    def described_by(self) -> str:
        """The ids of the texts that explain it."""
        parts = [("hint", self.hint), ("error", self.error)]
        return " ".join(f"{self.id}{SEPARATOR}{part}" for part, text in parts if text)


def anchor(slug: str = "", option: str = "") -> str:
    """Return the id of an element of the page; no two have the same, as no slug has the separator."""
    return SEPARATOR.join(["hubfleet", *([slug] if slug else []), *([option] if option else [])])


def profile_fields(profile: Profile, options: Mapping[str, Any], wrong: Mapping[str, str]) -> list[Field]:
    """Return the fields of a profile's own options."""
    fields = []
    for key, option in profile.profile_options.items():
        if option.choices:
            fields.append(_select(profile, key, option, options, wrong))
        if option.unlisted_choice.enabled:
            fields.append(_free(profile, key, option, options, wrong))
    return fields


def fields_of(
    offer: Offer, options: Mapping[str, Any], wrong: Mapping[str, str], profile: Profile | None = None
) -> list[Field]:
    """Return the fields of the single amounts that are offered, where there is something to choose."""
    options = {FORMER_KEYS.get(key, key): value for key, value in options.items()}
    slug, prefix = (profile.slug, f"{PREFIX}{profile.slug}{SEPARATOR}") if profile else ("", "")
    own = set(profile.profile_options) if profile else set()
    # The choices of a profile may move the bounds, which the browser does not know of.
    bounded = profile is None or not profile.profile_options
    has_image = bool(offer.image or offer.allowed_images)
    fields = []

    def add(option: str, **rest: Any) -> None:
        fields.append(
            Field(
                option=option,
                id=anchor(slug, option),
                name=prefix + option,
                value=_text(options.get(option)),
                error=wrong.get(option, ""),
                **rest,
            )
        )

    for option, label in _AMOUNTS.items():
        amount: Range = getattr(offer, option)
        shown = option in offer.options and option not in own and amount.least < amount.most
        if shown and (option != "disk" or has_image):
            add(
                option,
                kind="number",
                label=label,
                hint=_bounds(amount),
                placeholder=plain(amount.default),
                least=plain(amount.least) if bounded else "",
                most=plain(amount.most) if bounded else "",
                step="1" if option == "gpu" else "any",
            )
    if "image" in offer.options and "image" not in own and offer.allowed_images:
        names = tuple((name, name) for name, image in offer.allowed_images.items() if not is_pattern(image))
        first = f"The usual one ({offer.image})" if offer.image else "None"
        if len(names) == len(offer.allowed_images):
            add("image", kind="select", label="Image", choices=(("", first), *names))
        else:
            images = offer.allowed_images.items()
            allowed = ", ".join(name if name == image else f"{name} ({image})" for name, image in images)
            hint = f"Allowed: {allowed}. If it is left empty: {offer.image or 'none'}."
            add("image", kind="text", label="Image", choices=names, hint=hint)
    if "force_pull" in offer.options and "force_pull" not in own and has_image:
        add("force_pull", kind="checkbox", label="Fetch the image again, even if the machine has it")
    return fields


def in_words(offer: Offer) -> str:
    """Return what a server gets unasked, such as ``2 CPUs, 4 GiB of memory``."""
    parts = [_count(offer.cpu.default, "CPU"), f"{_mib(offer.mem.default)} of memory"]
    if offer.disk.default:
        parts.append(f"{_mib(offer.disk.default)} of disk")
    if offer.gpu.default:
        parts.append(_count(offer.gpu.default, "GPU"))
    return ", ".join(parts)


def _select(
    profile: Profile, key: str, option: Option, options: Mapping[str, Any], wrong: Mapping[str, str]
) -> Field:
    choices = [(value, choice.display_name) for value, choice in option.choices.items()]
    if option.unlisted_choice.enabled:
        choices.append((UNLISTED, option.unlisted_choice.display_name_in_choices))
    asked = _text(options.get(key))
    if options.get(key + UNLISTED_SUFFIX):
        asked = UNLISTED
    return Field(
        option=key,
        id=anchor(profile.slug, key),
        name=f"{PREFIX}{profile.slug}{SEPARATOR}{key}",
        kind="select",
        label=option.display_name,
        hint=option.description,
        value=asked if asked in dict(choices) else option.default or "",
        choices=tuple(choices),
        error=wrong.get(key, ""),
    )


def _free(
    profile: Profile, key: str, option: Option, options: Mapping[str, Any], wrong: Mapping[str, str]
) -> Field:
    free, name = option.unlisted_choice, key + UNLISTED_SUFFIX
    hints = [f"{free.validation_message.rstrip('.')}." if free.validation_message else ""]
    if option.choices:
        hints.append(f"Counts only if “{free.display_name_in_choices}” is chosen.")
    else:
        hints.append(option.description)
    return Field(
        option=name,
        id=anchor(profile.slug, name),
        name=f"{PREFIX}{profile.slug}{SEPARATOR}{name}",
        kind="text",
        label=free.display_name if option.choices else option.display_name,
        value=_text(options.get(name)),
        hint=" ".join(hint for hint in hints if hint),
        error=wrong.get(name, ""),
        other_of=anchor(profile.slug, key) if option.choices else "",
    )


def _text(value: Any) -> str:
    if value is True:
        return "on"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value)[:MOST_TEXT] if isinstance(value, str) else plain(value) if abs(value) < 1e15 else ""


def _bounds(amount: Range) -> str:
    most = plain(amount.most)
    if amount.unit == "MiB":
        most += " MiB"
        if amount.most >= _MIB_IN_GIB:
            most += f" ({plain(round(amount.most / _MIB_IN_GIB, 2))} GiB)"
    return f"From {plain(amount.least)} to {most}. If it is left empty: {plain(amount.default)}."


def _mib(amount: float) -> str:
    in_gib = amount >= _MIB_IN_GIB
    return f"{plain(round(amount / _MIB_IN_GIB, 2))} GiB" if in_gib else f"{plain(amount)} MiB"


def _count(amount: float, what: str) -> str:
    return f"{plain(amount)} {what}" + ("" if amount == 1 else "s")

"""What a user's options mean in terms of the profiles: which one, which of its choices, what is left over."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .options import MOST_TEXT, OptionsRefused, Refusal, absent, is_text, shown
from .profiles import SEPARATOR, UNLISTED, Listed, Option, Profile, Profiles, Unlisted, default_of

PREFIX = "profile-option-"
UNLISTED_SUFFIX = f"{SEPARATOR}{UNLISTED}"

_MATCH_SECONDS = 0.1
_MOST_FORM = 100_000  # characters of a whole form; that of the largest profile list is a tenth of it
_VALUE = re.compile(r"\{value\}")


@dataclass(frozen=True)
class Pick:
    """What is chosen for one option of a profile: a listed choice, or a text of the user's own."""

    key: str
    choice: Listed | Unlisted
    text: str = ""

    @property
    def is_free(self) -> bool:
        """Whether the user wrote it."""
        return isinstance(self.choice, Unlisted)

    @property
    def overrides(self) -> dict[str, Any]:
        """The traits that it sets, and to what."""
        return filled(self.choice.overrides, self.text) if self.is_free else dict(self.choice.overrides)


@dataclass(frozen=True)
class Selection:
    """A profile with what is chosen within it, and the options that are not the profile's."""

    profile: Profile | None
    picks: Sequence[Pick]
    rest: Mapping[str, Any]

    @property
    def keys(self) -> list[str]:
        """The keys that could have been asked for."""
        if self.profile is None:
            return []
        options = self.profile.profile_options.items()
        free = [key + UNLISTED_SUFFIX for key, option in options if option.unlisted_choice.enabled]
        return ["profile", *self.profile.profile_options, *free]


def select(options: Mapping[str, Any], profiles: Profiles) -> Selection:
    """Return the profile that is asked for, or the default one, with its choices.

    Raises
    ------
    OptionsRefused
        The profile or a choice is not offered, or a free choice is not of the form that it must have.
    """
    if not profiles:
        return Selection(None, (), dict(options))
    profile = _profile(options.get("profile"), profiles)
    rest = {key: value for key, value in options.items() if key != "profile"}
    refusals: list[Refusal] = []
    picks = []
    for key, option in profile.profile_options.items():
        pick = _pick(key, option, rest.pop(key, None), rest.pop(key + UNLISTED_SUFFIX, None), refusals)
        if pick is not None:
            picks.append(pick)
    if refusals:
        raise OptionsRefused(refusals)
    return Selection(profile, tuple(picks), rest)


def presets(profile: Profile) -> Selection:
    """Return a profile with what is taken of it unasked."""
    options = profile.profile_options.items()
    picks = [
        Pick(key, option.choices[option.default]) for key, option in options if option.default is not None
    ]
    return Selection(profile, tuple(picks), {})


def options_of_fields(fields: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the options that a form or a query asks for.

    A page without JavaScript sends the fields of every profile; those of the profile that
    is chosen count. A field that came more than once stays a list, which no option takes.

    Raises
    ------
    OptionsRefused
        It is too much for a form, or has files; nothing of it is to be stored.
    """
    size = sum(len(name) + sum(_length(value) for value in values) for name, values in fields.items())
    if size > _MOST_FORM:
        raise OptionsRefused(
            [
                Refusal(
                    "", f"What was sent is larger than this form can be: {_MOST_FORM} characters, no files."
                )
            ]
        )
    profile = fields.get("profile", ())
    own = f"{PREFIX}{profile[0]}{SEPARATOR}" if len(profile) == 1 else None
    found: dict[str, list[Any]] = {}
    for name, values in fields.items():
        key = name
        if name.startswith(PREFIX):
            if own is None or not name.startswith(own):
                continue
            key = name.removeprefix(own)
        found.setdefault(key, []).extend(value for value in values if not absent(value))
    options = {key: values[0] if len(values) == 1 else values for key, values in found.items() if values}
    for key in [key for key in options if key.endswith(UNLISTED_SUFFIX)]:
        listed = key.removesuffix(UNLISTED_SUFFIX)
        if options.get(listed) == UNLISTED:
            del options[listed]
        elif listed in options:
            del options[key]  # written, and then left for a listed choice
    return options


def filled(value: Any, text: str) -> Any:
    """Return overrides with a user's text in the place of every ``{value}``.

    The text is never read as a template: it goes in as it is, in one pass.
    """
    if isinstance(value, str):
        return _VALUE.sub(lambda _: text, value)
    if isinstance(value, Mapping):
        return {filled(key, text): filled(each, text) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [filled(each, text) for each in value]
    return value


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str) else _MOST_FORM + 1


def _profile(asked: Any, profiles: Profiles) -> Profile:
    if absent(asked):
        return default_of(profiles)
    if isinstance(asked, str) and asked in profiles:
        return profiles[asked]
    raise OptionsRefused(
        [Refusal("profile", f"There is no profile {shown(asked)}; allowed are {', '.join(profiles)}.")]
    )


def _pick(key: str, option: Option, asked: Any, text: Any, refusals: list[Refusal]) -> Pick | None:
    free = option.unlisted_choice
    name = f"The option {key!r}"
    if option.display_name.casefold() != key.casefold():
        name += f" ({option.display_name})"
    if not absent(text) or asked == UNLISTED:
        if not free.enabled:
            refusals.append(Refusal(key, f"{name} takes no text; allowed are {', '.join(option.choices)}."))
        elif asked not in (None, "", UNLISTED):
            refusals.append(Refusal(key, f"{name} is asked for twice, by a choice and by a text; send one."))
        elif (message := _wrong(name, free, text)) is not None:
            refusals.append(Refusal(key + UNLISTED_SUFFIX, message))
        else:
            return Pick(key, free, text)
        return None
    if absent(asked):
        if option.default is not None:
            return Pick(key, option.choices[option.default])
        refusals.append(Refusal(key + UNLISTED_SUFFIX, f"{name} has no default: {_form_of(free)}."))
    elif isinstance(asked, str) and asked in option.choices:
        return Pick(key, option.choices[asked])
    else:
        allowed = [*option.choices, *([f"a text as {key + UNLISTED_SUFFIX!r}"] if free.enabled else [])]
        refusals.append(
            Refusal(key, f"{name} has no choice {shown(asked)}; allowed are {', '.join(allowed)}.")
        )
    return None


def _wrong(name: str, free: Unlisted, text: Any) -> str | None:
    """Say what is wrong with a free choice; None if nothing is."""
    if absent(text):
        return f"{name} needs a text: {_form_of(free)}."
    if not is_text(text):
        return f"{name} is one line of text, {MOST_TEXT} characters at most, got {shown(text)}."
    # Both would be read again further down: braces by the hub's templates, ".." by file systems.
    if "{" in text or "}" in text or ".." in re.split(r"[/\\]", text):
        return f"{name} may have neither braces nor '..' as a part of a path, got {shown(text)}."
    if not _matches(free.validation_regex, text):
        return f"{name} cannot be {shown(text)}: {_form_of(free)}."
    return None


def _form_of(free: Unlisted) -> str:
    return free.validation_message.rstrip(".") or f"it has to match {free.validation_regex} as a whole"


def _matches(pattern: str, text: str) -> bool:
    import regex  # only who offers a free choice waits for it

    try:
        return regex.fullmatch(pattern, text, timeout=_MATCH_SECONDS) is not None
    except TimeoutError:
        return False

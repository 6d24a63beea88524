"""`profile_list`, read into checked values: what an administrator offers, in kubespawner's words.

Everything that can be wrong with the list is found here, once, and named for the
administrator; whoever uses the result need not look again.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

UNLISTED = "unlisted-choice"
SEPARATOR = "--"
"""Parts the names in ``profile-option-<slug>--<option>``; no slug and no option's key has it."""

# Anything that names one image, version or branch, and nothing that climbs or splits.
USUAL_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:/@+-]*"

_PLAIN_SLUG = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_SLUG = re.compile(r"[A-Za-z0-9]+(?:[-_.][A-Za-z0-9]+)*")
_LONGEST_SLUG = 63
_HASH_LENGTH = 16  # base32 digits: 80 bits


class ProfilesInvalid(ValueError):
    """The configuration's `profile_list` cannot be used; the message names the place and what is allowed."""


def slug_of(display_name: str) -> str:
    """Return the slug of a profile that has none: two different names never get the same.

    A name that is a slug as it stands is kept. Of every other the readable part is kept
    and a hash of the whole name added, behind an underscore, which no kept name contains.
    """
    if _PLAIN_SLUG.fullmatch(display_name) and len(display_name) <= _LONGEST_SLUG:
        return display_name
    hashed = hashlib.sha256(display_name.encode("utf-8", "surrogatepass")).digest()
    digest = base64.b32encode(hashed).decode("ascii").lower()[:_HASH_LENGTH]
    readable = re.sub(r"[^a-z0-9]+", "-", display_name.lower()).strip("-")
    readable = readable[: _LONGEST_SLUG - 1 - _HASH_LENGTH].strip("-")
    return f"{readable or 'profile'}_{digest}"


def _checked_slug(slug: str) -> str:
    if len(slug) > _LONGEST_SLUG or not _SLUG.fullmatch(slug):
        raise ValueError(
            f"{slug!r} is no slug: letters and digits in groups joined by single '-', '_' or '.', "
            f"{_LONGEST_SLUG} characters at most"
        )
    return slug


def _checked_pattern(pattern: str) -> str:
    import regex  # only who offers a free choice waits for it

    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
    return pattern


Slug = Annotated[str, AfterValidator(_checked_slug)]
Overrides = Annotated[
    dict[str, Any], Field(validation_alias=AliasChoices("overrides", "kubespawner_override"))
]


class _Part(BaseModel):
    # kubespawner's own lists may hold keys for its templates; a misspelt one must not go unseen.
    model_config = ConfigDict(frozen=True, extra="forbid")


class Listed(_Part):
    """A choice of an option that the administrator has listed."""

    display_name: str
    default: bool = False
    overrides: Overrides = {}


class Unlisted(_Part):
    """The free choice of an option: a text of the user's own.

    ``validation_regex`` has to match the whole text, which takes the place of ``{value}`` in ``overrides``.
    """

    enabled: bool = False
    display_name: str = "Other"
    display_name_in_choices: str = "Other..."
    validation_regex: Annotated[str, AfterValidator(_checked_pattern)] = USUAL_PATTERN
    validation_message: str = ""
    overrides: Overrides = {}


class Option(_Part):
    """What a user may choose within a profile."""

    display_name: str
    description: str = ""
    choices: dict[str, Listed] = {}
    unlisted_choice: Unlisted = Unlisted()

    @property
    def default(self) -> str | None:
        """The choice that is taken unasked; None if the user has to write something."""
        return next(
            (key for key, choice in self.choices.items() if choice.default), next(iter(self.choices), None)
        )

    @model_validator(mode="after")
    def _offers_something(self) -> Option:
        if not self.choices and not self.unlisted_choice.enabled:
            raise ValueError("it offers nothing: it needs 'choices', or an 'unlisted_choice' that is enabled")
        if UNLISTED in self.choices or "" in self.choices:
            raise ValueError(f"{UNLISTED!r} and the empty text cannot be the key of a choice")
        return self


class Profile(_Part):
    """One of the kinds of server that are offered."""

    display_name: str
    description: str = ""
    slug: Slug = ""
    default: bool = False
    overrides: Overrides = {}
    profile_options: dict[Slug, Option] = {}

    @model_validator(mode="before")
    @classmethod
    def _slug_of_name(cls, given: Any) -> Any:
        if (
            isinstance(given, Mapping)
            and not given.get("slug")
            and isinstance(given.get("display_name"), str)
        ):
            return {**given, "slug": slug_of(given["display_name"])}
        return given

    @model_validator(mode="after")
    def _parts_have_own_names(self) -> Profile:
        if "profile" in self.profile_options:
            raise ValueError(
                "'profile' cannot be the key of an option; it is what the profile itself is sent as"
            )
        return self


Profiles = Mapping[str, Profile]
"""Slug -> profile, in the order in which they are shown."""

_LIST = TypeAdapter(list[Profile])


def read_profiles(
    given: Sequence[Mapping[str, Any]] | Mapping[str, Mapping[str, Any]], traits: Collection[str]
) -> Profiles:
    """Return the profiles of a `profile_list`.

    Parameters
    ----------
    given
        A list, or a dict of slug -> profile, which is sorted by its keys as in kubespawner.
    traits
        The names that may be overridden.

    Raises
    ------
    ProfilesInvalid
        Something in it cannot be used; everything that is wrong is named.
    """
    if isinstance(given, Mapping):
        given = [{"slug": key, **given[key]} for key in sorted(given)]
    try:
        profiles = _LIST.validate_python(list(given))
    except ValidationError as error:
        raise ProfilesInvalid(" ".join(_sentence(given, each) for each in error.errors())) from error
    read: dict[str, Profile] = {}
    for profile in profiles:
        if profile.slug in read:
            raise ProfilesInvalid(
                f"profile_list has two profiles of the slug {profile.slug!r}; give one of them another."
            )
        read[profile.slug] = profile
        for name in _overridden(profile):
            if name not in traits:
                near = difflib.get_close_matches(name, traits, 1, 0.5)
                hint = f"; is {near[0]!r} meant?" if near else ""
                raise ProfilesInvalid(
                    f"profile_list, {profile.display_name!r}: {name!r} in its overrides is no trait of this "
                    f"spawner that can be configured{hint}"
                )
    return read


def default_of(profiles: Profiles) -> Profile:
    """Return the profile that is taken unasked."""
    return next((each for each in profiles.values() if each.default), next(iter(profiles.values())))


def _overridden(profile: Profile) -> set[str]:
    names = set(profile.overrides)
    for option in profile.profile_options.values():
        names |= set(option.unlisted_choice.overrides)
        names |= {name for choice in option.choices.values() for name in choice.overrides}
    return names


def _sentence(given: Sequence[Mapping[str, Any]], error: Any) -> str:
    first, *rest = error["loc"] or ("",)
    place = f"profile_list[{first}]"
    if isinstance(first, int) and isinstance(given[first], Mapping):
        place += f" ({str(given[first].get('display_name', 'without a display_name'))[:80]!r})"
    path = ".".join(str(part) for part in rest)
    return f"{place}: {path + ': ' if path else ''}{error['msg'].removeprefix('Value error, ')}."

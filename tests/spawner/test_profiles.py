"""What an administrator may write as `profile_list`, and what is said of a mistake in it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubfleet.spawner.profiles import ProfilesInvalid, default_of, read_profiles, slug_of

TRAITS = {"cpu", "mem", "app_image", "environment", "mem_limit"}
OPTION = {"display_name": "Image", "choices": {"a": {"display_name": "A"}}}


@given(st.text(), st.text())
def test_two_names_never_share_a_slug(one: str, other: str) -> None:
    assert (slug_of(one) == slug_of(other)) == (one == other)


@given(st.text())
def test_a_slug_can_neither_climb_nor_be_taken_apart_wrongly(name: str) -> None:
    slug = slug_of(name)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*(_[a-z2-7]{16})?", slug)
    assert len(slug) <= 63


def test_a_name_cannot_be_made_to_meet_the_slug_of_another() -> None:
    assert slug_of("small") == "small"
    made = slug_of("Small!")
    assert made.startswith("small_")
    assert slug_of(made) != made


def test_a_list_written_for_kubespawner_is_read() -> None:
    profiles = read_profiles(
        [
            {
                "display_name": "Demo",
                "description": "<b>bold</b>",
                "slug": "demo-1",
                "default": False,
                "kubespawner_override": {"mem_limit": "1G"},
                "profile_options": {
                    "image": {
                        **OPTION,
                        "unlisted_choice": {
                            "enabled": True,
                            "display_name": "Other image",
                            "validation_regex": "^jupyter/.+:.+$",
                            "validation_message": "Must be an image matching ^jupyter/<name>:<tag>$",
                            "kubespawner_override": {"app_image": "{value}"},
                        },
                    }
                },
            },
            {"display_name": "Second", "default": True},
        ],
        TRAITS,
    )
    assert list(profiles) == ["demo-1", slug_of("Second")]
    assert default_of(profiles).display_name == "Second"
    assert profiles["demo-1"].overrides == {"mem_limit": "1G"}
    assert profiles["demo-1"].profile_options["image"].default == "a"


def test_a_dict_is_sorted_and_its_keys_are_the_slugs() -> None:
    profiles = read_profiles(
        {"02-b": {"display_name": "B"}, "01-a": {"display_name": "A", "slug": "own"}}, TRAITS
    )
    assert list(profiles) == ["own", "02-b"]
    assert default_of(profiles).display_name == "A"


@pytest.mark.parametrize(
    ("profile", "told"),
    [
        ({"description": "nameless"}, r"profile_list\[0\] \('without a display_name'\): display_name: Field"),
        ({"display_name": "X", "slug": "../up"}, r"'../up' is no slug: letters"),
        ({"display_name": "X", "slug": "a--b"}, "'a--b' is no slug"),
        ({"display_name": "X", "slug": "a\n"}, "is no slug"),
        ({"display_name": "X", "slug": "a" * 64}, "63 characters at most"),
        ({"display_name": "X", "overides": {}}, r"'X'\): overides: Extra inputs"),
        (
            {"display_name": "X", "overrides": {"image": "a"}},
            "'image' in its overrides is no trait.*app_image",
        ),
        ({"display_name": "X", "overrides": {"user": "root"}}, "'user' in its overrides is no trait"),
        ({"display_name": "X", "profile_options": {"o": {"display_name": "O"}}}, "it offers nothing"),
        ({"display_name": "X", "profile_options": {"profile": OPTION}}, "'profile' cannot be the key"),
        ({"display_name": "X", "profile_options": {"a--b": OPTION}}, "'a--b' is no slug"),
        (
            {
                "display_name": "X",
                "profile_options": {"o": {**OPTION, "unlisted_choice": {"validation_regex": "("}}},
            },
            r"'\(' is no regular expression",
        ),
        (
            {
                "display_name": "X",
                "profile_options": {
                    "o": {"display_name": "O", "choices": {"unlisted-choice": {"display_name": "U"}}}
                },
            },
            "cannot be the key of a choice",
        ),
        ("text", "profile_list"),
    ],
)
def test_a_mistake_is_named_with_its_place(profile: Any, told: str) -> None:
    with pytest.raises(ProfilesInvalid, match=told):
        read_profiles([profile], TRAITS)


def test_two_profiles_of_one_slug_are_refused() -> None:
    with pytest.raises(ProfilesInvalid, match="two profiles of the slug 'a'"):
        read_profiles([{"display_name": "a"}, {"display_name": "B", "slug": "a"}], TRAITS)

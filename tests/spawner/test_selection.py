"""What options mean in terms of the profiles, whichever way they came."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubfleet.spawner.options import OptionsRefused
from hubfleet.spawner.profiles import read_profiles
from hubfleet.spawner.selection import filled, options_of_fields, select

PROFILES = read_profiles(
    [
        {"display_name": "Small", "slug": "small", "overrides": {"cpu": 0.5}},
        {
            "display_name": "Large",
            "slug": "large",
            "profile_options": {
                "image": {
                    "display_name": "Image",
                    "choices": {
                        "plain": {"display_name": "Plain", "overrides": {"app_image": "site/plain"}},
                        "full": {"display_name": "Full", "overrides": {"app_image": "site/full"}},
                    },
                    "unlisted_choice": {
                        "enabled": True,
                        "validation_regex": r"site/\w+",
                        "validation_message": "An image of site/.",
                        "overrides": {"app_image": "{value}"},
                    },
                },
                "branch": {
                    "display_name": "Branch",
                    "unlisted_choice": {"enabled": True, "overrides": {"environment": {"BRANCH": "{value}"}}},
                },
            },
        },
    ],
    {"cpu", "app_image", "environment"},
)
LARGE = {"profile": "large", "branch--unlisted-choice": "main"}


@pytest.mark.parametrize("options", [{}, {"profile": None}, {"profile": ""}, {"profile": "small"}])
def test_unasked_it_is_the_default_profile(options: dict[str, Any]) -> None:
    assert select(options, PROFILES).profile is PROFILES["small"]


def test_what_is_not_the_profiles_is_left() -> None:
    selection = select({**LARGE, "image": "full", "cpu": 3}, PROFILES)
    assert [pick.overrides for pick in selection.picks] == [
        {"app_image": "site/full"},
        {"environment": {"BRANCH": "main"}},
    ]
    assert selection.rest == {"cpu": 3}
    assert select({"profile": "large"}, {}).rest == {"profile": "large"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"profile": "huge"}, "no profile 'huge'; allowed are small, large"),
        ({"profile": "../small"}, "no profile '../small'"),
        ({"profile": ["small", "large"]}, "no profile"),
        ({"profile": {"slug": "small"}}, "no profile"),
        ({**LARGE, "image": "other"}, "no choice 'other'; allowed are plain, full, a text as"),
        ({**LARGE, "image": ["plain", "full"]}, "no choice"),
        ({**LARGE, "image--unlisted-choice": "evil/root"}, "cannot be 'evil/root': An image of site/"),
        ({**LARGE, "image--unlisted-choice": "site/a\n"}, "one line of text"),
        ({**LARGE, "image--unlisted-choice": "xsite/a"}, "cannot be"),
        ({**LARGE, "image--unlisted-choice": ["site/a"]}, "one line of text"),
        ({**LARGE, "image": "unlisted-choice"}, "needs a text"),
        ({**LARGE, "image": "plain", "image--unlisted-choice": "site/a"}, "asked for twice"),
        ({"profile": "large"}, "has no default: it has to match"),
        ({"profile": "large", "branch--unlisted-choice": "../../etc"}, "as a part of a path"),
        ({"profile": "large", "branch--unlisted-choice": "{username}"}, "neither braces"),
        ({"profile": "large", "branch--unlisted-choice": "a" * 256}, "255 characters at most"),
        ({"profile": "large", "branch--unlisted-choice": "a;rm -rf /"}, "it has to match"),
        ({"profile": "large", "branch": "main"}, "no choice 'main'; allowed are a text as 'branch--unlisted"),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(options: dict[str, Any], told: str) -> None:
    with pytest.raises(OptionsRefused, match=told):
        select(options, PROFILES)


def test_an_expression_that_takes_for_ever_refuses_in_time() -> None:
    option = {
        "display_name": "Slow",
        "unlisted_choice": {"enabled": True, "validation_regex": "(a|a)*(a|aa)*b"},
    }
    profiles = read_profiles([{"display_name": "x", "profile_options": {"slow": option}}], ())
    with pytest.raises(OptionsRefused, match="has to match"):
        select({"slow--unlisted-choice": "a" * 250}, profiles)


def test_a_text_is_put_in_as_it_is_and_never_read_again() -> None:
    overrides = {"environment": {"A": "x{value}y{value}", "{value}": 1}, "args": ["--{value}"], "cpu": 2}
    assert filled(overrides, "{value}") == {
        "environment": {"A": "x{value}y{value}", "{value}": 1},
        "args": ["--{value}"],
        "cpu": 2,
    }
    assert filled("{value.__class__} {0} {{value}}", "a") == "{value.__class__} {0} {a}"


# -- forms and queries ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({}, {}),
        ({"cpu": ["2"], "mem": [""], "force_pull": ["on"]}, {"cpu": "2", "force_pull": "on"}),
        ({"cpu": ["1", "9"]}, {"cpu": ["1", "9"]}),
        (
            {
                "profile": ["large"],
                "profile-option-large--image": ["full"],
                "profile-option-small--cpu": ["9"],
            },
            {"profile": "large", "image": "full"},
        ),
        (
            {"profile": ["large"], "profile-option-large--cpu": ["1"], "cpu": ["2"]},
            {"profile": "large", "cpu": ["1", "2"]},
        ),
        ({"profile": ["a", "b"], "profile-option-a--cpu": ["1"]}, {"profile": ["a", "b"]}),
        (
            {"profile": ["large"], "image": ["unlisted-choice"], "image--unlisted-choice": ["site/a"]},
            {"profile": "large", "image--unlisted-choice": "site/a"},
        ),
        ({"image": ["plain"], "image--unlisted-choice": ["site/a"]}, {"image": "plain"}),
        ({"image": ["unlisted-choice"], "image--unlisted-choice": [""]}, {"image": "unlisted-choice"}),
    ],
)
def test_fields_become_options(fields: dict[str, list[str]], options: dict[str, Any]) -> None:
    assert options_of_fields(fields) == options


@pytest.mark.parametrize(
    "fields",
    [
        {"cpu": ["1" * 100_001]},
        {f"field{number}": ["x"] for number in range(20_000)},
        {"a_file": [{"filename": "a", "body": b"x"}]},
    ],
)
def test_a_form_that_is_too_much_is_refused_as_a_whole(fields: dict[str, Any]) -> None:
    with pytest.raises(OptionsRefused, match="larger than this form can be"):
        options_of_fields(fields)


@given(st.dictionaries(st.text(), st.lists(st.text(), max_size=3), max_size=6))
def test_any_form_is_read_or_refused(fields: dict[str, list[str]]) -> None:
    options = options_of_fields(fields)
    with contextlib.suppress(OptionsRefused):
        assert select(options, PROFILES).profile in PROFILES.values()

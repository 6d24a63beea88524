"""What a user may ask for, and what is said to one who asks for more."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hubfleet.spawner.options import Choice, Offer, OptionsRefused, Range, choose

OFFER = Offer(
    cpu=Range(1, 0.001, 2),
    mem=Range(1024, 32, 4096, "MiB"),
    disk=Range(0, 0, 20000, "MiB"),
    gpu=Range(0, 0, 0),
    image="site/default",
    allowed_images={"quay.io/jupyter/*": "quay.io/jupyter/*", "The tested one": "site/tested:7"},
    ignored=("favourite_colour",),
)
DEFAULT = Choice(cpu=1, mem=1024, disk=0, gpu=0, image="site/default")


@pytest.mark.parametrize(
    "options",
    [{}, {"cpu": None, "mem": "", "image": ""}, {"image": "site/default"}, {"favourite_colour": ["blue"]}],
)
def test_nothing_asked_is_the_default(options: dict[str, Any]) -> None:
    assert choose(options, OFFER) == DEFAULT


def test_what_is_allowed_is_given_also_as_text() -> None:
    asked = {"cpu": "0.5", "mem": 4096, "disk": 20000.0, "gpu": "0", "force_pull": "on"}
    assert choose({**asked, "image": "quay.io/jupyter/scipy:1"}, OFFER) == Choice(
        cpu=0.5, mem=4096, disk=20000, gpu=0, image="quay.io/jupyter/scipy:1", force_pull=True
    )


@pytest.mark.parametrize(
    ("options", "asked", "allowed"),
    [
        ({"cpu": 9999}, "9999", "0.001 to 2"),
        ({"cpu": 0}, "0", "0.001 to 2"),
        ({"cpu": -1}, "-1", "0.001 to 2"),
        ({"cpu": "nan"}, "'nan'", "0.001 to 2"),
        ({"cpu": float("inf")}, "inf", "0.001 to 2"),
        ({"cpu": True}, "True", "a number"),
        ({"cpu": [1]}, r"\[1\]", "a number"),
        ({"cpu": "1e999"}, "1e999", "a number"),
        ({"cpu": 10**400}, "1000", "a number"),
        ({"mem": 67108864}, "67108864 MiB", "32 to 4096 MiB"),
        ({"mem": "much"}, "'much'", "32 to 4096 MiB"),
        ({"mem": {}}, "{}", "a number"),
        ({"disk": 20001}, "20001 MiB", "0 to 20000 MiB"),
        ({"gpu": 1}, "1", "0 only"),
        ({"gpu": 0.5}, "0.5", "a whole number"),
        ({"image": "evil/root:latest"}, "evil/root", "site/default, quay.io/jupyter/"),
        ({"image": "x quay.io/jupyter/a"}, "x quay", "name of an image"),
        ({"image": "quay.io/jupyter/" + 300 * "a"}, "aaa", "name of an image"),
        ({"image": "quay.io/jupyter/a\nb"}, "b", "name of an image"),
        ({"image": "site/tested:8"}, "tested:8", "The tested one"),
        ({"favorite_color": 1}, "'favorite_color'", "cpu, disk, force_pull, gpu, image, mem"),
        ({"app_image": "quay.io/jupyter/a", "image": "quay.io/jupyter/b"}, "'image'|'app_image'", "twice"),
        ({"image": 3}, "3", "name of an image"),
        ({"force_pull": "perhaps"}, "'perhaps'", "true or false"),
        ({"force_pull": 1}, "1", "true or false"),
    ],
)
def test_a_refusal_says_what_was_asked_and_what_is_allowed(
    options: dict[str, Any], asked: str, allowed: str
) -> None:
    with pytest.raises(OptionsRefused, match=asked) as refused:
        choose(options, OFFER)
    assert allowed in str(refused.value)


@pytest.mark.parametrize("image", ["The tested one", "site/tested:7"])
def test_an_image_is_known_by_its_name_and_as_itself(image: str) -> None:
    assert choose({"image": image}, OFFER).image == "site/tested:7"


def test_the_names_of_older_forms_are_understood() -> None:
    choice = choose({"app_image": "site/tested:7", "force_pull_image": True}, OFFER)
    assert (choice.image, choice.force_pull) == ("site/tested:7", True)


def test_what_is_not_offered_is_refused_with_what_is() -> None:
    with pytest.raises(OptionsRefused, match="no option 'cpu' here; allowed are mem, profile"):
        choose({"cpu": 1}, replace(OFFER, options={"mem"}), ["profile"])
    with pytest.raises(OptionsRefused, match="none may be chosen"):
        choose({"cpu": 1}, replace(OFFER, options=()))


def test_a_refusal_is_short_whatever_was_sent() -> None:
    with pytest.raises(OptionsRefused) as refused:
        choose(
            {"cpu": "9" * 10**6, "mem": {"a": ["b" * 10**6] * 9}, "image": "c" * 10**6, "d" * 10**6: 1}, OFFER
        )
    assert len(str(refused.value)) < 2000


def test_all_refusals_are_told_at_once() -> None:
    with pytest.raises(OptionsRefused) as refused:
        choose({"cpu": 3, "mem": 1}, OFFER)
    assert [refusal.option for refusal in refused.value.refusals] == ["cpu", "mem"]
    assert "'cpu'" in str(refused.value)
    assert "'mem'" in str(refused.value)


def test_where_no_image_is_offered_none_may_be_chosen() -> None:
    offer = Offer(OFFER.cpu, OFFER.mem, OFFER.disk, OFFER.gpu)
    with pytest.raises(OptionsRefused, match="no image may be chosen here"):
        choose({"image": "a"}, offer)

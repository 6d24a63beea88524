"""What a user may ask for, and what is said to one who asks for more."""

from __future__ import annotations

from typing import Any

import pytest

from hubfleet.spawner.options import Choice, Offer, OptionsRefused, Range, choose

OFFER = Offer(
    cpu=Range(1, 0.001, 2),
    mem=Range(1024, 32, 4096, "MiB"),
    disk=Range(0, 0, 20000, "MiB"),
    gpu=Range(0, 0, 0),
    image="site/default",
    allowed_images=("quay.io/jupyter/*",),
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
        ({"image": "x quay.io/jupyter/a"}, "x quay", "site/default"),
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


def test_all_refusals_are_told_at_once() -> None:
    with pytest.raises(OptionsRefused) as refused:
        choose({"cpu": 3, "mem": 1}, OFFER)
    assert "'cpu'" in str(refused.value)
    assert "'mem'" in str(refused.value)


def test_where_no_image_is_offered_none_may_be_chosen() -> None:
    offer = Offer(OFFER.cpu, OFFER.mem, OFFER.disk, OFFER.gpu)
    with pytest.raises(OptionsRefused, match="no image may be chosen here"):
        choose({"image": "a"}, offer)

"""Who the holder of a token is, and what is remembered of tokens: rules without a backend."""

from __future__ import annotations

from contextlib import suppress

import pytest

from hubfleet.backend.access import (
    Caller,
    Forbidden,
    TooManyUnknown,
    administrator,
    hub_itself,
    reader,
    token_owner,
)
from hubfleet.backend.authenticator import token_of
from hubfleet.backend.bounded import Guesses, Remembered


@pytest.mark.parametrize(
    ("scopes", "group", "server"),
    [
        (["access:servers"], "/jupyter/al", None),
        (["access:servers!user"], "/jupyter/al", None),
        (["access:servers!user=al"], "/jupyter/al", None),
        (["access:servers!server=al/"], "/jupyter/al", "/jupyter/al/notebook"),
        (["access:servers!server=al/x"], "/jupyter/al", "/jupyter/al/servers/x"),
        (
            ["access:servers!server=al/x", "access:servers!server=bo/y"],
            "/jupyter/al",
            "/jupyter/al/servers/x",
        ),
        (["access:servers!server=al/x", "access:servers!server=al/"], "/jupyter/al", None),
        (["access:servers!user=al", "access:servers!server=al/"], "/jupyter/al", None),
        (["access:servers!user=bo"], None, None),
        (["access:servers!server=bo/"], None, None),
        (["access:servers!group=g"], None, None),
        (["servers!user=al", "self"], None, None),
        ([], None, None),
    ],
)
def test_what_a_token_reaches_follows_from_its_scopes(
    scopes: list[str], group: str | None, server: str | None
) -> None:
    model = {"kind": "user", "name": "al", "scopes": scopes}
    if group is None:
        with pytest.raises(Forbidden):
            token_owner(model, "jupyter")
        return
    expected = Caller(
        "the user al",
        opens=frozenset({group}),
        writes=frozenset({f"{group}/dask"}),
        server=server,
        user="al",
        user_group=group,
    )
    assert token_owner(model, "jupyter") == expected


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (["custom:hubfleet:admin"], administrator("the user al")),
        (["custom:hubfleet:admin", "access:servers!user=al"], administrator("the user al")),
        (["custom:hubfleet:hub"], hub_itself("the user al", "jupyter")),
        (["custom:hubfleet:read"], reader("the user al")),
        (
            ["custom:hubfleet:read!user=bo", "custom:hubfleet:read!user=cy"],
            Caller("the user al", reads=frozenset({"/jupyter/bo", "/jupyter/cy"})),
        ),
        # What is filtered in a way that we cannot follow widens nothing.
        (["custom:hubfleet:admin!user=al"], None),
        (["custom:hubfleet:hub!user=al"], None),
        (["custom:hubfleet:read!group=g"], None),
        (["custom:hubfleet:adminx", "custom:other:admin"], None),
    ],
)
def test_custom_scopes_widen(scopes: list[str], expected: Caller | None) -> None:
    model = {"kind": "user", "name": "al", "scopes": scopes}
    if expected is None:
        with pytest.raises(Forbidden):
            token_owner(model, "jupyter")
    else:
        assert token_owner(model, "jupyter") == expected


def test_guesses_come_again_with_time_and_good_tokens_are_none() -> None:
    clock = [0.0]
    guesses = Guesses(6, lambda: clock[0])
    for _ in range(20):
        guesses.take("a")
        guesses.give_back("a")
    for _ in range(6):
        guesses.take("a")
    with pytest.raises(TooManyUnknown) as refusal:
        guesses.take("a")
    assert refusal.value.seconds == 10
    guesses.take("b")
    clock[0] = 10.0
    guesses.take("a")
    for number in range(200):
        with suppress(TooManyUnknown):
            guesses.take(f"address-{number}")
    with pytest.raises(TooManyUnknown):
        guesses.take("another")


def test_what_is_remembered_is_bounded_in_number_and_time() -> None:
    clock = [0.0]
    words: Remembered[int] = Remembered(2, 30, lambda: clock[0])
    for number in range(3):
        words.put(str(number), number)
    assert [words.get(key) for key in "012"] == [None, 1, 2]
    clock[0] = 30.0
    assert words.get("2") is None


def test_a_token_is_one_printable_word() -> None:
    assert token_of("token  spaced ") == "spaced"
    for text in ("token a b", "token a\tb", "token \x7f", "Bearer \u0100", "x", "token"):
        assert token_of(text) is None

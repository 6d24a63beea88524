"""App ids from names. That two names never meet in one id is a security property."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hubfleet.api.errors import NameRefused
from hubfleet.api.ids import (
    MAX_ID,
    MAX_SEGMENT,
    canonical,
    dask_path,
    is_legal,
    is_within,
    segment,
    server_app_id,
    user_path,
    workers_app_id,
)

DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# Marathon's own, verbatim (``marathon-v2`` section 2).
MARATHON = re.compile(
    r"^(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])|(\.|\.\.)$"
)

HOSTILE = [
    *("alice", "Alice", "ALICE", "alice ", " alice", "alice\n", "alice\0", "alice/", "/alice", "a/lice"),
    *("al.ice", "al..ice", ".", "..", "...", "-alice", "alice-", "a-lice", "a--lice", "a_lice", "a@b.org"),
    *("restart", "tasks", "versions", "notebook", "servers", "dask", "workers", "root", "*", "%2e%2e"),
    *("ålice", "a\N{COMBINING RING ABOVE}lice", "аlice", "\u202ealice", "\ud800", "🐍", "ﬁ", "fi", "ß", "ss"),
    *("İ", "i̇", "x--x-" + "a" * 26, "--x-", "x", "x--x-", "0", "00", "xn--bcher-kva", "a" * 63, "a" * 64),
    *("a" * 65, "a" * 300, "A" * 63, "a" * 62 + "-", "user+tag", "user tag", "user\ttag", "$(id)", "a;b"),
]

legal_alphabet = st.text(alphabet="abcx019-.A_ /", min_size=1, max_size=70)
names = st.text(min_size=1, max_size=80) | legal_alphabet | st.sampled_from(HOSTILE)


def check_legal(found: str) -> None:
    assert 1 <= len(found) <= MAX_SEGMENT
    assert DNS_LABEL.fullmatch(found)
    assert MARATHON.fullmatch(found)
    assert is_legal(f"/{found}")
    assert found not in {"restart", "tasks", "versions"}


def test_hostile_names_are_legal_and_all_different() -> None:
    found = {name: segment(name) for name in HOSTILE}
    for made in found.values():
        check_legal(made)
    assert len(set(found.values())) == len(HOSTILE)


@given(names)
@example("\ud800")
def test_every_name_makes_a_legal_segment(name: str) -> None:
    check_legal(segment(name))


@given(names, names)
def test_two_names_never_meet(one: str, other: str) -> None:
    assert (segment(one) == segment(other)) == (one == other)


@given(names)
def test_a_segment_taken_for_a_name_does_not_meet_its_origin(name: str) -> None:
    """Somebody who registers as what another one's name became does not become that other one."""
    made = segment(name)
    assert (segment(made) == made) == (name == made)


@pytest.mark.parametrize("name", ["alice", "a", "0", "a-b", "a--b", "x" * 63, "xn--bcher-kva"])
def test_a_legal_name_stays_as_it_is(name: str) -> None:
    assert segment(name) == name


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("Alice.Smith@example.org", "alice-smith-example-org--x-"),
        ("🐍", "x--x-"),
        ("A" * 99, "a" * 33 + "--x-"),
    ],
)
def test_the_readable_part_of_a_name_is_kept(name: str, begin: str) -> None:
    assert segment(name).startswith(begin)


def test_no_name_is_refused_with_a_sentence() -> None:
    with pytest.raises(NameRefused, match="at least one character"):
        segment("")


@given(st.lists(st.tuples(names, st.just("") | names), min_size=2, max_size=6, unique=True))
def test_no_two_servers_and_no_worker_group_meet(pairs: list[tuple[str, str]]) -> None:
    ids = [server_app_id("jupyter", user, server) for user, server in pairs]
    assert len(set(ids)) == len(ids)
    assert all(is_legal(app_id) and len(app_id) <= MAX_ID for app_id in ids)
    for (user, _), app_id in itertools.product(pairs, ids):
        workers = workers_app_id(dask_path("jupyter", user), "notebook")
        assert is_legal(workers)
        assert workers != app_id
        assert not is_within(app_id, dask_path("jupyter", user))


@given(names, names)
def test_nothing_of_one_user_lies_with_another(one: str, other: str) -> None:
    group = user_path("jupyter", one)
    assert is_within(server_app_id("jupyter", other, "x"), group) == (one == other)
    assert is_within(dask_path("jupyter", other), group) == (one == other)


@pytest.mark.parametrize(
    ("app_id", "group", "within"),
    [
        ("/a/b", "/a", True),
        ("/a/b/c", "a/", True),
        ("/a", "/a", False),
        ("/ab", "/a", False),
        ("/a", "/", True),
        ("/a-b/c", "/a", False),
    ],
)
def test_within_a_group_means_below_it(app_id: str, group: str, within: bool) -> None:
    assert is_within(app_id, group) is within


@pytest.mark.parametrize(
    "app_id",
    [
        *("", "/", "a", "/a/", "//a", "/a//b", "/a/../b", "/..", "/.", "/A", "/a b", "/a_b", "/-a", "/a-"),
        *("/a\n", "/" + "a" * MAX_ID, "/a/..b", "/é", "/a.-b"),
    ],
)
def test_illegal_ids(app_id: str) -> None:
    assert not is_legal(app_id)


@pytest.mark.parametrize("app_id", ["/a", "/a/b", "/a.b/c-d", "/0", "/" + "a" * (MAX_ID - 1)])
def test_legal_ids(app_id: str) -> None:
    assert is_legal(app_id)


@pytest.mark.parametrize(
    ("given_id", "expected"), [("a", "/a"), ("/a/b/", "/a/b"), ("//a", "/a"), ("/", ""), ("", "")]
)
def test_canonical_ids_have_one_slash_in_front(given_id: str, expected: str) -> None:
    assert canonical(given_id) == expected

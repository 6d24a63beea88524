"""Label selectors: the whole grammar, and texts that are none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hubfleet.backend.server.selectors import MAX_LENGTH, BadSelector, parse

LABELS = {"tier": "web", "env": "qa", "empty": "", "a.b-c_d": "x y", "!": "(,)", "in": "notin"}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("  ", True),
        ("tier", True),
        ("missing", False),
        ("tier==web", True),
        ("  tier  ==  web  ", True),
        ("tier==other", False),
        ("tier==we", False),
        ("tier!=web", False),
        ("tier!=other", True),
        ("missing!=other", False),
        ("tier in (db,web)", True),
        ("tier in (db)", False),
        ("tier in ()", False),
        ("tier in( db , web )", True),
        ("tier notin (db)", True),
        ("tier notin (db,web)", False),
        ("tier notin ()", True),
        ("missing notin (db)", False),
        ("tier,env", True),
        ("tier==web,env==prod", False),
        ("tier==web , env in (qa, prod), a.b-c_d", True),
        (r"a.b-c_d==x\ y", True),
        (r"\!", True),
        (r"\! in (\(\,\))", True),
        ("in==notin", True),
        ("in in (notin)", True),
        ("in notin (in)", True),
        (r"t\ier==w\eb", True),
    ],
)
def test_a_selector_means_just_these_labels(text: str, matches: bool) -> None:
    assert parse(text)(LABELS) is matches


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (",", "the name of a label expected but ',' found at character 1"),
        ("a,", "the name of a label expected but the end found"),
        ("a,,b", "the name of a label expected but ',' found at character 3"),
        ("a=b", "a comma or the end expected but '=' found at character 2"),
        ("a==", "a value expected but the end found"),
        ("a==b c", "a comma or the end expected but 'c' found"),
        ("a===b", "a value expected but '=' found"),
        ("a in b", "'(' expected but 'b' found"),
        ("a in (b", "a comma or ')' expected but the end found"),
        ("a in (b,)", "a value expected but ')' found"),
        ("a in (b c)", "a comma or ')' expected but 'c' found"),
        ("a in (b))", "a comma or the end expected but ')' found"),
        ("a b", "a comma or the end expected but 'b' found"),
        ("ain(b)", "a comma or the end expected but '(' found"),
        ("!a", "the name of a label expected but '!' found"),
        ("ü", "the name of a label expected but 'ü' found"),
        ("a\\", "a comma or the end expected but '\\\\' found"),
        ("a" * (MAX_LENGTH + 1), f"of at most {MAX_LENGTH}"),
    ],
)
def test_what_is_no_selector_is_refused_with_its_place(text: str, reason: str) -> None:
    with pytest.raises(BadSelector, match=r"^Can not parse label selector .*\. Reason: ") as refused:
        parse(text)
    assert reason in str(refused.value)


texts = st.text(
    alphabet=st.characters(exclude_characters="\n", exclude_categories=["Cs"]), min_size=1, max_size=8
)


def escaped(text: str) -> str:
    return re.sub(r"([^-A-Za-z0-9_.])", r"\\\1", text)


@given(texts, texts, st.lists(texts, max_size=3))
def test_any_label_can_be_asked_for(key: str, value: str, others: list[str]) -> None:
    named = f"{escaped(key)}=={escaped(value)}"
    values = ", ".join(map(escaped, others))
    labels = {key: value}
    assert parse(named)(labels)
    assert not parse(named)({key: value + "x"})
    assert not parse(named.replace("==", "!=", 1))(labels) or "==" in escaped(key)
    assert parse(f"{escaped(key)} in ({values})")(labels) is (value in others)
    assert parse(f"{escaped(key)} notin ({values})")(labels) is (value not in others)
    assert not parse(f"{escaped(key)} notin ({values})")({})


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3))
def test_any_text_is_a_selector_or_refused(text: str, labels: dict[str, str]) -> None:
    try:
        matches = parse(text)
    except BadSelector:
        return
    assert matches(labels) in (True, False)

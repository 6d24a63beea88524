"""The index of ids says the same as a look at all of them."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from hubfleet.api.ids import is_within
from hubfleet.backend.tree import Tree, groups_of

# Few names, so that ids are often each other's groups.
IDS = st.lists(st.sampled_from(string.ascii_lowercase[:3]), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
)


@given(st.lists(st.tuples(st.booleans(), IDS)), IDS)
def test_a_group_holds_what_was_added_below_it_and_not_dropped(
    changes: list[tuple[bool, str]], group: str
) -> None:
    tree, there = Tree(), set()
    for added, app_id in changes:
        if added:
            tree.add(app_id)
            there.add(app_id)
        else:
            tree.discard(app_id)
            there.discard(app_id)
    assert sorted(tree.within(group)) == sorted(each for each in there if is_within(each, group))
    assert sorted(tree.within("/")) == sorted(there)
    for app_id in there:
        tree.discard(app_id)
    assert vars(tree) == vars(Tree()), "what is dropped leaves nothing behind"


def test_a_tree_is_made_of_what_there_is() -> None:
    assert list(Tree(["/a/b", "/c", "/a", "/a/d/e"]).within("/a")) == ["/a/b", "/a/d/e"]


def test_the_groups_of_an_id_are_all_above_it() -> None:
    assert list(groups_of("/a/bc/d")) == ["/a", "/a/bc"]
    assert list(groups_of("/a")) == []

"""The graph of dependencies between apps."""

from __future__ import annotations

import pytest

from hubfleet.api.dependencies import dependencies, is_cyclic


def test_a_dependency_on_a_group_is_one_on_each_app_in_it() -> None:
    graph = {"/web": ["/db", "/gone"], "/db/a": ["/db/b"], "/db/b": [], "/dbx": []}
    assert dependencies(graph) == {
        "/web": {"/db/a", "/db/b"},
        "/db/a": {"/db/b"},
        "/db/b": set(),
        "/dbx": set(),
    }


@pytest.mark.parametrize(
    ("graph", "cyclic"),
    [
        ({}, False),
        ({"/a": ["/b"], "/b": ["/c"], "/c": []}, False),
        ({"/a": ["/b", "/c"], "/b": ["/c"], "/c": []}, False),
        ({"/a": ["/gone"]}, False),
        ({"/a": ["/a"]}, True),
        ({"/a": ["/b"], "/b": ["/c"], "/c": ["/a"]}, True),
        ({"/g/a": ["/g"]}, True),
        ({"/g/a": ["/h"], "/h/b": ["/g"]}, True),
        ({f"/{n}": [f"/{n + 1}"] for n in range(5000)}, False),
    ],
)
def test_circles(graph: dict[str, list[str]], cyclic: bool) -> None:
    assert is_cyclic(graph) is cyclic

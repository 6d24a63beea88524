"""Which apps come before which, by the ``dependencies`` of their definitions (``marathon-v2`` 4.1). Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from hubfleet.api.app import App
from hubfleet.api.ids import canonical

from ..records import GroupRecord


class Cycle(Exception):
    """An app depends on itself, by whatever detour."""


def levels(
    apps: Mapping[str, App],
    wanted: Collection[str],
    above: Callable[[str], Iterable[GroupRecord]] = lambda _: (),
) -> dict[str, int]:
    """Return for each wanted app how long the longest chain of apps is that it depends on.

    Parameters
    ----------
    apps
        All apps there will be, by id. What is depended on and not among them is passed over.
    wanted
        Ids of apps. Only what these depend on is looked at.
    above
        Returns the groups made by name that an app lies in: it depends on what they depend on.

    Raises
    ------
    Cycle
        There is one on the way.
    """
    ids = sorted(apps)
    records: dict[str, GroupRecord] = {}

    def within(group: str) -> list[str]:
        # "0" is the character after "/".
        return ids[bisect_left(ids, f"{group}/") : bisect_left(ids, f"{group}0")]

    # A path is a node of its own, and so is what a group depends on: many apps that depend on many
    # others through a group cost one edge for each of them, and not for each pair.
    def edges(node: tuple[str, str]) -> Iterable[tuple[str, str]]:
        kind, name = node
        if kind == "app":
            over = {record.id: record for record in above(name)}
            records.update(over)
            own = [("path", canonical(path)) for path in apps[name].dependencies]
            return [*own, *(("dependencies", group) for group in over)]
        if kind == "dependencies":
            return [("group", group) for group in records[name].dependencies]
        if kind == "path" and name in apps:
            return [("app", name)]
        return [("app", app_id) for app_id in within(name)]

    found = _longest([("app", app_id) for app_id in wanted], edges)
    return {app_id: found["app", app_id] for app_id in wanted}


def _longest(
    roots: Sequence[tuple[str, str]], edges: Callable[[tuple[str, str]], Iterable[tuple[str, str]]]
) -> dict[tuple[str, str], int]:
    """Return the length of the longest way down from each node; chains may be longer than Python's stack."""
    lengths: dict[tuple[str, str], int] = {}
    open_nodes: set[tuple[str, str]] = set()
    stack = list(roots)
    while stack:
        node = stack[-1]
        if node in lengths:
            stack.pop()
            continue
        below = list(edges(node))
        unknown = [each for each in below if each not in lengths]
        if not unknown:
            stack.pop()
            open_nodes.discard(node)
            # Only apps count; a path is as far as the farthest app it names.
            own = 1 if node[0] == "app" else 0
            lengths[node] = own + max((lengths[each] for each in below), default=0)
            continue
        open_nodes.add(node)
        if not open_nodes.isdisjoint(unknown):
            raise Cycle
        stack.extend(unknown)
    return lengths

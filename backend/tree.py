"""The ids of apps as the tree that their paths make, so that nobody walks all apps to find a group's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hubfleet.api.ids import canonical


class Tree:
    """Ids of apps; to add, to drop and to look one up costs as much as its path is deep.

    Parameters
    ----------
    app_ids
        What is in it at first.
    """

    def __init__(self, app_ids: Iterable[str] = ()) -> None:
        self._ids: set[str] = set()
        # By path, the paths one level below at or under which there is an app; "" is the root.
        self._below: dict[str, dict[str, None]] = {}
        for app_id in app_ids:
            self.add(app_id)

    def add(self, app_id: str) -> None:
        """Take an id in; one that is in it already stays."""
        self._ids.add(app_id)
        path = app_id
        while path:
            group = path.rpartition("/")[0]
            siblings = self._below.setdefault(group, {})
            if path in siblings:
                return
            siblings[path] = None
            path = group

    def discard(self, app_id: str) -> None:
        """Let go of an id, and of the groups that it was the last of."""
        self._ids.discard(app_id)
        path = app_id
        while path and path not in self._ids and path not in self._below:
            group = path.rpartition("/")[0]
            siblings = self._below.get(group, {})
            siblings.pop(path, None)
            if siblings:
                return
            self._below.pop(group, None)
            path = group

    def within(self, group: str) -> Iterator[str]:
        """Yield the ids in a group, at any depth, in the order of the tree; ``/`` is the group of all.

        It must not be changed meanwhile.
        """
        # Of a group of ten thousand, who wants to know whether there is any takes one.
        stack = [iter(self._below.get(canonical(group).rstrip("/"), ()))]
        while stack:
            path = next(stack[-1], None)
            if path is None:
                stack.pop()
                continue
            if path in self._ids:
                yield path
            stack.append(iter(self._below.get(path, ())))


def groups_of(app_id: str) -> Iterator[str]:
    """Yield the groups that an id lies in, but for the root, the outermost first: ``/a``, ``/a/b``."""
    end = app_id.find("/", 1)
    while end != -1:
        yield app_id[:end]
        end = app_id.find("/", end + 1)

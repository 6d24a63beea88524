"""A group as the API shows it, with the groups in it: its JSON in pieces, for it may hold all apps. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from hubfleet.api.wire import format_timestamp

from .appinfo import compact, separated

NEVER = "1970-01-01T00:00:00.000Z"
"""The version of a root in which there never was anything, as Marathon's."""


class Shown(NamedTuple):
    """What is told of one group beside what is in it."""

    version: datetime | None
    dependencies: list[str]


class GroupTree:
    """A group and what is in it, at any depth.

    Parameters
    ----------
    group
        Its id; the root is ``""``.
    apps
        What makes the pieces of JSON of each app in it, by id.
    groups
        Groups in it that are there also without apps.
    """

    def __init__(self, group: str, apps: Mapping[str, Iterable[str]], groups: Iterable[str] = ()) -> None:
        self._group = group
        self._own: dict[str, list[Iterable[str]]] = {}
        self._below: dict[str, dict[str, None]] = {}
        for app_id, pieces in apps.items():
            parent = app_id.rpartition("/")[0]
            self._own.setdefault(parent, []).append(pieces)
            self._link(parent)
        for each in groups:
            self._link(each)

    def _link(self, path: str) -> None:
        while path != self._group:
            parent = path.rpartition("/")[0]
            siblings = self._below.setdefault(parent, {})
            if path in siblings:
                return
            siblings[path] = None
            path = parent

    def pieces(self, embeds: set[str], shown: Callable[[str], Shown]) -> Iterator[str]:
        """Yield the JSON object of the group.

        Parameters
        ----------
        embeds
            What is shown: ``group.apps``, ``group.groups`` and ``group.pods``, of which there are none.
        shown
            Returns what is told of each group.
        """
        yield from self._pieces(self._group, embeds, shown)

    def _pieces(self, group: str, embeds: set[str], shown: Callable[[str], Shown]) -> Iterator[str]:
        told = shown(group)
        version = format_timestamp(told.version) if told.version else NEVER
        head = {"id": group or "/", "dependencies": told.dependencies, "version": version}
        yield compact(head)[:-1]
        if "group.apps" in embeds:
            yield ',"apps":['
            for number, pieces in enumerate(self._own.get(group, ())):
                if number:
                    yield ","
                yield from pieces
            yield "]"
        if "group.pods" in embeds:
            yield ',"pods":[]'
        if "group.groups" in embeds:
            yield ',"groups":['
            for number, child in enumerate(self._below.get(group, ())):
                if number:
                    yield ","
                yield from self._pieces(child, embeds, shown)
            yield "]"
        yield "}"


def app_list(apps: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the JSON list of apps that are in pieces themselves."""
    yield "["
    yield from separated("".join(pieces) for pieces in apps)
    yield "]"

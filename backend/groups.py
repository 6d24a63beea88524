"""The groups there are, in memory and in the store: a tree of what was made by name and what apps lie in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from hubfleet.api.app import App

from .group_store import APP, GROUP, GroupStore, Part
from .records import AppRecord, GroupRecord
from .tree import Tree, groups_of

ROOT = ""
"""The id of the group of all."""


class Snapshot(NamedTuple):
    """What a group was: its apps as JSON text by id, and the groups made by name, itself among them."""

    apps: dict[str, str]
    groups: dict[str, GroupRecord]


class Groups:
    """Which groups there are, and what they were.

    A group that was made by name stays until it is ended, with or without apps. Every other one
    is there as long as an app, or such a group, lies in it.

    Parameters
    ----------
    store
        Where they are kept.
    apps_within
        Yields the apps in a group, at any depth.
    """

    def __init__(self, store: GroupStore, apps_within: Callable[[str], Iterator[AppRecord]]) -> None:
        self._store = store
        self._apps_within = apps_within
        self.records = {
            group: GroupRecord.model_validate_json(body) for group, (_, body) in store.present(GROUP).items()
        }
        self._tree = Tree(self.records)
        self._versions = store.latest()

    def exists(self, group: str) -> bool:
        """Whether there is a group; the root always is."""
        if group == ROOT or group in self.records:
            return True
        return next(self.within(group), None) is not None or next(self._apps_within(group), None) is not None

    def within(self, group: str) -> Iterator[GroupRecord]:
        """Yield the groups made by name that lie in a group, at any depth, but not itself."""
        return (self.records[each] for each in self._tree.within(group))

    def above(self, path: str) -> Iterator[GroupRecord]:
        """Yield the groups made by name that an app or a group lies in, the outermost first."""
        return (self.records[group] for group in (ROOT, *groups_of(path)) if group in self.records)

    def version(self, group: str) -> datetime | None:
        """Return the time of the last change in a group, or None if there was none yet."""
        return self._versions.get(group)

    def newest(self) -> datetime | None:
        """Return the time of the last change of all."""
        return max(self._versions.values(), default=None)

    def versions(self, group: str) -> list[datetime]:
        """Return the kept versions of a group, newest first."""
        return self._store.versions(group)

    def at(self, group: str, version: datetime) -> Snapshot | None:
        """Return what a group was at a version, or None if that is not known."""
        found = self._store.at(group, version)
        if found is None:
            return None
        return Snapshot(
            {each: body for each, kind, body in found if kind == APP},
            {each: GroupRecord.model_validate_json(body) for each, kind, body in found if kind == GROUP},
        )

    def adopt(self, apps: Mapping[str, AppRecord], version: datetime) -> None:
        """Note all apps that changed while this was not written, as by a hubfleet of before."""
        known = self._store.present(APP)
        stale = {
            app_id: record.text
            for app_id, record in apps.items()
            if app_id not in known or known[app_id][0] != record.app.version
        }
        gone = dict.fromkeys(known.keys() - apps.keys())
        by_version: dict[datetime, dict[str, str | None]] = {version: {**gone}} if gone else {}
        for app_id, text in stale.items():
            by_version.setdefault(apps[app_id].app.version or version, {})[app_id] = text
        for moment in sorted(by_version):
            self._record(moment, by_version[moment], {})

    def change(
        self,
        version: datetime,
        apps: Mapping[str, AppRecord | None],
        groups: Mapping[str, GroupRecord | None],
    ) -> None:
        """Keep what an accepted change makes of apps and groups; None is what is gone.

        The apps themselves are changed already.
        """
        for group, record in groups.items():
            if record is None:
                self.records.pop(group, None)
                self._tree.discard(group)
            else:
                self.records[group] = record
                self._tree.add(group)
        texts = {app_id: record.text if record else None for app_id, record in apps.items()}
        self._record(version, texts, groups)

    def _record(
        self, version: datetime, apps: Mapping[str, str | None], groups: Mapping[str, GroupRecord | None]
    ) -> None:
        parts = [Part(app_id, APP, app_id.rpartition("/")[0], text) for app_id, text in apps.items()]
        parts += [
            Part(group, GROUP, group, record.model_dump_json() if record else None)
            for group, record in groups.items()
        ]
        if not parts:
            return
        touched = dict.fromkeys([ROOT, *(group for path in (*apps, *groups) for group in groups_of(path))])
        touched.update(dict.fromkeys(groups))
        there = {group: None for group in touched if self.exists(group)}
        vanished = {
            group: next(each for each in _outwards(group) if each in there)
            for group in touched.keys() - there
        }
        for group in there:
            self._versions[group] = max(version, self._versions.get(group, version))
        for group in vanished:
            self._versions.pop(group, None)
        self._store.record(version, parts, there, vanished)


def _outwards(group: str) -> Iterator[str]:
    """Yield the groups that a group lies in, the innermost first."""
    while group:
        group = group.rpartition("/")[0]
        yield group


def definition(text: str) -> App:
    """Return the definition that a snapshot's text is."""
    return App.model_validate_json(text, by_alias=True, by_name=False)

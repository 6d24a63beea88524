"""Groups in the store: those that were made by name, and what was in each group at its former versions.

Of what was, each app and each group made by name is a *part*: a body that stood from one version
until another, the present one without an end. What a group was at a version is what stood in it then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from hubfleet.api.wire import format_timestamp, parse_timestamp

KEPT_VERSIONS = 50
"""Versions kept of each group, as Marathon's zk_max_versions."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS group_parts (
    id TEXT NOT NULL, kind TEXT NOT NULL, parent TEXT NOT NULL, since TEXT NOT NULL, until TEXT,
    body TEXT NOT NULL, PRIMARY KEY (id, kind, since)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS group_parts_ended ON group_parts (parent, until) WHERE until IS NOT NULL;
CREATE TABLE IF NOT EXISTS group_versions (
    group_id TEXT NOT NULL, version TEXT NOT NULL, PRIMARY KEY (group_id, version)
) WITHOUT ROWID;
"""

APP, GROUP = "app", "group"


class Part(NamedTuple):
    """Something in a group: an app, with its definition as the API shows it, or a group made by name.

    Parameters
    ----------
    parent
        The group whose versions say how long it is remembered after it is gone.
    body
        None where it is gone.
    """

    id: str
    kind: str
    parent: str
    body: str | None


class GroupStore:
    """The tables of groups; ids are those of paths, and the root's is empty.

    Parameters
    ----------
    database
        The store's, so that what is written here is part of the store's transactions.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database

    def present(self, kind: str) -> dict[str, tuple[datetime, str]]:
        """Return since when each present part of a kind stands, and its body."""
        rows = self._db.execute(
            "SELECT id, since, body FROM group_parts WHERE kind = ? AND until IS NULL", (kind,)
        )
        return {row[0]: (parse_timestamp(row[1]), row[2]) for row in rows}

    def latest(self) -> dict[str, datetime]:
        """Return the newest version of each group."""
        rows = self._db.execute("SELECT group_id, max(version) FROM group_versions GROUP BY group_id")
        return {row[0]: parse_timestamp(row[1]) for row in rows}

    def versions(self, group: str) -> list[datetime]:
        """Return the kept versions of a group, newest first."""
        rows = self._db.execute(
            "SELECT version FROM group_versions WHERE group_id = ? ORDER BY version DESC", (group,)
        )
        return [parse_timestamp(row[0]) for row in rows]

    def at(self, group: str, version: datetime) -> list[tuple[str, str, str]] | None:
        """Return id, kind and body of what was in a group, itself included, or None if that is not known."""
        moment = format_timestamp(version)
        known = self._db.execute(
            "SELECT 1 FROM group_versions WHERE group_id = ? AND version = ?", (group, moment)
        ).fetchone()
        if known is None:
            return None
        # "0" is the character after "/".
        return self._db.execute(
            "SELECT id, kind, body FROM group_parts WHERE (id = ?1 OR (id > ?1 || '/' AND id < ?1 || '0'))"
            " AND since <= ?2 AND (until IS NULL OR until > ?2) ORDER BY id",
            (group, moment),
        ).fetchall()

    def record(
        self,
        version: datetime,
        parts: Collection[Part],
        touched: Iterable[str],
        vanished: Mapping[str, str],
    ) -> None:
        """Keep a new version of some groups.

        Parameters
        ----------
        parts
            What is new, or gone, from this version on.
        touched
            The groups in which something changed and which are there.
        vanished
            The groups that are there no more, each with the innermost group that is: what was in it is
            remembered as long as that one's versions.
        """
        moment = format_timestamp(version)
        self._db.executemany(
            "UPDATE group_parts SET until = ? WHERE id = ? AND kind = ? AND until IS NULL",
            [(moment, part.id, part.kind) for part in parts],
        )
        self._db.executemany(
            "REPLACE INTO group_parts VALUES (?, ?, ?, ?, NULL, ?)",
            [(part.id, part.kind, part.parent, moment, part.body) for part in parts if part.body is not None],
        )
        for group in touched:
            self._db.execute("INSERT OR IGNORE INTO group_versions VALUES (?, ?)", (group, moment))
        for group, left in vanished.items():
            self._db.execute("DELETE FROM group_versions WHERE group_id = ?", (group,))
            self._db.execute("UPDATE group_parts SET parent = ? WHERE parent = ?", (left, group))
        for group in touched:
            self._forget(group)

    def _forget(self, group: str) -> None:
        """Let go of the oldest versions of a group, and of what stood in no later one."""
        dropped = self._db.execute(
            "DELETE FROM group_versions WHERE group_id = ?1 AND version <= (SELECT version"
            " FROM group_versions WHERE group_id = ?1 ORDER BY version DESC LIMIT 1 OFFSET ?2)",
            (group, KEPT_VERSIONS),
        )
        if dropped.rowcount:
            self._db.execute(
                "DELETE FROM group_parts WHERE parent = ?1 AND until <="
                " (SELECT min(version) FROM group_versions WHERE group_id = ?1)",
                (group,),
            )

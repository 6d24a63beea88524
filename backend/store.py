"""The backend's memory on disk: SQLite, written before anybody outside sees the effect."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from hubfleet.api.app import App
from hubfleet.api.wire import format_timestamp, parse_timestamp

from . import archive, group_store
from .archive import Archive
from .group_store import GroupStore
from .normal import normal
from .records import AppRecord, DeploymentRecord, Instance

SCHEMA_VERSION = 1
KEPT_VERSIONS = 50  # definitions kept per app, as Marathon's zk_max_versions
_SCHEMA = """
CREATE TABLE IF NOT EXISTS apps (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS versions (
    app_id TEXT NOT NULL, version TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (app_id, version)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS instances (
    id TEXT PRIMARY KEY, app_id TEXT NOT NULL, version TEXT NOT NULL, body TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS instances_by_version ON instances (app_id, version);
CREATE TABLE IF NOT EXISTS deployments (id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS strangers (task_id TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class StoreError(Exception):
    """The store cannot be used; the message says why and what to do."""


class Store:
    """Apps, their former versions, instances and deployments.

    Parameters
    ----------
    path
        The database file; it is made with mode 0600 if it is not there.

    Raises
    ------
    StoreError
        The file cannot be opened, is damaged, or is of a newer hubfleet.

    Notes
    -----
    WAL without a sync at each commit: what was committed survives the end of the process
    at any point. Should the machine lose power, the last moments may be missing from the
    store, as the tasks of those moments are from the machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            found = self._db.execute("PRAGMA user_version").fetchone()[0]
            if found > SCHEMA_VERSION:
                raise StoreError(
                    f"{path} was written by a newer hubfleet (its schema is {found}, this one knows "
                    f"{SCHEMA_VERSION}); install that version again, or use another --state-dir"
                )
            self._db.executescript(_SCHEMA + archive.SCHEMA + group_store.SCHEMA)
            self.is_new = found == 0
            self.archive = Archive(self._db)
            self.groups = GroupStore(self._db)
        except OSError as error:
            raise StoreError(f"cannot open the state in {path}: {error.strerror}") from error
        except sqlite3.Error as error:
            raise StoreError(
                f"cannot use the state in {path}: {error}. If the disk is full make room; if the file "
                "is damaged move it away: running tasks are then left alone, but no longer known"
            ) from error

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Write everything within, or nothing of it."""
        if self._db.in_transaction:
            yield  # part of the transaction around it
            return
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- apps ---------------------------------------------------------------------------

    def load_apps(self) -> list[AppRecord]:
        """Return all apps."""
        records = [AppRecord.model_validate_json(row[0]) for row in self._db.execute("SELECT body FROM apps")]
        for record in records:
            # As it would be accepted today, so that an update that changes nothing changes nothing.
            record.app = normal(record.app)
        return records

    def save_app(self, record: AppRecord) -> None:
        """Write an app."""
        self._db.execute("REPLACE INTO apps VALUES (?, ?)", (record.id, record.stored))

    def delete_app(self, app_id: str) -> None:
        """Remove an app; its versions stay until `delete_versions`."""
        self._db.execute("DELETE FROM apps WHERE id = ?", (app_id,))

    # -- versions -----------------------------------------------------------------------

    def define_apps(self, records: Collection[AppRecord], version: datetime) -> None:
        """Write apps of a new version; of their former ones keep the latest and those in use."""
        moment = format_timestamp(version)
        self._db.executemany(
            "REPLACE INTO apps VALUES (?, ?)", [(record.id, record.stored) for record in records]
        )
        self._db.executemany(
            "REPLACE INTO versions VALUES (?, ?, ?)", [(record.id, moment, record.text) for record in records]
        )
        self._db.executemany(
            "DELETE FROM versions WHERE app_id = ?1 AND version <= (SELECT version FROM versions"
            " WHERE app_id = ?1 ORDER BY version DESC LIMIT 1 OFFSET ?2)"
            " AND version NOT IN (SELECT version FROM instances WHERE app_id = ?1)",
            [(record.id, KEPT_VERSIONS) for record in records],
        )

    def load_version(self, app_id: str, version: datetime) -> App | None:
        """Return the definition of one version."""
        row = self._db.execute(
            "SELECT body FROM versions WHERE app_id = ? AND version = ?", (app_id, format_timestamp(version))
        ).fetchone()
        return normal(App.model_validate_json(row[0])) if row else None

    def list_versions(self, app_id: str) -> list[datetime]:
        """Return the versions of an app, newest first."""
        rows = self._db.execute(
            "SELECT version FROM versions WHERE app_id = ? ORDER BY version DESC", (app_id,)
        )
        return [parse_timestamp(row[0]) for row in rows]

    def delete_versions(self, app_ids: Iterable[str]) -> None:
        """Forget the definitions of some apps by which no instance was started."""
        self._db.executemany(
            "DELETE FROM versions WHERE app_id = ?1"
            " AND version NOT IN (SELECT version FROM instances WHERE app_id = ?1)",
            [(app_id,) for app_id in app_ids],
        )

    # -- instances and deployments ------------------------------------------------------

    def load_instances(self) -> list[Instance]:
        """Return all instances."""
        rows = self._db.execute("SELECT body FROM instances")
        return [Instance.model_validate_json(row[0]) for row in rows]

    def save_instance(self, instance: Instance) -> None:
        """Write an instance."""
        self._db.execute(
            "REPLACE INTO instances VALUES (?, ?, ?, ?)",
            (instance.id, instance.app_id, format_timestamp(instance.version), instance.model_dump_json()),
        )

    def delete_instance(self, instance_id: str) -> None:
        """Remove an instance."""
        self._db.execute("DELETE FROM instances WHERE id = ?", (instance_id,))

    def load_deployments(self) -> list[DeploymentRecord]:
        """Return the deployments under way, oldest first."""
        rows = self._db.execute("SELECT body FROM deployments ORDER BY rowid")
        return [DeploymentRecord.model_validate_json(row[0]) for row in rows]

    def save_deployment(self, deployment: DeploymentRecord) -> None:
        """Write a deployment, keeping its place in the order."""
        self._db.execute(
            "INSERT INTO deployments VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            (deployment.id, deployment.stored),
        )

    def delete_deployment(self, deployment_id: str) -> None:
        """Remove a deployment."""
        self._db.execute("DELETE FROM deployments WHERE id = ?", (deployment_id,))

    # -- strangers ----------------------------------------------------------------------

    def load_strangers(self) -> set[str]:
        """Return the ids of the tasks that ran when this store was made."""
        return {row[0] for row in self._db.execute("SELECT task_id FROM strangers")}

    def save_strangers(self, task_ids: Iterable[str]) -> None:
        """Write which of them are still there; after the first time this store is not new any more."""
        with self.transaction():
            self._db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._db.execute("DELETE FROM strangers")
            self._db.executemany("INSERT INTO strangers VALUES (?)", ((task_id,) for task_id in task_ids))
        self.is_new = False

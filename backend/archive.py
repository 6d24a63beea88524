"""What is remembered of tasks, in the store: sentences about their lives, and which of the ended ones."""

from __future__ import annotations

import sqlite3
from collections import Counter
from datetime import datetime

from hubfleet.api.status import EndedTask, HistoryEvent
from hubfleet.api.wire import format_timestamp, parse_timestamp

MOST_EVENTS_OF_APP = 200
MOST_EVENTS = 20_000
_SLACK = 20  # events of an app beyond the most, so that not each new one is a search for the oldest

SCHEMA = """
CREATE TABLE IF NOT EXISTS history (
    number INTEGER PRIMARY KEY, app_id TEXT NOT NULL, task_id TEXT, at TEXT NOT NULL, message TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS history_by_app ON history (app_id, number);
CREATE INDEX IF NOT EXISTS history_by_task ON history (task_id, number);
CREATE TABLE IF NOT EXISTS ended_tasks (
    number INTEGER PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, app_id TEXT NOT NULL, at TEXT NOT NULL,
    state TEXT NOT NULL, message TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ended_tasks_by_app ON ended_tasks (app_id, number);
CREATE INDEX IF NOT EXISTS ended_tasks_by_time ON ended_tasks (at);
"""


class Archive:
    """The past of apps and tasks, bounded for each app and in all.

    Parameters
    ----------
    database
        The store's, so that what is written here is part of the store's transactions.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._db = database
        self._added: Counter[str] = Counter()

    # -- events -------------------------------------------------------------------------

    def add(self, event: HistoryEvent) -> None:
        """Keep an event, and of the app's oldest no more than there may be."""
        self._db.execute(
            "INSERT INTO history (app_id, task_id, at, message) VALUES (?, ?, ?, ?)",
            (event.app_id, event.task_id, format_timestamp(event.timestamp), event.message),
        )
        self._added[event.app_id] += 1
        if self._added[event.app_id] >= _SLACK:
            del self._added[event.app_id]
            self._db.execute(
                "DELETE FROM history WHERE app_id = ?1 AND number <= (SELECT number FROM history"
                " WHERE app_id = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                (event.app_id, MOST_EVENTS_OF_APP),
            )

    def last_message(self, app_id: str) -> str | None:
        """Return the latest sentence about an app."""
        row = self._db.execute(
            "SELECT message FROM history WHERE app_id = ? ORDER BY number DESC LIMIT 1", (app_id,)
        ).fetchone()
        return str(row[0]) if row else None

    def of_app(self, app_id: str) -> list[HistoryEvent]:
        """Return what happened to an app and its tasks, oldest first."""
        return self._events("app_id = ?", app_id)

    def of_task(self, task_id: str) -> list[HistoryEvent]:
        """Return what happened to a task, oldest first."""
        return self._events("task_id = ?", task_id)

    def _events(self, condition: str, value: str) -> list[HistoryEvent]:
        rows = self._db.execute(
            f"SELECT app_id, task_id, at, message FROM history WHERE {condition} ORDER BY number",  # noqa: S608
            (value,),
        )
        return [
            HistoryEvent(app_id=app_id, task_id=task_id, timestamp=parse_timestamp(at), message=message)
            for app_id, task_id, at, message in rows
        ]

    # -- ended tasks --------------------------------------------------------------------

    def end(self, task: EndedTask) -> None:
        """Remember an ended task; to repeat it does no harm."""
        self._db.execute(
            "INSERT INTO ended_tasks (task_id, app_id, at, state, message) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (task_id) DO NOTHING",
            (task.id, task.app_id, format_timestamp(task.timestamp), task.state, task.message),
        )

    def ended(self, task_id: str) -> EndedTask | None:
        """Return a remembered task."""
        return next(iter(self._tasks("task_id = ?", task_id)), None)

    def ended_of(self, app_id: str) -> list[EndedTask]:
        """Return the remembered tasks of an app, oldest first."""
        return self._tasks("app_id = ?", app_id)

    def all_ended(self) -> set[str]:
        """Return the ids of all remembered tasks."""
        return {row[0] for row in self._db.execute("SELECT task_id FROM ended_tasks")}

    def surplus(self, app_id: str, most: int) -> list[str]:
        """Return the ids of an app's remembered tasks beyond the latest so many."""
        rows = self._db.execute(
            "SELECT task_id FROM ended_tasks WHERE app_id = ? ORDER BY number DESC LIMIT -1 OFFSET ?",
            (app_id, most),
        )
        return [row[0] for row in rows]

    def ended_before(self, moment: datetime) -> list[str]:
        """Return the ids of the remembered tasks that ended before a moment."""
        rows = self._db.execute("SELECT task_id FROM ended_tasks WHERE at < ?", (format_timestamp(moment),))
        return [row[0] for row in rows]

    def forget(self, task_id: str) -> None:
        """Remember a task no more; its events stay as long as its app's do."""
        self._db.execute("DELETE FROM ended_tasks WHERE task_id = ?", (task_id,))

    def prune(self, before: datetime) -> None:
        """Drop the oldest events beyond the most there may be, and older ones of apps that are gone."""
        self._db.execute(
            "DELETE FROM history WHERE number <= (SELECT number FROM history"
            " ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (MOST_EVENTS,),
        )
        self._db.execute(
            "DELETE FROM history WHERE at < ? AND app_id NOT IN (SELECT id FROM apps)",
            (format_timestamp(before),),
        )

    def _tasks(self, condition: str, value: str) -> list[EndedTask]:
        rows = self._db.execute(
            f"SELECT task_id, app_id, at, state, message FROM ended_tasks WHERE {condition}"  # noqa: S608
            " ORDER BY number",
            (value,),
        )
        return [
            EndedTask(id=task_id, app_id=app_id, timestamp=parse_timestamp(at), state=state, message=message)
            for task_id, app_id, at, state, message in rows
        ]

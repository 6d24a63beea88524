"""What happened to tasks and apps, for people: paths of our own, which Marathon does not have.

``GET /v2/tasks/{taskId}/history`` answers ``{"history": [event…]}`` of one task, running or ended, and
``GET /v2/history/apps/{id}`` that of an app with all its tasks, with ``"endedTasks"``: those that have ended
and whose output is still there. (``/v2/apps/{id}/history`` could be an app of that name.) Both answer for a
while after the app is gone. Events are oldest first and have ``timestamp``, ``appId``, ``message`` and,
unless they are about the app as a whole, ``taskId``.
"""

from __future__ import annotations

from hubfleet.api.ids import canonical

from .answers import NotFoundHere
from .base import ApiHandler


def visible_app_of_task(handler: ApiHandler, task_id: str) -> str:
    """Return the app of a task that runs or is remembered; a task that the caller may not see is not there.

    Raises
    ------
    NotFoundHere
    """
    orchestrator = handler.orchestrator
    instance = orchestrator.state.instance_of(task_id)
    ended = orchestrator.state.archive.ended(task_id)
    app_id = instance.app_id if instance is not None else ended.app_id if ended is not None else None
    if app_id is None:
        events = orchestrator.state.archive.of_task(task_id)
        app_id = events[0].app_id if events else None
    if app_id is None or not handler.caller.sees(app_id):
        raise NotFoundHere(f"Task '{task_id}' does not exist")
    return app_id


class TaskHistoryHandler(ApiHandler):
    """The life of one task."""

    def get(self, task_id: str) -> None:
        """Tell what happened to a task."""
        visible_app_of_task(self, task_id)
        events = self.orchestrator.state.archive.of_task(task_id)
        self.write_json({"history": [event.to_wire() for event in events]})


class AppHistoryHandler(ApiHandler):
    """The lives of an app's tasks."""

    def get(self, path: str) -> None:
        """Tell what happened to an app and its tasks."""
        app_id = canonical(path)
        archive = self.orchestrator.state.archive
        events = archive.of_app(app_id) if self.caller.sees(app_id) else []
        if not events:
            self.visible_app(path)
        self.write_json(
            {
                "history": [event.to_wire() for event in events],
                "endedTasks": [task.to_wire() for task in archive.ended_of(app_id)],
            }
        )

"""Tasks: of all apps, of one or of a group, and their end (``marathon-v2`` 1.1 and 1.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from hubfleet.api.ids import canonical

from ..definition import WrongShape
from ..orchestrator.refusals import NoSuchPath
from ..orchestrator.service_ports import service_ports
from ..records import Condition, Instance
from .answers import BadRequest, NotFoundHere
from .appinfo import compact, listing, task_texts
from .apps import AppHandler, apps_of_group, is_group
from .base import ApiHandler

# All forms of task id (``marathon-v2`` section 3).
_TASK_ID = re.compile(r"(.+)\.(instance-|marathon-)?([^_.]+)([._][^.]+(\.\d+)?)?")

_BY_STATUS = {"running": Condition.RUNNING, "staging": Condition.PROVISIONED}


class KillingHandler(ApiHandler):
    """What ends tasks, in one of three ways: replaced, wiped, or with their apps' counts lowered."""

    scale: bool
    wipe: bool

    def read_manner(self) -> None:
        """Read from the query how tasks are to end."""
        self.scale, self.wipe = self.flag("scale"), self.flag("wipe")
        if self.scale and self.wipe:
            raise BadRequest("You cannot use scale and wipe at the same time.")

    def kill(self, victims: Sequence[Instance]) -> bool:
        """End tasks, all or none of them; return whether that was answered, as a deployment is."""
        for instance in victims:
            self.caller.require_change(instance.app_id)
        if self.scale:
            changes = self.orchestrator.changes
            self.write_deployment(changes.kill_and_scale(victims, self.flag("force"), self.terms()))
            return True
        for instance in victims:
            self.orchestrator.kill(instance, wipe=self.wipe)
        return False

    def launched(self, app_id: str) -> list[Instance]:
        """Return the instances of an app that have a task."""
        return [each for each in self.orchestrator.state.instances_of(app_id) if each.launched]

    def app_to_kill_in(self, path: str) -> str:
        """Return the id of the app whose tasks are to end.

        Raises
        ------
        NoSuchPath, NotFoundHere
            It is not there, or has nothing that could be scaled.
        """
        app_id = canonical(path)
        hidden = app_id not in self.orchestrator.state.apps or not self.caller.sees(app_id)
        if self.scale and (hidden or not self.orchestrator.state.instances_of(app_id)):
            raise NoSuchPath(app_id)
        record = self.visible_app(path)
        self.caller.require_change(record.id)
        return record.id


class TasksHandler(ApiHandler):
    """The tasks of all apps."""

    async def get(self) -> None:
        """List the tasks that the caller sees, with the service ports of their apps."""
        asked = self.get_query_arguments("status") + self.get_query_arguments("status[]")
        conditions = {_BY_STATUS[status] for status in asked if status in _BY_STATUS}
        await self.write_pieces(listing("tasks", ((text,) for text in self._texts(conditions))))

    def _texts(self, conditions: set[Condition]) -> Iterator[str]:
        state = self.orchestrator.state
        for record in [record for record in state.apps.values() if self.caller.sees(record.id)]:
            for instance in state.instances_of(record.id):
                if instance.launched and (not conditions or instance.condition in conditions):
                    yield compact({**instance.to_task().to_wire(), "servicePorts": service_ports(record.app)})


class KillTasksHandler(KillingHandler):
    """Tasks that are to end."""

    def post(self) -> None:
        """Kill tasks by id, and with ``scale`` lower their apps' counts by as many."""
        self.read_manner()
        victims = self._victims(self.json_body())
        if not self.kill(victims):
            self.write_json({"tasks": [instance.to_task().to_wire() for instance in victims]})

    def _victims(self, body: Any) -> list[Instance]:
        ids = body.get("ids") if isinstance(body, dict) else None
        if not isinstance(ids, list):
            raise WrongShape([{"path": "/ids", "errors": ["error.expected.jsarray"]}])
        for task_id in ids:
            if not isinstance(task_id, str) or not _TASK_ID.fullmatch(task_id):
                raise BadRequest(
                    f"Invalid task id '{task_id}'. [A task id ends in .instance-<uuid>._app.<n>]"
                )
        # Each once, in the order given; an id that is not there, or no more, is passed over.
        found = [self._find(task_id) for task_id in dict.fromkeys(ids)]
        return [instance for instance in found if instance is not None]

    def _find(self, task_id: str) -> Instance | None:
        instance = self.orchestrator.state.instances.get(task_id.rpartition("._app.")[0])
        if instance is None or instance.task_id != task_id or not instance.launched:
            return None
        return instance if self.caller.sees(instance.app_id) else None


class AppTasksHandler(KillingHandler):
    """The tasks of one app, or of all apps of a group."""

    async def get(self, path: str) -> None:
        """List the tasks."""
        records = apps_of_group(self, path) if is_group(path) else [self.visible_app(path)]
        state = self.orchestrator.state
        texts = (text for record in records for text in task_texts(state.instances_of(record.id)))
        await self.write_pieces(listing("tasks", ((text,) for text in texts)))

    def delete(self, path: str) -> None:
        """Kill the tasks of an app, all or those on one host."""
        self.read_manner()
        host = self.get_query_argument("host", "*")
        victims = [each for each in self.launched(self.app_to_kill_in(path)) if host in ("*", each.host)]
        if not self.kill(victims):
            self.write_json({"tasks": [instance.to_task().to_wire() for instance in victims]})


class AppTaskHandler(AppHandler, KillingHandler):
    """One task of an app; or an app whose group is called ``tasks``, which is as legal."""

    def delete(self, path: str, name: str) -> None:  # type: ignore[override]
        """Kill a task."""
        whole = canonical(f"{path}/tasks/{name}")
        if whole in self.orchestrator.state.apps and self.caller.sees(whole):
            super().delete(whole)
            return
        self.read_manner()
        victims = [each for each in self.launched(self.app_to_kill_in(path)) if each.task_id == name]
        if self.kill(victims):
            return
        if not victims:
            raise NotFoundHere(f"Task '{name}' does not exist")
        self.write_json({"task": victims[0].to_task().to_wire()})

    async def get(self, path: str, name: str) -> None:  # type: ignore[override]
        """Show the app of that name."""
        await super().get(f"{path}/tasks/{name}")

    def put(self, path: str, name: str) -> None:  # type: ignore[override]
        """Change the app of that name."""
        super().put(f"{path}/tasks/{name}")

    def patch(self, path: str, name: str) -> None:  # type: ignore[override]
        """Change the app of that name."""
        super().patch(f"{path}/tasks/{name}")

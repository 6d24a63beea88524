"""``/v2/apps`` and what is below it (``marathon-v2`` 1.1)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from hubfleet.api.app import App
from hubfleet.api.ids import canonical
from hubfleet.api.status import AppStatus, DeploymentRef
from hubfleet.api.wire import format_timestamp

from .. import events
from ..definition import changed_app, new_app, rollback_version
from ..orchestrator.refusals import ChangeRefused
from ..records import AppRecord, Condition
from ..state import State
from .answers import NotFoundHere
from .base import ApiHandler


def app_status(state: State, record: AppRecord) -> AppStatus:
    """Return an app with what becomes of it."""
    launched = [instance for instance in state.instances_of(record.id) if instance.launched]
    health = [instance.healthy for instance in launched]
    # The definition is our own, already checked; only the rest is new.
    return AppStatus.model_construct(
        **dict(record.app),
        tasks_staged=sum(1 for instance in launched if instance.condition is Condition.PROVISIONED),
        tasks_running=sum(1 for instance in launched if instance.condition is Condition.RUNNING),
        tasks_healthy=health.count(True),
        tasks_unhealthy=health.count(False),
        tasks=[instance.to_task() for instance in launched],
        deployments=[DeploymentRef(id=deployment.id) for deployment in state.deployments_of(record.id)],
        last_task_failure=record.last_task_failure,
    )


def embedded(status: AppStatus, embeds: set[str]) -> dict[str, Any]:
    """Return the JSON object of an app with the asked parts; counts and deployments always."""
    body = status.to_wire()
    if not embeds & {"tasks", "failures"}:
        body.pop("tasks", None)
    if not embeds & {"lastTaskFailure", "failures"}:
        body.pop("lastTaskFailure", None)
    elif "stderr" not in embeds and "lastTaskFailure" in body:
        # Our own, and only for those who ask: the client 0.13.0 takes no field that it does not know.
        body["lastTaskFailure"].pop("stderr", None)
    return body


def asked_embeds(handler: ApiHandler) -> set[str]:
    """Return what a request wants embedded, without the prefixes."""
    return {value.rpartition(".")[2] for value in handler.get_query_arguments("embed")}


class AppsHandler(ApiHandler):
    """All apps."""

    def get(self) -> None:
        """List the apps that the caller sees."""
        wanted_id = self.get_query_argument("id", "").lower()
        wanted_cmd = self.get_query_argument("cmd", "").lower()
        if self.get_query_argument("label", ""):
            # To answer with all apps would be worse than not to answer.
            raise ChangeRefused("Selecting apps by label is not supported yet; list them all, and choose")
        embeds = asked_embeds(self)
        state = self.orchestrator.state
        self.write_json(
            {
                "apps": [
                    embedded(app_status(state, record), embeds)
                    for record in state.apps.values()
                    if self.caller.sees(record.id)
                    and wanted_id in record.id
                    and wanted_cmd in (record.app.cmd or "").lower()
                ]
            }
        )

    def post(self) -> None:
        """Take a new app."""
        app = new_app(self.json_body(), cannot=self.orchestrator.cannot)
        self.caller.require_change(app.id)
        app = self.caller.admit(app, self.orchestrator.state.apps)
        deployment = self.orchestrator.changes.create(
            app, self.flag("force"), permit=self.permit(), share=self.caller.share
        )
        record = self.orchestrator.state.apps[app.id]
        self.announce(record.app)
        self.set_header("Location", f"/v2/apps{app.id}")
        self.set_header("Marathon-Deployment-Id", deployment.id)
        body = embedded(app_status(self.orchestrator.state, record), {"tasks"})
        body.pop("versionInfo", None)
        self.write_json(body, 201)

    def announce(self, app: App) -> None:
        """Tell that an app was accepted over the API."""
        address = self.request.remote_ip or ""
        self.orchestrator.bus.publish(events.api_post(address, self.request.path, app))


class AppHandler(AppsHandler):
    """One app."""

    def get(self, path: str) -> None:  # type: ignore[override]
        """Show an app with its tasks."""
        record = self.visible_app(path)
        status = app_status(self.orchestrator.state, record)
        self.write_json({"app": embedded(status, {"tasks", "lastTaskFailure"} | asked_embeds(self))})

    def put(self, path: str) -> None:
        """Change an app, or make it."""
        app_id = canonical(path)
        self.caller.require_change(app_id)
        body = self.json_body()
        cannot = self.orchestrator.cannot
        record = self.orchestrator.state.apps.get(app_id)
        former = rollback_version(body)
        if record is not None and former is not None:
            app = self._former(app_id, former)
        elif record is None or not self.flag("partialUpdate", True):
            app = new_app(body, app_id, cannot=cannot)
        else:
            app = changed_app(record.app, body, cannot=cannot)
        app = self.caller.admit(app, self.orchestrator.state.apps)
        known = app.id in self.orchestrator.state.apps
        deployment = self.orchestrator.changes.put(
            app, self.flag("force"), permit=self.permit(), share=self.caller.share
        )
        self.announce(self.orchestrator.state.apps[app.id].app)
        if not known:
            self.set_header("Location", f"/v2/apps{app.id}")
        self.write_deployment(deployment, 200 if known else 201)

    def _former(self, app_id: str, version: datetime) -> App:
        app = self.orchestrator.state.version(app_id, version)
        if app is None:
            raise NotFoundHere(f"App '{app_id}' does not exist in version {format_timestamp(version)}")
        return app

    def delete(self, path: str) -> None:
        """End an app."""
        app_id = canonical(path)
        self.caller.require_change(app_id)
        self.write_deployment(
            self.orchestrator.changes.remove(app_id, self.flag("force", True), share=self.caller.share)
        )


class AppTasksHandler(ApiHandler):
    """The tasks of one app."""

    def get(self, path: str) -> None:
        """List the tasks of an app."""
        record = self.visible_app(path)
        status = app_status(self.orchestrator.state, record)
        self.write_json({"tasks": [task.to_wire() for task in status.tasks]})

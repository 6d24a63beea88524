"""``/v2/apps``: apps listed, made, shown, changed and ended (``marathon-v2`` 1.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hubfleet.api.app import App
from hubfleet.api.ids import canonical

from .. import events
from ..definition import new_app
from ..group_update import Targets
from ..groups import ROOT
from ..orchestrator.refusals import ChangeRefused
from ..records import AppRecord
from . import selectors, updates
from .answers import NotFoundHere
from .appinfo import ALWAYS, app_pieces, listing, wanted_parts
from .base import ApiHandler
from .drafting import DraftingHandler
from .turns import in_turns


class AppsHandler(DraftingHandler):
    """All apps."""

    async def get(self) -> None:
        """List the apps that the caller sees."""
        means = self._selection()
        wanted = wanted_parts(self.get_query_arguments("embed")) | ALWAYS
        state = self.orchestrator.state
        records = [record for record in state.apps.values() if self.caller.sees(record.id)]
        sees = self.sees_deployment
        pieces = (app_pieces(state, record, wanted, sees) for record in records if means(record.app))
        await self.write_pieces(listing("apps", pieces))

    def _selection(self) -> Callable[[App], bool]:
        """Return what says which apps the query means."""
        wanted_id = self.get_query_argument("id", "").lower()
        wanted_cmd = self.get_query_argument("cmd", "").lower()
        labels: Callable[[Mapping[str, str]], bool]
        try:
            labels = selectors.parse(self.get_query_argument("label", "", strip=False))
        except selectors.BadSelector as error:
            raise ChangeRefused(str(error)) from None
        return lambda app: (
            wanted_id in app.id.lower() and wanted_cmd in (app.cmd or "").lower() and labels(app.labels)
        )

    def post(self) -> None:
        """Take a new app."""
        app = new_app(self.json_body(), cannot=self.orchestrator.cannot)
        self.caller.require_change(app.id)
        app = self.caller.admit(app, self.orchestrator.state)
        deployment = self.orchestrator.changes.create(app, self.flag("force"), self.terms())
        record = self.orchestrator.state.apps[app.id]
        announce(self, record.app)
        self.set_header("Location", f"/v2/apps{app.id}")
        self.set_header("Marathon-Deployment-Id", deployment.id)
        # As it was asked for: what the backend added to it is in the answers to come (``marathon-v2`` 1.1).
        body = app.model_copy(update={"version": record.app.version, "version_info": None}).to_wire()
        none_yet = dict.fromkeys(("tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy"), 0)
        self.write_json({**body, **none_yet, "deployments": [{"id": deployment.id}]}, 201)

    async def put(self) -> None:
        """Change some apps, or make them, in one deployment."""
        await self._change_all(partial=self.flag("partialUpdate", True), creates=True)

    async def patch(self) -> None:
        """Change some apps, all of which must be there, in one deployment."""
        await self._change_all(partial=True, creates=False)

    async def _change_all(self, *, partial: bool, creates: bool) -> None:
        state, require, cannot = self.orchestrator.state, self.caller.require_change, self.orchestrator.cannot
        update = updates.BulkUpdate(
            state, self.json_body(), require, cannot, partial=partial, creates=creates
        )
        await in_turns(update.read())
        await self.deploy(ROOT, lambda: Targets(update.targets()))


def announce(handler: ApiHandler, app: App) -> None:
    """Tell that an app was accepted over the API."""
    address = handler.request.remote_ip or ""
    handler.orchestrator.bus.publish(events.api_post(address, handler.request.path, app))


class AppHandler(ApiHandler):
    """One app, or with ``*`` in place of its name all apps of a group."""

    async def get(self, path: str) -> None:
        """Show an app with its tasks, or those of a group."""
        wanted = wanted_parts(self.get_query_arguments("embed"))
        wanted |= ALWAYS | {"tasks", "lastTaskFailure"}
        state, sees = self.orchestrator.state, self.sees_deployment
        if is_group(path):
            pieces = (app_pieces(state, record, wanted, sees) for record in apps_of_group(self, path))
            await self.write_pieces(listing("*", pieces))
            return
        record = self.visible_app(path)
        await self.write_pieces(('{"app":', *app_pieces(state, record, wanted, sees), "}"))

    def put(self, path: str) -> None:
        """Change an app, or make it."""
        self._change(path, partial=self.flag("partialUpdate", True), creates=True)

    def patch(self, path: str) -> None:
        """Change an app that is there."""
        self._change(path, partial=True, creates=False)

    def _change(self, path: str, *, partial: bool, creates: bool) -> None:
        app_id = canonical(path)
        self.caller.require_change(app_id)
        state = self.orchestrator.state
        record = state.apps.get(app_id)
        former = record.app if record else None
        app = updates.target(
            state,
            app_id,
            former,
            self.json_body(),
            self.orchestrator.cannot,
            partial=partial,
            creates=creates,
        )
        self.caller.require_change(app.id)
        app = self.caller.admit(app, state)
        known = app.id in state.apps
        deployment = self.orchestrator.changes.put(app, self.flag("force"), self.terms())
        announce(self, state.apps[app.id].app)
        if not known:
            self.set_header("Location", f"/v2/apps{app.id}")
        self.write_deployment(deployment, 200 if known else 201)

    def delete(self, path: str) -> None:
        """End an app."""
        app_id = canonical(path)
        self.caller.require_change(app_id)
        self.write_deployment(
            self.orchestrator.changes.remove(app_id, self.flag("force", True), self.terms())
        )


class RestartHandler(AppHandler):
    """``…/restart``: for POST the restart of an app, else the app of that name (which none can have)."""

    def post(self, path: str) -> None:
        """Replace all tasks of an app."""
        record = self.visible_app(path)
        self.caller.require_change(record.id)
        terms = self.terms(record.id)
        self.write_deployment(self.orchestrator.changes.restart(record.id, self.flag("force"), terms))

    async def get(self, path: str) -> None:
        """Show the app of that name."""
        await super().get(f"{path}/restart")

    def put(self, path: str) -> None:
        """Change the app of that name."""
        super().put(f"{path}/restart")

    def patch(self, path: str) -> None:
        """Change the app of that name."""
        super().patch(f"{path}/restart")

    def delete(self, path: str) -> None:
        """End the app of that name."""
        super().delete(f"{path}/restart")


def is_group(path: str) -> bool:
    """Whether a path means all apps of a group: ``*``, ``group/*``."""
    return path == "*" or path.endswith("/*")


def apps_of_group(handler: ApiHandler, path: str) -> list[AppRecord]:
    """Return the apps at any depth of a group that the caller sees.

    Raises
    ------
    NotFoundHere
        There is no such group for this caller.
    """
    group = canonical(path[:-1])
    found = [
        record for record in handler.orchestrator.state.apps_within(group) if handler.caller.sees(record.id)
    ]
    if group and not found:
        raise NotFoundHere(f"Group '{group}' does not exist")
    return found

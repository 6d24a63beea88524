"""``/v2/apps/{id}/versions``: what an app's definition was (``marathon-v2`` 1.1)."""

from __future__ import annotations

from hubfleet.api.ids import canonical
from hubfleet.api.wire import format_timestamp

from .answers import NotFoundHere
from .apps import AppHandler
from .base import ApiHandler


class VersionsHandler(ApiHandler):
    """The kept versions of an app."""

    def get(self, path: str) -> None:
        """List the versions, newest first."""
        record = self.visible_app(path)
        versions = self.orchestrator.state.versions(record.id)
        self.write_json({"versions": [format_timestamp(version) for version in versions]})


class VersionHandler(AppHandler):
    """One version of an app; or an app whose group is called ``versions``, which is as legal."""

    async def get(self, path: str, version: str) -> None:  # type: ignore[override]
        """Show what the definition was, bare of what becomes of the app."""
        whole = canonical(f"{path}/versions/{version}")
        state = self.orchestrator.state
        if whole in state.apps and self.caller.sees(whole):
            await super().get(whole)
            return
        record = self.visible_app(path)
        app = state.version(record.id, self.moment(version))
        if app is None:
            raise NotFoundHere(f"App '{record.id}' does not exist in version {version}")
        self.write_json(app.to_wire())

    def put(self, path: str, version: str) -> None:  # type: ignore[override]
        """Change the app of that name."""
        super().put(f"{path}/versions/{version}")

    def patch(self, path: str, version: str) -> None:  # type: ignore[override]
        """Change the app of that name."""
        super().patch(f"{path}/versions/{version}")

    def delete(self, path: str, version: str) -> None:  # type: ignore[override]
        """End the app of that name."""
        super().delete(f"{path}/versions/{version}")

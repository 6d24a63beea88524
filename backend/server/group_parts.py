"""What is said of a group below its path: all its apps, its versions, and what it was at one of them."""

from __future__ import annotations

from hubfleet.api.wire import format_timestamp

from .answers import NotFoundHere
from .appinfo import app_pieces, wanted_parts
from .groups import ChangedGroup, GroupPartHandler
from .grouptree import GroupTree, Shown, app_list


class GroupAppsHandler(GroupPartHandler):
    """The apps of a group, at any depth."""

    NAME = "apps"

    async def get(self, path: str = "") -> None:
        """List them, with what is asked for beside their definitions."""
        _, records, _ = self.visible(path)
        wanted = wanted_parts(self.get_query_arguments("embed"))
        state, sees = self.orchestrator.state, self.sees_deployment
        await self.write_pieces(app_list(app_pieces(state, record, wanted, sees) for record in records))


class GroupVersionsHandler(GroupPartHandler):
    """The kept versions of a group."""

    NAME = "versions"

    async def get(self, path: str = "") -> None:
        """List the versions, newest first."""
        group, _, _ = self.visible(path)
        self.require_whole(group)
        versions = self.orchestrator.state.groups.versions(group)
        self.write_json([format_timestamp(version) for version in versions])


class GroupVersionHandler(ChangedGroup):
    """One version of a group, which no group's name can look like."""

    async def get(self, path: str, version: str) -> None:
        """Show what the group was, bare of what becomes of its apps."""
        group, _, _ = self.visible(path)
        self.require_whole(group)
        moment = self.moment(version)
        snapshot = self.orchestrator.state.groups.at(group, moment)
        if snapshot is None:
            raise NotFoundHere(f"Group '{group or '/'}' does not exist")
        embeds, _ = self.embeds()
        apps = {app_id: (text,) for app_id, text in snapshot.apps.items()}

        def shown(each: str) -> Shown:
            record = snapshot.groups.get(each)
            return Shown(moment, record.dependencies if record else [])

        await self.write_pieces(GroupTree(group, apps, snapshot.groups).pieces(embeds, shown))

    async def put(self, path: str, version: str) -> None:
        """Go back to the version, as the Python client asks for it: there is no body."""
        group = self.group_id(path)
        self.caller.require_group_change(group)
        await self.roll_back(group, self.moment(version))


class RootVersionHandler(GroupVersionHandler):
    """One version of the root of all."""

    async def get(self, version: str) -> None:  # type: ignore[override]
        """Show what there was."""
        await super().get("", version)

    async def put(self, version: str) -> None:  # type: ignore[override]
        """Go back to the version."""
        await super().put("", version)

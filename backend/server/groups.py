"""``/v2/groups``: groups shown, made, changed, scaled, rolled back and ended (``marathon-v2`` 1.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

from hubfleet.api.app import App
from hubfleet.api.ids import canonical
from hubfleet.api.rules import Violation, path_violations
from hubfleet.api.wire import format_timestamp

from .. import group_update
from ..access import Forbidden
from ..definition import recounted_app
from ..group_update import GroupUpdate, Reader, Structure, Targets
from ..groups import ROOT, definition
from ..orchestrator.refusals import ChangeRefused, NotValid
from ..records import AppRecord
from ..tree import groups_of
from .answers import Conflict, NotFoundHere
from .appinfo import app_pieces, wanted_parts
from .base import ApiHandler
from .drafting import DraftingHandler
from .grouptree import GroupTree, Shown
from .turns import in_turns

PARTS = {"group.groups", "group.apps", "group.pods"}


class VisibleGroup(ApiHandler):
    """What is common to all that is said of one group."""

    def group_id(self, path: str) -> str:
        """Return the id that a path means; the root's is empty.

        Raises
        ------
        NotValid
            No group can have it.
        """
        group = canonical(path)
        if group and (broken := list(path_violations(group, "/id", of_group=True))):
            raise NotValid(broken)
        return group

    def visible(self, path: str) -> tuple[str, list[AppRecord], list[str]]:
        """Return a group's id, and the apps in it and the groups made by name that the caller sees.

        Raises
        ------
        NotFoundHere
            There is no such group for this caller; the root is always there.
        """
        group, known = canonical(path), self.orchestrator.state.groups
        apps = [
            record for record in self.orchestrator.state.apps_within(group) if self.caller.sees(record.id)
        ]
        made = [record.id for record in known.within(group) if self.caller.sees_group(record.id)]
        own = group in known.records and self.caller.sees_group(group)
        if group and not apps and not made and not own:
            raise NotFoundHere(f"Group '{group}' does not exist")
        return group, apps, made

    def require_whole(self, group: str) -> None:
        """Refuse to tell of the past of a group in which others have a part.

        Raises
        ------
        Forbidden
            The caller sees some of what is in it only.
        """
        if not self.caller.sees_group(group):
            raise Forbidden(f"{self.caller.name} sees a part of {group or '/'}, and is not told what it was")

    def embeds(self) -> tuple[set[str], set[str]]:
        """Return what is asked for of groups, and of the apps in them."""
        asked = set(self.get_query_arguments("embed")) or PARTS
        of_apps = {value for value in asked if value.startswith("group.apps.")}
        return asked | ({"group.apps"} if of_apps else set()), of_apps


class ChangedGroup(VisibleGroup, DraftingHandler):
    """What is common to the changes of a group."""

    async def roll_back(self, group: str, version: datetime) -> None:
        """Make a group again what it was."""
        state = self.orchestrator.state
        snapshot = state.groups.at(group, version)
        if snapshot is None:
            raise ChangeRefused(f"Group {group or '/'} not available in version {format_timestamp(version)}")
        texts = snapshot.apps.items()
        apps = dict(await in_turns((app_id, definition(text)) for app_id, text in texts))
        await self.change(group, lambda: group_update.restored(group, apps, snapshot.groups, state))

    async def change(self, group: str, make: Callable[[], Targets], status: int = 200) -> None:
        """Deploy what becomes of a group, or with ``dryRun`` only say how; `make` is as for `deploy`."""
        if self.flag("dryRun") and self.request.method == "PUT":
            steps = self.orchestrator.changes.steps_of(self.draft(group, make()))
            self.write_json({"steps": [step.to_wire() for step in steps]})
        else:
            await self.deploy(group, make, status)


class GroupHandler(ChangedGroup):
    """A group, or the root of all."""

    async def get(self, path: str = "") -> None:
        """Show the group, down to its apps unless less is asked for."""
        group, records, made = self.visible(path)
        embeds, of_apps = self.embeds()
        wanted, state = wanted_parts(of_apps), self.orchestrator.state
        sees = self.sees_deployment
        apps = {record.id: app_pieces(state, record, wanted, sees) for record in records}
        # Of a group that others have a part in, one hears of changes in one's own part only.
        newest: dict[str, datetime] = {}
        for record in records if not self.caller.sees_group(group) else ():
            version = record.app.version
            assert version is not None
            for each in (ROOT, *groups_of(record.id)):
                newest[each] = max(version, newest.get(each, version))

        def shown(each: str) -> Shown:
            if not self.caller.sees_group(each):
                return Shown(newest.get(each), [])
            known = state.groups.records.get(each)
            dependencies = known.dependencies if known else []
            return Shown(state.groups.version(each), [path for path in dependencies if self._may_know(path)])

        await self.write_pieces(GroupTree(group, apps, made).pieces(embeds, shown))

    def _may_know(self, path: str) -> bool:
        return self.caller.sees(path) or self.caller.sees_group(path)

    async def post(self, path: str = "") -> None:
        """Make a group, with what is in it."""
        base = self.group_id(path)
        update = group_update.read(self.json_body())
        group = self.group_id(group_update.effective_id(update, base))
        self.caller.require_group_change(group)
        self._require_new(group)
        structure = await self._structure(update, group)

        def make() -> Targets:
            self._require_new(group)
            return group_update.targets(structure, self.orchestrator.state)

        self.set_header("Location", f"/v2/groups{group}")
        await self.change(group, make, 201)

    def _require_new(self, group: str) -> None:
        if self.orchestrator.state.groups.exists(group):
            raise Conflict(f"Group {group or '/'} is already created. Use PUT to change this group.")
        if group in self.orchestrator.state.apps:
            raise Conflict(f"An app with the path {group} already exists.")

    async def put(self, path: str = "") -> None:
        """Change a group, or make it: by its structure, by a factor, or by a former version."""
        base = self.group_id(path)
        update = group_update.read(self.json_body())
        group = self.group_id(group_update.effective_id(update, base))
        self.caller.require_group_change(group)
        if update.version is not None:
            await self.roll_back(group, self.moment(update.version))
        elif update.scale_by is not None:
            await self._scale(group, update.scale_by)
        else:
            structure = await self._structure(update, group)
            await self.change(group, lambda: group_update.targets(structure, self.orchestrator.state))

    async def _structure(self, update: GroupUpdate, group: str) -> Structure:
        for name, value in (("scale", update.scale_by), ("version", update.version)):
            if value is not None:
                sentence = f"For a structural update, no {name} should be given."
                raise ChangeRefused(f"requirement failed: {sentence}")
        structure = Structure(group)
        await in_turns(Reader(self.orchestrator.cannot).fill(structure, update))
        return structure

    async def _scale(self, group: str, factor: float) -> None:
        """Multiply the instances of every app in a group."""
        group, records, _ = self.visible(group)
        cannot = self.orchestrator.cannot

        def scale(app: App) -> App:
            return recounted_app(app, math.ceil(app.instances * factor), cannot=cannot)

        scaled = dict(await in_turns((record.id, (record.app, scale(record.app))) for record in records))

        def make() -> Targets:
            targets = Targets()
            for record in self.orchestrator.state.apps_within(group):
                # Others may have changed one while this was worked at.
                former, found = scaled.get(record.id, (None, None))
                targets.apps[record.id] = found if found and former is record.app else scale(record.app)
            return targets

        await self.change(group, make)

    def patch(self, path: str = "") -> None:
        """Take what may be set of a group beside what is in it: that it enforces no role."""
        group = self.group_id(path)
        self.caller.require_group_change(group)
        group_update.read(self.json_body())
        if group.count("/") != 1:
            raise NotValid([Violation("/id", "only a group directly below the root enforces a role or not")])
        if not self.orchestrator.state.groups.exists(group):
            raise NotFoundHere(f"Group '{group}' does not exist")
        self.finish()

    async def delete(self, path: str = "") -> None:
        """End a group with all that is in it, in one deployment."""
        group = canonical(path)
        self.caller.require_group_change(group)
        self.visible(group)
        await self.change(group, lambda: group_update.emptied(group, self.orchestrator.state))


class GroupPartHandler(GroupHandler):
    """Something said of a group below its path; what is changed there is a group of that very name."""

    NAME = ""

    def whole(self, path: str) -> str:
        """Return the path as that of a group."""
        return f"{path}/{self.NAME}"

    async def post(self, path: str = "") -> None:
        """Make the group of that name."""
        await super().post(self.whole(path))

    async def put(self, path: str = "") -> None:
        """Change the group of that name."""
        await super().put(self.whole(path))

    def patch(self, path: str = "") -> None:
        """Change the group of that name."""
        super().patch(self.whole(path))

    async def delete(self, path: str = "") -> None:
        """End the group of that name."""
        await super().delete(self.whole(path))

"""``/v2/groups``: the tree that the ids of apps make, as one caller sees it (``marathon-v2`` 1.3).

A group is there as long as an app is in it, at any depth.
"""

from __future__ import annotations

import json
import math
from typing import Any

from hubfleet.api.ids import canonical, is_within

from ..definition import WrongShape, changed_app
from ..orchestrator.refusals import ChangeRefused
from ..records import AppRecord
from .answers import NotFoundHere
from .appinfo import app_pieces, separated, wanted_parts
from .base import ApiHandler

_NEVER = "1970-01-01T00:00:00.000Z"
"""The version of a root in which there never was anything, as Marathon's."""


def tree(group: str, apps: dict[str, dict[str, Any]], embeds: set[str]) -> dict[str, Any]:
    """Return a group with the groups in it.

    Parameters
    ----------
    group
        Its id; the root is ``""``.
    apps
        The JSON objects of all apps in it, by id.
    embeds
        What is shown: ``group.apps`` and ``group.groups``; pods there are none.
    """
    own: list[dict[str, Any]] = []
    below: dict[str, dict[str, dict[str, Any]]] = {}
    for app_id, body in apps.items():
        name, _, rest = app_id[len(group) + 1 :].partition("/")
        if rest:
            below.setdefault(f"{group}/{name}", {})[app_id] = body
        else:
            own.append(body)
    found: dict[str, Any] = {"id": group or "/", "dependencies": []}
    found["version"] = max((body["version"] for body in apps.values()), default=_NEVER)
    if "group.apps" in embeds:
        found["apps"] = own
    if "group.pods" in embeds:
        found["pods"] = []
    if "group.groups" in embeds:
        found["groups"] = [tree(child, inside, embeds) for child, inside in below.items()]
    return found


class GroupHandler(ApiHandler):
    """A group, or the root of all."""

    def get(self, path: str = "") -> None:
        """Show the group, down to its apps unless less is asked for."""
        group, records = self.visible(path)
        asked = self.get_query_arguments("embed")
        embeds = set(asked) or {"group.groups", "group.apps", "group.pods"}
        parts = {value for value in embeds if value.startswith("group.apps.")}
        if parts:
            embeds.add("group.apps")
        apps = {record.id: record.app.to_wire() for record in records}
        if parts:
            self._embed(records, apps, parts)
        self.write_json(tree(group, apps, embeds))

    def _embed(self, records: list[AppRecord], apps: dict[str, dict[str, Any]], parts: set[str]) -> None:
        for record in records:
            wanted = wanted_parts(parts)
            text = "".join(app_pieces(self.orchestrator.state, record, wanted, self.sees_deployment))
            apps[record.id] = json.loads(text)

    def put(self, path: str = "") -> None:
        """Scale all apps of the group by a factor, in one deployment."""
        _, records = self.visible(path)
        body = self.json_body()
        factor = body.get("scaleBy") if isinstance(body, dict) else None
        if factor is None:
            raise ChangeRefused(
                "A group is changed here only as a whole, by 'scaleBy'; change its apps by PUT /v2/apps"
            )
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            raise WrongShape([{"path": "/scaleBy", "errors": ["error.expected.jsnumber"]}])
        if not 0 <= factor <= 2**31:
            raise WrongShape([{"path": "/scaleBy", "errors": ["error.min" if factor < 0 else "error.max"]}])
        self._require(records)
        apps = [
            self.caller.admit(
                changed_app(
                    record.app,
                    {"instances": math.ceil(record.app.instances * factor)},
                    cannot=self.orchestrator.cannot,
                ),
                self.orchestrator.state,
            )
            for record in records
        ]
        self.write_deployment(self.orchestrator.changes.put_all(apps, self.flag("force"), **self.terms))

    def delete(self, path: str = "") -> None:
        """End all apps of the group, in one deployment."""
        _, records = self.visible(path)
        self._require(records)
        app_ids = [record.id for record in records]
        self.write_deployment(
            self.orchestrator.changes.remove_all(app_ids, self.flag("force"), share=self.caller.share)
        )

    def _require(self, records: list[AppRecord]) -> None:
        for record in records:
            self.caller.require_change(record.id)

    def visible(self, path: str) -> tuple[str, list[AppRecord]]:
        """Return a group's id and the apps in it that the caller sees.

        Raises
        ------
        NotFoundHere
            There is no such group for this caller; the root is always there.
        """
        group = canonical(path)
        found = [
            record
            for record in self.orchestrator.state.apps.values()
            if is_within(record.id, group) and self.caller.sees(record.id)
        ]
        if group and not found:
            raise NotFoundHere(f"Group '{group}' does not exist")
        return group, found


class GroupAppsHandler(GroupHandler):
    """The apps of a group, at any depth."""

    SUPPORTED_METHODS = ("GET",)

    async def get(self, path: str = "") -> None:  # type: ignore[override]
        """List them, with what is asked for beside their definitions."""
        _, records = self.visible(path)
        wanted = wanted_parts(self.get_query_arguments("embed"))
        state, sees = self.orchestrator.state, self.sees_deployment
        texts = ("".join(app_pieces(state, record, wanted, sees)) for record in records)
        await self.write_pieces(("[", *separated(texts), "]"))

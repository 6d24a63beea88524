"""From the JSON of a change of a group to what its apps and groups are to become, or every reason why not.

The rules are those of Marathon's ``UpdateGroupStructureOp``: what a group's update leaves out (its
apps, its groups, its dependencies) stays; what it names is replaced as a whole, and so are
the definitions of the apps in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from hubfleet.api.app import App
from hubfleet.api.fields import PathId
from hubfleet.api.ids import resolved
from hubfleet.api.rules import Violation, path_violations
from hubfleet.api.wire import Wire

from .definition import Cannot, WrongShape, new_app, shape_errors
from .orchestrator.refusals import ChangeRefused, NotValid
from .records import GroupRecord
from .state import State

MAX_AT_ONCE = 1000
"""Most apps, and most groups, in the body of one change, so that nobody waits long for its turn."""

T = TypeVar("T")

ALONE = "not allowed in conjunction with other properties."
ROLES = "there are no roles here but *, so a group cannot enforce its own; leave it out, or say false"


class GroupUpdate(Wire):
    """A group as a request spells it. The apps and groups in it are read one by one."""

    id: PathId | None = None
    apps: list[Any] | None = None
    groups: list[Any] | None = None
    dependencies: list[PathId] | None = None
    scale_by: Annotated[float, Field(ge=0, le=2**31)] | None = None
    version: str | None = None
    enforce_role: bool | None = None


@dataclass
class Structure:
    """A group as a request wants it, read and checked: it says nothing of what is there already.

    Parameters
    ----------
    id
        The absolute id.
    apps, groups, dependencies
        What is in it, and whose apps come before its own; None stays as it is.
    """

    id: str
    apps: list[App] | None = None
    groups: list[Structure] | None = None
    dependencies: list[str] | None = None


@dataclass
class Targets:
    """What apps and groups made by name are to become; None is what goes."""

    apps: dict[str, App | None] = field(default_factory=dict)
    groups: dict[str, GroupRecord | None] = field(default_factory=dict)


def read(body: Any) -> GroupUpdate:
    """Return the update of one group, whose parts are not read yet.

    Raises
    ------
    WrongShape, NotValid
        The body has not the shape of one, or asks for a scale or a version and something else.
    """
    if not isinstance(body, dict):
        raise WrongShape([{"path": "/", "errors": ["error.expected.jsobject"]}])
    sent = {name: value for name, value in body.items() if value is not None}
    try:
        update = GroupUpdate.from_request(sent)
    except ValidationError as error:
        raise WrongShape(shape_errors(error)) from None
    given = [name for name in GroupUpdate.model_fields if getattr(update, name) is not None]
    broken = [
        Violation(path, ALONE)
        for name, path in (("scale_by", "/scaleBy"), ("version", "/version"))
        if name in given and len(given) > 1
    ]
    if update.enforce_role:
        broken.append(Violation("/enforceRole", ROLES))
    if broken:
        raise NotValid(broken)
    return update


def effective_id(update: GroupUpdate, group: str) -> str:
    """Return the absolute id of the group that an update sent to a group's path means."""
    return group if update.id is None else resolved(update.id, group)


class Reader:
    """Reads the structure of a group, a few parts at a time, since it may hold a thousand apps.

    Parameters
    ----------
    cannot
        What the engine cannot give an app.
    """

    def __init__(self, cannot: Cannot) -> None:
        self._cannot = cannot
        self._count: Counter[str] = Counter()
        self._shapes: list[dict[str, Any]] = []
        self._broken: list[Violation] = []

    def fill(self, structure: Structure, update: GroupUpdate) -> Iterator[None]:
        """Fill a structure with what an update says, and yield after each part; it is whole at the end.

        Raises
        ------
        WrongShape, NotValid, ChangeRefused
            With all that is wrong.
        """
        yield from self._fill(structure, update, "")
        if self._shapes:
            raise WrongShape(self._shapes)
        if self._broken:
            raise NotValid(self._broken)

    def _fill(self, found: Structure, update: GroupUpdate, place: str) -> Iterator[None]:
        if update.dependencies is not None:
            found.dependencies = list(dict.fromkeys(resolved(path, found.id) for path in update.dependencies))
            for index, path in enumerate(found.dependencies):
                self._broken += path_violations(path, f"{place}/dependencies({index})", of_group=True)
        if update.apps is not None:
            found.apps = []
            for index, body in enumerate(update.apps):
                app = self._part(self._app, body, found.id, f"{place}/apps({index})")
                if app is not None:
                    found.apps.append(app)
                yield
            self._unique((app.id for app in found.apps), f"{place}/apps")
        if update.groups is not None:
            found.groups = []
            for index, body in enumerate(update.groups):
                at = f"{place}/groups({index})"
                inner = self._part(self._group, body, found.id, at)
                yield
                if inner is not None:
                    child = Structure(effective_id(inner, found.id))
                    found.groups.append(child)
                    yield from self._fill(child, inner, at)
            self._unique((group.id for group in found.groups), f"{place}/groups")

    def _part(self, reading: Callable[[Any, str], T], body: Any, group: str, place: str) -> T | None:
        """Return a part of a group; what is wrong with it is told with all the rest."""
        try:
            return reading(body, group)
        except WrongShape as refusal:
            self._shapes += [{**each, "path": _within(place, each["path"])} for each in refusal.details]
        except NotValid as refusal:
            self._broken += [Violation(_within(place, path), error) for path, error in refusal.violations]
        return None

    def _app(self, body: Any, group: str) -> App:
        self._take("apps")
        if isinstance(body, dict) and isinstance(paths := body.get("dependencies"), list):
            # Seen from the group, where those of an app that is sent alone are seen from the app.
            absolute = [(resolved(path, group) or "/") if isinstance(path, str) else path for path in paths]
            body = {**body, "dependencies": absolute}
        app = new_app(body, cannot=self._cannot, base=group)
        _require_child(app.id, group)
        return app

    def _group(self, body: Any, group: str) -> GroupUpdate:
        self._take("groups")
        update = read(body)
        if update.id is None:
            raise WrongShape([{"path": "/id", "errors": ["error.path.missing"]}])
        for name, path in (("scale_by", "/scaleBy"), ("version", "/version")):
            if getattr(update, name) is not None:
                raise NotValid([Violation(path, ALONE)])
        child = effective_id(update, group)
        if broken := list(path_violations(child, "/id", of_group=True)):
            raise NotValid(broken)
        _require_child(child, group)
        return update

    def _take(self, what: str) -> None:
        self._count[what] += 1
        if self._count[what] > MAX_AT_ONCE:
            raise ChangeRefused(f"a change has at most {MAX_AT_ONCE} {what}: send them in parts")

    def _unique(self, ids: Iterable[str], place: str) -> None:
        found = list(ids)
        if len(set(found)) != len(found):
            self._broken.append(Violation(place, "Elements must be unique"))


def targets(structure: Structure, state: State) -> Targets:
    """Return what apps and groups are to become, so that a group is as a structure wants it."""
    found = Targets()
    _put(structure, state, found)
    return found


def emptied(group: str, state: State) -> Targets:
    """Return what becomes of a group that ends, with all that is in it."""
    apps: dict[str, App | None] = {record.id: None for record in state.apps_within(group)}
    return Targets(apps, dict.fromkeys(_made(group, state)))


def restored(group: str, apps: dict[str, App], groups: dict[str, GroupRecord], state: State) -> Targets:
    """Return what becomes of a group that is to be what it was."""
    found = emptied(group, state)
    return Targets({**found.apps, **apps}, {**found.groups, **groups})


def _made(group: str, state: State) -> list[str]:
    """Return a group and those in it, of those that were made by name."""
    own = [group] if group in state.groups.records else []
    return own + [record.id for record in state.groups.within(group)]


def _put(structure: Structure, state: State, found: Targets) -> None:
    group = structure.id
    known = state.groups.records.get(group)
    if structure.dependencies is not None:
        found.groups[group] = GroupRecord(id=group, dependencies=structure.dependencies)
    else:
        found.groups[group] = known or GroupRecord(id=group)
    if structure.apps is not None:
        stay = {app.id for app in structure.apps}
        for record in state.apps_within(group):
            if record.id.rpartition("/")[0] == group and record.id not in stay:
                found.apps[record.id] = None
        found.apps.update((app.id, app) for app in structure.apps)
    if structure.groups is not None:
        listed = {child.id for child in structure.groups}
        inner = [*(record.id for record in state.apps_within(group)), *_made(group, state)]
        for path in inner:
            child = _child_of(path, group)
            if child is not None and child != path and child not in listed:
                found.apps[path] = None
        for path in _made(group, state):
            if path != group and _child_of(path, group) not in listed:
                found.groups[path] = None
        for each in structure.groups:
            _put(each, state, found)


def _child_of(path: str, group: str) -> str | None:
    """Return the group or app directly in a group at or in which a path lies; None for the group itself."""
    rest = path[len(group) + 1 :]
    return f"{group}/{rest.partition('/')[0]}" if rest else None


def _require_child(path: str, group: str) -> None:
    if path.rpartition("/")[0] != group:
        sentence = f"Identifier is not child of '{group or '/'}'. Hint: use relative paths."
        raise NotValid([Violation("/id", sentence)])


def _within(place: str, path: str) -> str:
    return place if path == "/" else f"{place}{path}"

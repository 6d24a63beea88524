"""From the body of a PUT or PATCH to the definitions that it means, or every reason why not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hubfleet.api.app import App
from hubfleet.api.wire import format_timestamp

from ..definition import Cannot, changed_app, changed_apps, new_app, rollback_version
from ..orchestrator.refusals import ChangeRefused, NoSuchApp
from ..state import State
from .answers import NotFoundHere
from .turns import in_turns

MAX_AT_ONCE = 1000
"""Most apps in one change, so that nobody waits long for its turn."""


def target(
    state: State,
    app_id: str,
    former: App | None,
    body: Any,
    cannot: Cannot,
    *,
    partial: bool,
    creates: bool,
) -> App:
    """Return what an app is to become.

    Parameters
    ----------
    former
        Its present definition, or None if there is none.
    cannot
        What the engine cannot give an app.
    partial
        Whether fields that the body leaves out stay as they are; else it is a whole definition.
    creates
        Whether the app may be made if it is not there.

    Raises
    ------
    NoSuchApp, NotFoundHere, ChangeRefused, WrongShape
        There is no such app, no such version to go back to, or the body is no definition.
    """
    if former is None and not creates:
        raise NoSuchApp(app_id)
    version = rollback_version(body)
    if former is not None and version is not None:
        found = state.version(app_id, version)
        if found is None:
            raise NotFoundHere(f"App '{app_id}' does not exist in version {format_timestamp(version)}")
        return found
    if former is None or not partial:
        return new_app(body, app_id, cannot=cannot)
    return changed_app(former, body, cannot=cannot)


async def targets(
    state: State,
    body: Any,
    require_change: Callable[[str], None],
    cannot: Cannot,
    *,
    partial: bool,
    creates: bool,
) -> list[App]:
    """Return what the apps of a list of changes are to become, each built upon those before it.

    Others have their turns meanwhile. Where they change what is built upon, all is worked out
    once more, then at a stretch; so what is returned holds until the caller waits for something.

    Parameters
    ----------
    require_change
        Called with the id of each app, before anything is told of it; raises to refuse.

    Raises
    ------
    NoSuchApp, NotFoundHere, ChangeRefused, WrongShape
        As `target`; the paths of what is wrong begin with the place in the list: ``(2)/cpus``.
    """
    if isinstance(body, list) and len(body) > MAX_AT_ONCE:
        raise ChangeRefused(f"{len(body)} apps in one change, of at most {MAX_AT_ONCE}: send them in parts")
    formers: dict[str, App | None] = {}
    made: dict[str, App] = {}

    def present(app_id: str) -> App | None:
        record = state.apps.get(app_id)
        return record.app if record else None

    def change(app_id: str, update: dict[str, Any]) -> App:
        require_change(app_id)
        former = made.get(app_id) or formers.setdefault(app_id, present(app_id))
        made[app_id] = target(state, app_id, former, update, cannot, partial=partial, creates=creates)
        return made[app_id]

    apps = await in_turns(changed_apps(body, change))
    if all(present(app_id) is former for app_id, former in formers.items()):
        return apps
    formers.clear()
    made.clear()
    return list(changed_apps(body, change))

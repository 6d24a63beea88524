"""From the body of a PUT or PATCH to the definitions that it means, or every reason why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial as with_arguments
from itertools import count
from typing import Any

from hubfleet.api.app import App
from hubfleet.api.wire import format_timestamp

from ..definition import Cannot, changed_app, changed_apps, new_app, rollback_version
from ..orchestrator.refusals import ChangeRefused, NoSuchApp
from ..state import State
from .answers import NotFoundHere

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


class BulkUpdate:
    """A list of changes of apps, each built upon those before it.

    Parameters
    ----------
    require_change
        Called with the id of each app, before anything is told of it; raises to refuse.
    partial, creates
        As of `target`.

    Raises
    ------
    ChangeRefused
        They are too many.
    """

    def __init__(
        self,
        state: State,
        body: Any,
        require_change: Callable[[str], None],
        cannot: Cannot,
        *,
        partial: bool,
        creates: bool,
    ) -> None:
        if isinstance(body, list) and len(body) > MAX_AT_ONCE:
            raise ChangeRefused(
                f"{len(body)} apps in one change, of at most {MAX_AT_ONCE}: send them in parts"
            )
        self._state = state
        self._body = body
        self._require_change = require_change
        self._target = with_arguments(target, cannot=cannot, partial=partial, creates=creates)
        # What each change was built upon, and what it made of that.
        self._made: dict[int, tuple[App | None, App]] = {}

    def read(self) -> Iterator[App]:
        """Yield what each app is to become; others may change things between two of them.

        Raises
        ------
        NoSuchApp, NotFoundHere, ChangeRefused, WrongShape
            As `target`; the paths of what is wrong begin with the place in the list: ``(2)/cpus``.
        """
        found: dict[str, App] = {}
        places = count()

        def change(app_id: str, update: dict[str, Any]) -> App:
            place = next(places)
            self._require_change(app_id)
            record = self._state.apps.get(app_id)
            former = found.get(app_id) or (record.app if record else None)
            if place not in self._made or self._made[place][0] is not former:
                self._made[place] = former, self._target(self._state, app_id, former, update)
            found[app_id] = self._made[place][1]
            return found[app_id]

        return changed_apps(self._body, change)

    def targets(self) -> dict[str, App | None]:
        """Return what the apps are to become from what they are now.

        Only what others have changed meanwhile is worked out again.

        Raises
        ------
        NoSuchApp, NotFoundHere, ChangeRefused, WrongShape
            As `read`.
        """
        return {app.id: app for app in self.read()}

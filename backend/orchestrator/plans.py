"""From what is and what is asked to the steps of a deployment (``marathon-v2`` section 4). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from hubfleet.api.app import App
from hubfleet.api.status import Action, Step

# What a change of does not touch the tasks' configuration.
_NOT_CONFIGURATION = {"instances", "version", "version_info"}


def configuration(app: App) -> dict[str, Any]:
    """Return everything of a definition that, when it changes, replaces the app's tasks."""
    return app.model_dump(exclude=_NOT_CONFIGURATION)


def same_configuration(before: App, after: App) -> bool:
    """Whether the tasks of one definition serve the other as they are."""
    return configuration(before) == configuration(after)


def steps(
    before: Mapping[str, App | None], after: Mapping[str, App | None], restarted: Collection[str] = ()
) -> list[Step]:
    """Return the steps from the former definitions of some apps to their new ones.

    None is an app that was not there, or that is to go; `restarted` are those whose tasks
    are replaced although nothing else changes. Empty steps are left out, so that a change
    that changes nothing is a plan without steps.
    """
    stop, start, move = Step(), Step(), Step()
    for app_id in after:
        old, new = before.get(app_id), after[app_id]
        if new is None:
            if old is not None:
                stop.actions.append(Action(action="StopApplication", app=app_id))
        elif old is None:
            start.actions.append(Action(action="StartApplication", app=app_id))
            move.actions.append(Action(action="ScaleApplication", app=app_id))
        elif same_configuration(old, new) and app_id not in restarted:
            if old.instances != new.instances:
                move.actions.append(Action(action="ScaleApplication", app=app_id))
        else:
            name = "ScaleApplication" if new.instances == 0 else "RestartApplication"
            move.actions.append(Action(action=name, app=app_id))
    return [step for step in (stop, start, move) if step.actions]

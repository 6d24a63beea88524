"""From what is and what is asked to the steps of a deployment (``marathon-v2`` section 4). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter

from hubfleet.api.app import App
from hubfleet.api.status import Action, Step

# Everything that, when it changes, replaces the app's tasks.
_configuration = attrgetter(*(App.model_fields.keys() - {"instances", "version", "version_info"}))


def same_configuration(before: App, after: App) -> bool:
    """Whether the tasks of one definition serve the other as they are."""
    return bool(_configuration(before) == _configuration(after))


def steps(
    before: Mapping[str, App | None],
    after: Mapping[str, App | None],
    restarted: Collection[str] = (),
    levels: Mapping[str, int] | None = None,
) -> list[Step]:
    """Return the steps from the former definitions of some apps to their new ones.

    None is an app that was not there, or that is to go; `restarted` are those whose tasks
    are replaced although nothing else changes. Empty steps are left out, so that a change
    that changes nothing is a plan without steps. Apps of a lower level, which others depend
    on, are moved in a step before those of a higher one.
    """
    stop, start = Step(), Step()
    moves: dict[int, Step] = {}
    for app_id in after:
        old, new = before.get(app_id), after[app_id]
        level = (levels or {}).get(app_id, 0)
        name = _move(old, new, app_id in restarted)
        if name is not None:
            moves.setdefault(level, Step()).actions.append(Action(action=name, app=app_id))
        if new is None and old is not None:
            stop.actions.append(Action(action="StopApplication", app=app_id))
        elif new is not None and old is None:
            start.actions.append(Action(action="StartApplication", app=app_id))
    return [step for step in (stop, start, *(moves[level] for level in sorted(moves))) if step.actions]


def affected(steps: Sequence[Step]) -> list[str]:
    """Return the apps that some step touches, each once."""
    return list(dict.fromkeys(action.app for step in steps for action in step.actions if action.app))


def _move(old: App | None, new: App | None, restarted: bool) -> str | None:
    """Return what is to be done with the tasks of an app that stays or comes."""
    if new is None:
        return None
    if old is None:
        return "ScaleApplication"
    if same_configuration(old, new) and not restarted:
        return "ScaleApplication" if old.instances != new.instances else None
    return "ScaleApplication" if new.instances == 0 else "RestartApplication"

"""The administrator's last word on an app: `extra_app_config` and `modify_app_hook`. Pure, but for the hook.

What they may not change is what ties the app to its server: another id, or other marks, would let the
hub lose sight of it, or take it for somebody else's.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hubfleet.api import labels
from hubfleet.api.app import App


def merged(app: App, changes: Mapping[str, Any]) -> App:
    """Return an app with changes merged into its JSON, by the rules of JSON Merge Patch (RFC 7396).

    An object is merged name by name, at any depth; None removes what is there; everything else, lists
    among it, takes the place of what was there.

    Raises
    ------
    ValueError
        The result is no app, or no longer this server's.
    """
    return tied(App.from_wire(_patched(app.to_wire(), changes)), app, "c.MarathonSpawner.extra_app_config")


async def hooked(hook: Any, spawner: Any, app: App) -> App:
    """Return what a hook makes of an app.

    The hook gets the spawner and the app. It may change that app and return nothing, or return another
    app or its JSON; it may be async.

    Raises
    ------
    ValueError
        The result is no app, or no longer this server's.
    """
    before = app.model_copy(deep=True)
    result = hook(spawner, app)
    if inspect.isawaitable(result):
        result = await result
    result = app if result is None else result
    body = result
    if isinstance(result, App):
        # Read anew, since values that were set on a model have not been looked at; without warnings,
        # which would show them in the log.
        body = result.model_dump(mode="json", by_alias=True, exclude_none=True, warnings=False)
    return tied(App.from_wire(body), before, "c.MarathonSpawner.modify_app_hook")


def tied(app: App, before: App, who: str) -> App:
    """Return an app that is still the same server's.

    Raises
    ------
    ValueError
        It is not.
    """
    if app.id != before.id:
        raise ValueError(f"{who} may not change the app's id, got {app.id!r} in place of {before.id!r}")
    if app.instances != 1:
        raise ValueError(f"{who} may not change 'instances': a server has exactly one, got {app.instances}")
    for name in (labels.HUB, labels.USER, labels.SERVER):
        if app.labels.get(name) != before.labels.get(name):
            raise ValueError(f"{who} may not change the label {name}: the hub knows the server by it")
    return app


def sentence(error: Exception) -> str:
    """Return what is wrong in words, without the values, which may be secret."""
    if not isinstance(error, ValidationError):
        return str(error)
    found = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(
        f"{'/'.join(str(part) for part in each['loc'] if not str(part).startswith('='))}: {each['msg']}"
        for each in found
    )


def _patched(target: Any, changes: Any) -> Any:
    if not isinstance(changes, Mapping):
        return changes
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in changes.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = _patched(result.get(name), value)
    return result

"""What an answer shows of apps to somebody who may know that they run, but not their secrets. Pure."""

from __future__ import annotations

from typing import Any

from ..access import Caller

HIDDEN = "(hidden)"


def shown_to(caller: Caller, value: Any) -> Any:
    """Return a JSON value without what its reader may not see of the apps in it.

    Every answer and event passes here, so that no handler can forget it: environments hold
    credentials, and what a task printed last may as well.
    """
    if not caller.hides:
        return value
    if isinstance(value, list):
        return [shown_to(caller, item) for item in value]
    if not isinstance(value, dict):
        return value
    shown = {name: shown_to(caller, item) for name, item in value.items()}
    app_id = value.get("id", value.get("appId"))
    if isinstance(app_id, str) and caller.sees_inside(app_id):
        return shown
    if isinstance(shown.get("env"), dict):
        shown["env"] = dict.fromkeys(shown["env"], HIDDEN)
    if isinstance(failure := shown.get("lastTaskFailure"), dict) and "stderr" in failure:
        failure["stderr"] = HIDDEN
    if isinstance(response := shown.get("lastResponse"), dict):
        response["body"] = HIDDEN
    return shown

"""From the JSON of a request to an app definition that can be run here, or every reason why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NoReturn

from pydantic import ValidationError

from hubfleet.api.app import App
from hubfleet.api.fields import BRANCH
from hubfleet.api.ids import resolved
from hubfleet.api.rules import Violation, violations
from hubfleet.api.wire import parse_timestamp

from .honoured import not_honoured
from .normal import contradictions, normal, spells_networks
from .orchestrator.refusals import ChangeRefused, NotValid

Cannot = Callable[[App], Sequence[Violation]]

MAPS = frozenset(
    {"env", "labels", "secrets", "options", "nodeStageSecret", "nodePublishSecret", "volumeContext"}
)
"""Fields that hold names and values of the user's own."""

_READ_ONLY = frozenset({"version", "versionInfo"})
_FIELDS = frozenset(
    (field.alias or name) for name, field in App.model_fields.items() if name not in ("id", "version")
)
_DEEPEST = 12  # no field of an app is deeper
_VERSION_ALONE = Violation("/", "The 'version' field may only be combined with the 'id' field.")


class NotJson(Exception):
    """The body is no JSON; the message is the parser's."""


class EmptyBody(NotJson):
    """There is no body where one is needed."""


class WrongShape(Exception):
    """The JSON has not the shape of an app: Marathon's other kind of 422."""

    def __init__(self, details: list[dict[str, Any]]) -> None:
        super().__init__("Invalid JSON")
        self.details = details


def parse_json(body: bytes) -> Any:
    """Return the value that a body holds.

    Raises
    ------
    NotJson
        It holds none, or one with what JSON does not know (NaN, lone surrogates).
    """
    if not body.strip():
        raise EmptyBody("No content to map due to end-of-input")

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON number")

    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=refuse)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        reason = "the nesting is too deep" if isinstance(error, RecursionError) else str(error)
        raise NotJson(reason) from None
    return value


def new_app(body: Any, app_id: str | None = None, *, cannot: Cannot, base: str = "") -> App:
    """Return the definition of a whole app, in canonical form.

    Parameters
    ----------
    body
        The request's JSON value. Its ``version`` and ``versionInfo`` have no effect.
    app_id
        The id in the URL, which overrides the body's and is taken as it stands.
    cannot
        What the engine cannot give an app (`Driver.cannot`).
    base
        The group that the body's id is relative to.

    Raises
    ------
    WrongShape, NotValid
        With all that is wrong.
    """
    sent = _read(body, app_id)
    found = sent.model_copy(update={"id": resolved(sent.id, base)}) if app_id is None else sent
    return _checked(found, contradictions(sent), cannot)


def changed_app(app: App, changes: Any, *, cannot: Cannot) -> App:
    """Return an app with the fields of an update replaced, each as a whole (``marathon-v2`` 1.1).

    What is absent or null is kept, but for the limits above what is requested, which are
    reset; what the API only shows (``tasks``, ``versionInfo``…) has no effect.

    Raises
    ------
    WrongShape, NotValid
        With all that is wrong.
    """
    sent = _read(changes, app.id)
    if changes.get("version") is not None:
        raise NotValid([_VERSION_ALONE])
    kept = app.to_wire()
    for reset in ("executorResources", "resourceLimits"):
        kept.pop(reset, None)
    # An older spelling of what is sent replaces the canonical one that is kept.
    if spells_networks(sent):
        kept.pop("networks", None)
    if sent.ports is not None:
        kept.pop("portDefinitions", None)
    if sent.uris is not None:
        kept.pop("fetch", None)
    return _checked(_read({**kept, **_present(changes)}, app.id), contradictions(sent), cannot)


def rollback_version(changes: Any) -> datetime | None:
    """Return the version that an update goes back to, or None if it is a change of fields.

    Raises
    ------
    WrongShape, NotValid, ChangeRefused
        The version is none, or comes with anything but the id.
    """
    version = changes.get("version") if isinstance(changes, dict) else None
    if version is None:
        return None
    if not isinstance(version, str):
        raise WrongShape([{"path": "/version", "errors": ["error.expected.jsstring"]}])
    if any(name in _FIELDS for name in _present(changes)):
        raise NotValid([_VERSION_ALONE])
    try:
        return parse_timestamp(version)
    except ValueError as error:
        raise ChangeRefused(str(error)) from None


def recounted_app(app: App, instances: int, *, cannot: Cannot) -> App:
    """Return an app with another number of instances, and nothing else changed.

    Raises
    ------
    NotValid
        It may not have so many.
    """
    return _checked(app.model_copy(update={"instances": instances}), (), cannot)


def changed_apps(body: Any, change: Callable[[str, dict[str, Any]], App]) -> Iterator[App]:
    """Yield the definitions that a list of updates leads to; whether they are good is known at the end.

    Parameters
    ----------
    body
        The request's JSON value: a list of updates, each with an id.
    change
        Makes the definition of one app from its absolute id and its update; called in the
        order of the list. Of its refusals, `WrongShape` and `NotValid` are told all at once,
        their paths led by the place in the list.

    Raises
    ------
    WrongShape, NotValid, ChangeRefused
        The body is no such list, or an update of it leads to no definition.
    """
    if not isinstance(body, list):
        raise WrongShape([{"path": "/", "errors": ["error.expected.jsarray"]}])
    shapes: list[dict[str, Any]] = []
    broken: list[Violation] = []
    for index, changes in enumerate(body):
        try:
            yield change(_update_id(changes), changes)
        except WrongShape as refusal:
            shapes += [{**detail, "path": _within(index, detail["path"])} for detail in refusal.details]
        except NotValid as refusal:
            broken += [Violation(_within(index, path), error) for path, error in refusal.violations]
    if shapes:
        raise WrongShape(shapes)
    if broken:
        raise NotValid(broken)


def _update_id(changes: Any) -> str:
    """Return the absolute id of an update; one that is no id is refused where it is read."""
    if not isinstance(changes, dict):
        raise WrongShape([{"path": "/", "errors": ["error.expected.jsobject"]}])
    if changes.get("id") is None:
        raise ChangeRefused("requirement failed: App Update must have app id set")
    if not isinstance(changes["id"], str):
        raise WrongShape([{"path": "/id", "errors": ["error.expected.jsstring"]}])
    return resolved(changes["id"]) or "/"


def _within(index: int, path: str) -> str:
    return f"({index})" if path == "/" else f"({index}){path}"


def _read(body: Any, app_id: str | None) -> App:
    """Return a body as it was sent, with its shape checked."""
    if not isinstance(body, dict):
        raise WrongShape([{"path": "/", "errors": ["error.expected.jsobject"]}])
    present = {name: value for name, value in _present(body).items() if name not in _READ_ONLY}
    try:
        if app_id is None:
            return App.from_request(present)
        if "id" in present:
            App.from_request(present)  # it has no effect, but what is no id is none here either
        return App.from_request({**present, "id": app_id})
    except ValidationError as error:
        raise WrongShape(shape_errors(error)) from None


def _checked(app: App, contradictory: Sequence[Violation], cannot: Cannot) -> App:
    """Return the canonical form of a definition, unless something is wrong with it."""
    app = normal(app)
    broken = [*contradictory, *violations(app), *cannot(app), *not_honoured(app)]
    if broken:
        raise NotValid(list(dict.fromkeys(broken)))
    return app


def _present(value: Any, depth: int = _DEEPEST) -> Any:
    """Return a JSON value without what is null: absent, as Marathon takes it.

    The values of maps whose names are the user's are left as they are, to be refused.
    """
    if isinstance(value, dict) and depth:
        return {
            name: part if name in MAPS else _present(part, depth - 1)
            for name, part in value.items()
            if part is not None
        }
    if isinstance(value, list) and depth:
        return [_present(part, depth - 1) for part in value]
    return value


_CODES = {
    "missing": "error.path.missing",
    "string_type": "error.expected.jsstring",
    "int_type": "error.expected.jsnumber",
    "float_type": "error.expected.jsnumber",
    "finite_number": "error.expected.jsnumber",
    "int_from_float": "error.expected.int",
    "bool_type": "error.expected.jsboolean",
    "list_type": "error.expected.jsarray",
    "dict_type": "error.expected.jsobject",
    "model_type": "error.expected.jsobject",
    "model_attributes_type": "error.expected.jsobject",
    "greater_than": "error.min",
    "greater_than_equal": "error.min",
    "less_than": "error.max",
    "less_than_equal": "error.max",
    "string_too_short": "error.minLength",
    "string_too_long": "error.maxLength",
    "too_short": "error.minLength",
    "too_long": "error.maxLength",
    "string_pattern_mismatch": "error.pattern",
    "literal_error": "error.unknown.enum.literal",
    "int_parsing_size": "error.max",
}


def shape_errors(error: ValidationError) -> list[dict[str, Any]]:
    """Return the details of Marathon's "Invalid JSON" for what a model refused."""
    found: dict[str, list[str]] = {}
    for problem in error.errors(include_url=False, include_context=False, include_input=True):
        code = _CODES.get(problem["type"], "error.expected.jsobject")
        if problem["type"] == "int_type" and isinstance(problem.get("input"), float):
            code = "error.expected.int"
        codes = found.setdefault(_path(problem["loc"]), [])
        if code not in codes:
            codes.append(code)
    return [{"path": path, "errors": codes} for path, codes in found.items()]


def _path(location: tuple[int | str, ...]) -> str:
    """Return a place as Marathon writes it: ``/healthChecks(0)/port``."""
    path, before = "", None
    for part in location:
        if isinstance(part, int):
            path += f"({part})"
        elif not part.startswith(BRANCH) or before in MAPS:
            path += f"/{part}"
        before = part
    return path or "/"

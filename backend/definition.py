"""From the JSON of a request to an app definition that can be run here, or every reason why not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from pydantic import ValidationError

from hubfleet.api.app import App, Fetch, PortDefinition
from hubfleet.api.ids import canonical
from hubfleet.api.rules import Violation, violations

from .honoured import not_honoured, not_possible
from .orchestrator.refusals import NotValid

Cannot = Callable[[App], Sequence[Violation]]


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


def new_app(body: Any, app_id: str | None = None, *, cannot: Cannot) -> App:
    """Return the definition of a whole app.

    Parameters
    ----------
    body
        The request's JSON value.
    app_id
        The id in the URL, which overrides the body's.
    cannot
        What the engine cannot give an app (`Driver.cannot`).

    Raises
    ------
    WrongShape, NotValid
        With all that is wrong.
    """
    if not isinstance(body, dict):
        raise WrongShape([{"path": "/", "errors": ["error.expected.jsobject"]}])
    if app_id is not None:
        body = {**body, "id": app_id}
    body = {name: value for name, value in body.items() if value is not None}
    for read_only in ("version", "versionInfo"):
        body.pop(read_only, None)
    try:
        app = App.from_request(body)
    except ValidationError as error:
        raise WrongShape(shape_errors(error)) from None
    contradictions = _contradictions(app)
    app = _normal(app)
    if broken := [*contradictions, *violations(app), *not_honoured(app), *cannot(app), *not_possible(app)]:
        raise NotValid(broken)
    return app


def changed_app(app: App, changes: Any, *, cannot: Cannot) -> App:
    """Return an app with the given fields replaced, each as a whole.

    Raises
    ------
    WrongShape, NotValid
        With all that is wrong.
    """
    if not isinstance(changes, dict):
        raise WrongShape([{"path": "/", "errors": ["error.expected.jsobject"]}])
    present = {name: value for name, value in changes.items() if value is not None}
    if "version" in present:
        raise NotValid([Violation("/", "The 'version' field may only be combined with the 'id' field.")])
    body = app.to_wire()
    # The one replaces the other; an empty list of arguments is none.
    if "cmd" in present:
        body.pop("args", None)
    elif present.get("args"):
        body.pop("cmd", None)
    if "ports" in present:
        body.pop("portDefinitions", None)
    return new_app({**body, **present}, app.id, cannot=cannot)


def _normal(app: App) -> App:
    """Return the canonical form: an absolute id, ports spelled in one way (``marathon-v2`` 2.1)."""
    changes: dict[str, Any] = {"id": canonical(app.id), "ports": None, "uris": None}
    if app.port_definitions is None and app.on_host_network:
        if app.ports is None:
            definitions = [PortDefinition(name="default")]
        else:
            definitions = [PortDefinition(port=port) for port in app.ports]
        changes["port_definitions"] = definitions
    if app.uris:
        changes["fetch"] = [*app.fetch, *(Fetch(uri=uri) for uri in app.uris)]
    if app.container is not None and app.on_host_network and not app.networks:
        changes["container"] = app.container.model_copy(update={"port_mappings": None})
    return app.model_copy(update=changes)


def _contradictions(app: App) -> list[Violation]:
    """Return where a deprecated field and its successor say different things."""
    found = []
    if app.ports is not None and app.port_definitions is not None:
        numbers = [definition.port for definition in app.port_definitions]
        if numbers != app.ports:
            found.append(Violation("/ports", "cannot specify both ports and port definitions"))
    if app.uris and app.fetch:
        found.append(Violation("/uris", "may not be set in conjunction with fetch"))
    return found


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


# What the model adds to a path to tell the branches of a union apart.
_BRANCHES = frozenset({"str", "SecretRef", "UnreachableStrategy", "literal['disabled']"})


def _path(location: tuple[int | str, ...]) -> str:
    """Return a place as Marathon writes it: ``/healthChecks(0)/port``."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"({part})"
        elif part not in _BRANCHES:
            path += f"/{part}"
    return path or "/"

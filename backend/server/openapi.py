"""The OpenAPI 3.1 description of the API, worked out from its routes and models. Pure.

Nothing is written twice: paths, methods and parameters are those by which requests are
served, bodies are the models that read them, and the sentences are the handlers' own.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from hubfleet.api.quota import Amounts, QuotaReport

from . import shapes
from .operations import PATH_PARAMETERS, Access, Answer, Operation, Route, Schema

_REFUSALS: dict[int, tuple[Any, str]] = {
    400: (shapes.NotUnderstood, "The body is no JSON, or a parameter makes no sense."),
    401: (shapes.Message, "There is no token, or one that nobody knows."),
    403: (shapes.NotAllowed, "The caller may not do this, or has no room left for it."),
    404: (shapes.Message, "It is not there, or not for the caller."),
    405: (shapes.Message, "The path has no such method, or the request lacks the Accept header."),
    406: (shapes.Message, "The client takes no JSON."),
    409: (shapes.Conflict, "Something is in the way."),
    413: (shapes.Message, "The body is too large."),
    415: (shapes.Message, "The body is not JSON."),
    416: (shapes.Message, "There is nothing in this range."),
    422: (shapes.Invalid, "The body or a parameter is wrong."),
    429: (shapes.Message, "The caller asks for too much at once."),
    503: (shapes.Message, "The backend cannot answer now: ask again."),
}
_ANSWERS_REF = "#/components/schemas/{model}"
_REQUESTS_REF = "#/components/schemas/{model}Request"
_SECURITY: dict[str, Schema] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "`Bearer <token>`, or `token <token>`."},
    "basic": {"type": "http", "scheme": "basic", "description": "With the token as the password."},
    "marathon": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`token=<token>`, as clients of Marathon send it.",
    },
}


def describe(routes: Sequence[Route], version: str, open_metrics: bool = False) -> Schema:
    """Return the description of an API.

    Parameters
    ----------
    version
        Of the API, as it tells it.
    open_metrics
        Whether everybody may read what else only those may who see all apps.
    """
    operations = [operation for route in routes for operation in route.operations.values()]
    sent, sent_models = _schemas(
        (operation.body for operation in operations if operation.body is not None),
        "validation",
        _REQUESTS_REF,
        _Requests,
    )
    answered = [
        body
        for operation in operations
        for answer in operation.answers.values()
        for body in answer.content.values()
    ]
    refused = [model for model, _ in _REFUSALS.values()]
    told, told_models = _schemas((*answered, *refused), "serialization", _ANSWERS_REF, _Answers)

    def shown(route: Route, method: str, operation: Operation) -> Schema:
        summary, _, rest = (_doc(route, method)).partition("\n\n")
        found: Schema = {
            "operationId": _operation_id(route, method),
            "tags": [_tag(route)],
            "summary": summary.removesuffix("."),
            "description": "\n\n".join(part for part in (rest, operation.access.value) if part),
            "responses": {
                **{str(status): _answer(answer, told) for status, answer in operation.answers.items()},
                **{
                    str(status): {"$ref": f"#/components/responses/{_phrase(status)}"}
                    for status in operation.all_refusals
                },
            },
        }
        if operation.query:
            found["parameters"] = [query.described for query in operation.query]
        if operation.body is not None:
            schema = sent[_key(operation.body)]
            found["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        if operation.access is Access.EVERYBODY:
            found["security"] = []
        elif operation.access is Access.OVERVIEW and open_metrics:
            found["security"] = [{}, *({name: []} for name in _SECURITY)]
        return found

    return {
        "openapi": "3.1.0",
        "info": {
            "title": "hubfleet's backend: Marathon's REST API v2 on one machine",
            "version": version,
            "description": (
                "Ids of apps contain slashes, which may be sent as they are or as `%2F`. Fields of a request "
                "that are not known are ignored, and null is absent. Fields of an answer that are not known "
                "are to be ignored too."
            ),
        },
        "security": [{name: []} for name in _SECURITY],
        "paths": {
            route.path: {
                **(
                    {"parameters": [_path_parameter(name) for name in route.parameters]}
                    if route.parameters
                    else {}
                ),
                **{
                    method.lower(): shown(route, method, operation)
                    for method, operation in route.operations.items()
                },
            }
            for route in routes
        },
        "components": {
            "securitySchemes": _SECURITY,
            "responses": {
                _phrase(status): _answer(Answer(description, model), told)
                for status, (model, description) in _REFUSALS.items()
            },
            "schemas": {**told_models, **{f"{name}Request": model for name, model in sent_models.items()}},
        },
    }


class _Schemas(GenerateJsonSchema):
    """Pydantic's own, without titles that only repeat the names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def tagged_union_schema(self, schema: core_schema.TaggedUnionSchema) -> JsonSchemaValue:
        """Say "any of": which branch a value is of is told by marks that a schema cannot look at."""
        found = super().tagged_union_schema(schema)
        return {"anyOf": found["oneOf"]} if "oneOf" in found else found


class _Requests(_Schemas):
    """Of what is sent: a field that may be absent may be null."""

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = super().default_schema(schema)
        if found.get("default", ...) is None:
            del found["default"]
        if {"type": "null"} in found.get("anyOf", ()):
            return found
        default = {"default": found.pop("default")} if "default" in found else {}
        return {"anyOf": [found, {"type": "null"}], **default}


class _Answers(_Schemas):
    """Of what is answered: what is absent is left out, never null (``marathon-v2`` 0)."""

    _nulls = False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        before, self._nulls = self._nulls, issubclass(schema["cls"], Amounts | QuotaReport)
        try:
            return super().model_schema(schema)
        finally:
            self._nulls = before

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = schema["schema"]
        if inner["type"] == "nullable" and not self._nulls:
            return self.generate_inner(inner["schema"])
        found = super().default_schema(schema)
        found.pop("default", None)
        return found


def _key(body: Any) -> str:
    return str(body) if not isinstance(body, type) else body.__name__


def _schemas(
    bodies: Iterable[Any], mode: JsonSchemaMode, ref_template: str, generator: type[GenerateJsonSchema]
) -> tuple[dict[str, Schema], dict[str, Schema]]:
    """Return the schema of each type, and the models that these refer to."""
    by_key = {_key(body): TypeAdapter(body) for body in bodies}
    inputs = [(key, mode, adapter) for key, adapter in by_key.items()]
    found, rest = TypeAdapter.json_schemas(inputs, ref_template=ref_template, schema_generator=generator)
    return {key: schema for (key, _), schema in found.items()}, rest.get("$defs", {})


def _answer(answer: Answer, told: dict[str, Schema]) -> Schema:
    found: Schema = {"description": answer.description}
    if answer.content:
        found["content"] = {media: {"schema": told[_key(body)]} for media, body in answer.content.items()}
    if answer.headers:
        found["headers"] = {
            name: {"description": meaning, "schema": {"type": "string"}}
            for name, meaning in answer.headers.items()
        }
    return found


def _phrase(status: int) -> str:
    return "".join(word.capitalize() for word in HTTPStatus(status).phrase.split())


def _path_parameter(name: str) -> Schema:
    parameter = PATH_PARAMETERS[name]
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _doc(route: Route, method: str) -> str:
    return inspect.getdoc(getattr(route.handler, method.lower())) or ""


def _operation_id(route: Route, method: str) -> str:
    words = re.findall(r"\w+", route.path)
    return method.lower() + "".join(word[0].upper() + word[1:] for word in words)


def _tag(route: Route) -> str:
    """Return under which heading a route is shown: ``apps``, ``tasks``, or the backend itself."""
    first, *rest = re.findall(r"\w+", route.path)
    if first != "v2":
        return "hubfleet" if first == "hubfleet" else "system"
    return "system" if rest[0] in ("info", "leader", "plugins") else rest[0]

"""The description of the API says what there is: all of it, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from conftest import RunningBackend
from rest import Rest
from tornado.web import RequestHandler

from hubfleet.backend.server.apps import AppHandler
from hubfleet.backend.server.groups import GroupPartHandler
from hubfleet.backend.server.openapi import describe
from hubfleet.backend.server.operations import PATH_PARAMETERS, Access, Route
from hubfleet.backend.server.routes import ROUTES

DESCRIPTION = describe(ROUTES, "1.11.0")
WHOLE_ID = {"GET", "PUT", "PATCH", "DELETE"}


def methods_of(route: Route) -> set[str]:
    """What a handler answers, but for what every resource does (HEAD, OPTIONS)."""
    found = {
        name
        for name in route.handler.SUPPORTED_METHODS
        if getattr(route.handler, name.lower()) is not getattr(RequestHandler, name.lower())
    }
    return found - {"HEAD", "OPTIONS"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_every_method_of_every_route_is_described_and_no_other(route: Route) -> None:
    described = set(DESCRIPTION["paths"][route.path]) - {"parameters"}
    assert {method.upper() for method in described} == set(route.operations)
    there = methods_of(route)
    if issubclass(route.handler, AppHandler) and route.handler is not AppHandler:
        # The path is that of an app of this name too, which is described as /v2/apps/{id}.
        assert there - set(route.operations) <= WHOLE_ID
        there &= set(route.operations)
    if issubclass(route.handler, GroupPartHandler):
        # Likewise of a group of this name: /v2/groups/{groupId}.
        assert there - set(route.operations) == WHOLE_ID - {"GET"} | {"POST"}
        there &= set(route.operations)
    assert there == set(route.operations)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_a_path_leads_to_the_route_that_describes_it(route: Route) -> None:
    """Ids are greedy, so that the order of the table matters."""
    path = route.path
    for name in route.parameters:
        path = path.replace(f"{{{name}}}", "stdout" if name == "file" else "a.instance-1._app.1")
    for spelling in (path, f"{path}/"):
        first = next(each for each in ROUTES if re.fullmatch(each.pattern, spelling))
        assert first is route
    assert set(route.parameters) <= PATH_PARAMETERS.keys()


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DESCRIPTION["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield path, method, operation


def test_every_operation_says_what_it_does_and_who_may() -> None:
    sentences = {access.value for access in Access}
    ids = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(ids)) == len(ids)
    for path, method, operation in operations():
        assert operation["summary"], (path, method)
        assert operation["description"].rpartition("\n\n")[2] in sentences
        assert any(status.startswith("2") for status in operation["responses"])
        if operation.get("security") != []:
            assert {"401", "403"} <= operation["responses"].keys()


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    for schema in DESCRIPTION["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    text = json.dumps(DESCRIPTION)
    for reference in set(re.findall(r'"#/([^"]+)"', text)):
        place: Any = DESCRIPTION
        for step in reference.split("/"):
            place = place[step]
    assert "null" not in json.dumps(DESCRIPTION["components"]["schemas"]["ShownApp"]), "absent is left out"


async def test_everybody_may_read_the_description(shared: RunningBackend) -> None:
    for token in (None, shared.admin_token):
        rest = Rest(shared.url, token)
        assert await rest.get("/openapi.json") == DESCRIPTION
    refused = await Rest(shared.url, None)("GET", "/openapi.json", headers={"Accept": "text/html"})
    assert refused.status_code == 406


def test_open_metrics_are_described_as_open() -> None:
    opened = describe(ROUTES, "1.11.0", open_metrics=True)["paths"]["/metrics"]["get"]["security"]
    assert {} in opened
    assert "security" not in DESCRIPTION["paths"]["/metrics"]["get"]

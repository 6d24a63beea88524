"""Requests made from the description, right ones and wrong ones: the answers are as it says.

A refused request changes nothing, and a body that the description forbids is refused. The
seed is fixed, and in the name of every test; ``HUBFLEET_FUZZ_SEED`` is another one, and
``HUBFLEET_FUZZ_EXAMPLES`` about the number of requests of each kind to each operation. No random
command ever runs: what is sent is kept at no instances.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from conftest import RunningBackend
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from rest import Rest
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.transport import Response
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from hubfleet.backend.server.openapi import describe
from hubfleet.backend.server.routes import ROUTES

pytestmark = pytest.mark.long

SEED = int(os.environ.get("HUBFLEET_FUZZ_SEED", "20211"))
EXAMPLES = int(os.environ.get("HUBFLEET_FUZZ_EXAMPLES", "8"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
LIVING, WAITING = "/fuzz/living", "/fuzz/waiting"
ALONE = {"minimumHealthCapacity": 0, "maximumOverCapacity": 0}
VOLATILE = {"tasksStaged", "tasksRunning", "tasksHealthy", "tasksUnhealthy", "deployments"}
APP_IDS = st.sampled_from(["/fuzz/a", "/fuzz/b/c", "fuzz/d"])
GOOD_FIELDS = st.fixed_dictionaries(
    {"cmd": st.just("exec sleep 600"), "cpus": st.sampled_from([0.01, 1]), "mem": st.just(1)},
    optional={
        "labels": st.dictionaries(st.text(max_size=5), st.text("ab", max_size=5), max_size=2),
        "env": st.dictionaries(st.from_regex("[A-Z]{1,5}", fullmatch=True), st.text("ab"), max_size=2),
        "healthChecks": st.just([{"protocol": "TCP"}]),
        "upgradeStrategy": st.just(None),
        "taskKillGracePeriodSeconds": st.integers(0, 5),
        "constraints": st.just([["hostname", "UNIQUE"]]),
        "dependencies": st.just([LIVING]),
    },
)


def described() -> dict[str, Any]:
    """The description, with answers that have no field beside those that it names."""
    found = describe(ROUTES, "1.11.0")
    for name, schema in found["components"]["schemas"].items():
        if schema.get("additionalProperties") is True and not name.endswith("Request"):
            schema["additionalProperties"] = False
    return found


SCHEMA = schemathesis.openapi.from_dict(described())
OPERATIONS: dict[str, APIOperation] = {
    operation.label: operation for operation in (found.ok() for found in SCHEMA.get_all_operations())
}


class Fuzzed:
    """A backend and what requests may hit in it: an app whose task runs, and one that waits."""

    def __init__(self, backend: RunningBackend) -> None:
        self.url = backend.url
        self.session, self.plain = requests.Session(), requests.Session()
        self.token = f"token {backend.admin_token}"
        self.session.headers["Authorization"] = self.token

    def get(self, path: str) -> Any:
        answer = self.session.get(self.url + path, timeout=60)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def state(self) -> tuple[dict[str, Any], set[str]]:
        """What requests change: definitions, and deployments under way."""
        apps = self.get("/v2/apps")["apps"]
        plain = {
            app["id"]: {name: part for name, part in app.items() if name not in VOLATILE} for app in apps
        }
        return plain, {each["id"] for each in self.get("/v2/deployments")}

    def renew(self) -> None:
        """Take away what was made; let one app live, and another one wait for ever, deployed by halves."""
        self.session.delete(f"{self.url}/v2/groups?force=true", timeout=60)
        for app_id, fields in (
            (LIVING, {"labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}, "upgradeStrategy": ALONE}),
            (WAITING, {"constraints": [["hostname", "LIKE", "nowhere"]]}),
        ):
            body = {"cmd": "exec sleep 600", "cpus": 0.01, "mem": 1, **fields}
            path = f"{self.url}/v2/apps{app_id}?force=true&partialUpdate=false"
            made = self.session.put(path, json=body, timeout=60)
            assert made.status_code in (200, 201), made.text

    def place(self, name: str, app_id: str) -> str:
        """A value for a parameter of a path, that leads somewhere unless what was there has gone."""
        apps = {app["id"]: app for app in self.get("/v2/apps?embed=apps.tasks")["apps"]}
        if not {LIVING, WAITING} <= apps.keys() or not apps[WAITING]["deployments"]:
            self.renew()
            apps = {app["id"]: app for app in self.get("/v2/apps?embed=apps.tasks")["apps"]}
        tasks = apps[LIVING]["tasks"] or [{"id": "none.instance-1._app.1"}]
        found = {
            "id": app_id.strip("/").replace("/", "%2F"),
            "groupId": "fuzz",
            "taskId": tasks[-1]["id"],
            "version": apps[app_id]["version"],
            "deploymentId": apps[WAITING]["deployments"][0]["id"],
        }
        return str(found[name])

    def send(self, case: Case) -> Response:
        nobody = case.operation.label == "DELETE /v2/leader"  # which would end the backend
        case.headers = {"Authorization": "token of-nobody" if nobody else self.token}
        still(case.body)
        return case.call(base_url=self.url, session=self.plain, timeout=60)


@pytest.fixture(scope="module")
def fuzzed(shared: RunningBackend) -> Iterator[Fuzzed]:
    found = Fuzzed(shared)
    yield found
    found.session.close()
    found.plain.close()


def still(body: Any) -> None:
    """Let no app of a body have instances, whose random commands would run."""
    if isinstance(body, list):
        for each in body:
            still(each)
    elif isinstance(body, dict):
        instances = body.get("instances")
        if "version" not in body and (instances is None or _is_count(instances)):
            body["instances"] = 0
        for name in ("apps", "groups"):
            still(body.get(name))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def aim(case: Case, fuzzed: Fuzzed, data: st.DataObject) -> None:
    """Let a request that is made of random words now and then mean something that is there."""
    app_id = data.draw(st.sampled_from([LIVING, LIVING, WAITING]), label="app")
    for name in case.path_parameters or {}:
        if name != "file" and data.draw(st.integers(0, 2), label="aimed"):
            case.path_parameters[name] = fuzzed.place(name, app_id)
            case.query.pop("follow", None)  # which ends with the task
    if mode_of(case, ParameterLocation.BODY) is GenerationMode.POSITIVE and data.draw(st.booleans()):
        match case.operation.label:
            case "POST /v2/apps":
                case.body = {"id": data.draw(APP_IDS), **data.draw(GOOD_FIELDS)}
            case "PUT /v2/apps" | "PATCH /v2/apps":
                case.body = [{"id": LIVING, **data.draw(GOOD_FIELDS)}]
            case "PUT /v2/apps/{id}" | "PATCH /v2/apps/{id}":
                case.body = data.draw(GOOD_FIELDS)
            case "PUT /v2/groups" | "PUT /v2/groups/{groupId}":
                case.body = {"apps": [{"id": data.draw(APP_IDS), **data.draw(GOOD_FIELDS)}]}
            case "POST /v2/groups":
                case.body = {"id": "/fuzz/new", "apps": [{"id": "x", **data.draw(GOOD_FIELDS)}]}
            case "POST /v2/tasks/delete":
                case.body = {"ids": [fuzzed.place("taskId", LIVING)]}


def mode_of(case: Case, location: ParameterLocation) -> GenerationMode | None:
    """Whether a part of a request is right or wrong; None if it has no such part."""
    assert case.meta is not None
    component = case.meta.components.get(location)
    return None if component is None else component.mode


def examples_of(operation: APIOperation) -> int:
    """How many requests of each kind: bodies that hold apps take long to make, and trees of them longer."""
    if not operation.body:
        return EXAMPLES
    return max(2, EXAMPLES // (4 if "/groups" in operation.path else 2))


def fuzz(fuzzed: Fuzzed, operation: APIOperation, mode: GenerationMode) -> None:
    @seed(SEED)
    @settings(
        max_examples=examples_of(operation),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def answers_as_described(case: Case, data: st.DataObject) -> None:
        forbidden = mode_of(case, ParameterLocation.BODY) is GenerationMode.NEGATIVE
        aim(case, fuzzed, data)
        before = fuzzed.state() if operation.method != "get" else None
        answer = fuzzed.send(case)
        case.validate_response(answer, checks=CHECKS)
        accepted = answer.status_code < 400
        assert not (forbidden and accepted), ("accepted", case.body, answer.text)
        if before is not None and not accepted:
            apps, deployments = fuzzed.state()
            assert apps == before[0], ("a refused request changed something", answer.text)
            assert deployments <= before[1]

    answers_as_described()


@pytest.mark.parametrize("label", OPERATIONS, ids=lambda label: f"{label} with the seed {SEED}")
def test_every_operation_answers_as_it_is_described(fuzzed: Fuzzed, label: str) -> None:
    operation = OPERATIONS[label]
    fuzzed.renew()
    fuzz(fuzzed, operation, GenerationMode.POSITIVE)
    if operation.query or operation.path_parameters or operation.body:
        fuzz(fuzzed, operation, GenerationMode.NEGATIVE)


async def test_what_has_no_end_is_of_the_described_types(shared: RunningBackend, fuzzed: Fuzzed) -> None:
    """Of the event stream, and of an output that is followed, only the beginnings are looked at."""
    rest = Rest(shared.url, shared.admin_token)
    await rest.create("/endless")
    (task,) = await rest.running("/endless")
    for path, route, accept in (
        ("/v2/events", "/v2/events", "text/event-stream"),
        (f"/v2/tasks/{task['id']}/files/stdout?follow=true", "/v2/tasks/{taskId}/files/{file}", "*/*"),
    ):
        with fuzzed.session.get(
            fuzzed.url + path, headers={"Accept": accept}, stream=True, timeout=60
        ) as answer:
            content = SCHEMA.raw_schema["paths"][route]["get"]["responses"]["200"]["content"]
            assert answer.status_code == 200
            assert answer.headers["Content-Type"].partition(";")[0] in content

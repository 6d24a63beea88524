"""The rules between the fields of an app definition, which Marathon calls "Object is not valid".

Pure: a definition in, every violation out. What one field alone may hold is in
`hubfleet.api.app`; what an engine cannot honour is the backend's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .app import App, HealthCheck
from .ids import canonical, is_legal

RESERVED_ENDINGS = ("restart", "tasks", "versions", ".", "..")
OPERATORS = ("UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "MAX_PER", "UNLIKE", "IS")


class Violation(NamedTuple):
    """One broken rule: where in the definition, and the sentence."""

    path: str
    error: str


def violations(app: App) -> list[Violation]:
    """Return every rule that a definition breaks, in Marathon's words where it has some."""
    return [
        *_id(app),
        *_command(app),
        *_ports(app),
        *_health_checks(app),
        *_constraints(app),
        *_secrets(app),
        *_strategies(app),
    ]


def _id(app: App) -> Iterator[Violation]:
    if canonical(app.id) == "":
        yield Violation("/id", "must not be root")
    elif not is_legal(app.id):
        yield Violation(
            "/id",
            "must fully match regular expression "
            r"'^(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])|(\.|\.\.)$'",
        )
    elif app.id.rsplit("/", 1)[-1] in RESERVED_ENDINGS:
        yield Violation(
            "/id", f"must not end with any of the following reserved keywords: {', '.join(RESERVED_ENDINGS)}"
        )


def _command(app: App) -> Iterator[Violation]:
    image = app.container is not None and (app.container.docker is not None or app.container.type == "MESOS")
    if app.cmd is not None and app.args:
        yield Violation("/", "AppDefinition must contain either 'cmd' or 'args', not both.")
    elif app.cmd is None and not app.args and not image:
        yield Violation(
            "/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."
        )
    if app.container is not None and app.container.type == "DOCKER" and app.container.docker is None:
        yield Violation("/container/docker", "not defined")


def _ports(app: App) -> Iterator[Violation]:
    definitions = app.port_definitions or []
    names = [definition.name for definition in definitions if definition.name]
    if len(names) != len(set(names)):
        yield Violation("/portDefinitions", "Port names must be unique.")
    numbers = [definition.port for definition in definitions if definition.port]
    if len(numbers) != len(set(numbers)):
        yield Violation("/portDefinitions", "Ports must be unique.")


def port_count(app: App) -> int:
    """Return how many ports an app has, by the network that it joins."""
    if app.container is not None and app.container.port_mappings is not None:
        return len(app.container.port_mappings)
    return len(app.port_definitions or [])


def _health_checks(app: App) -> Iterator[Violation]:
    ports = port_count(app)
    for index, check in enumerate(app.health_checks):
        path = f"/healthChecks({index})"
        if check.protocol == "COMMAND":
            if check.command is None:
                yield Violation(path, "COMMAND health checks must have a command.")
        elif not _port_in_range(check, ports):
            yield Violation(
                path,
                "Health check port indices must address an element of the ports array"
                " or container port mappings.",
            )
    if sum(1 for check in app.health_checks if check.protocol.startswith("MESOS_")) > 1:
        yield Violation("/healthChecks", "AppDefinition can contain at most one Mesos health check")
    for index, readiness in enumerate(app.readiness_checks):
        names = {definition.name for definition in app.port_definitions or []}
        if readiness.port_name not in names:
            yield Violation(
                f"/readinessChecks({index})",
                f"No port definition reference for portName {readiness.port_name}",
            )


def _port_in_range(check: HealthCheck, ports: int) -> bool:
    if check.port_index is not None:
        return check.port_index < ports
    return bool(check.port) or ports > 0


def _constraints(app: App) -> Iterator[Violation]:
    for index, constraint in enumerate(app.constraints):
        path = f"/constraints({index})"
        if len(constraint) not in (2, 3):
            yield Violation(path, "Each constraint must have either 2 or 3 fields")
            continue
        field, operator = constraint[0], constraint[1].upper()
        value = constraint[2] if len(constraint) == 3 else None
        if not field:
            yield Violation(path, "missing field for constraint declaration")
        if operator not in OPERATORS:
            yield Violation(
                path,
                "operator must be one of the following "
                "UNIQUE, CLUSTER, GROUP_BY, LIKE, MAX_PER, UNLIKE or IS",
            )
        elif error := _constraint_value(operator, value):
            yield Violation(path, error)


def _constraint_value(operator: str, value: str | None) -> str | None:
    match operator:
        case "UNIQUE":
            return "UNIQUE does not accept a value" if value is not None else None
        case "GROUP_BY":
            numeric = value is None or value == "" or (value.isascii() and value.isdigit())
            return None if numeric else "GROUP BY must define an integer value or else no value at all"
        case "MAX_PER":
            numeric = value is not None and value.isascii() and value.isdigit()
            return None if numeric else "MAX_PER requires an integer value"
        case "LIKE" | "UNLIKE":
            if not value:
                return "LIKE and UNLIKE require a non-empty, regular expression value"
            try:
                re.compile(value)
            except re.error:
                return f"'{value}' is not a valid regular expression"
            return None
        case "IS":
            legal = value is not None and re.fullmatch(r"[a-zA-Z0-9_/.-]*", value) is not None
            return None if legal else "IS requires a text of letters, digits, _, /, . and -"
        case _:
            return None


def _secrets(app: App) -> Iterator[Violation]:
    for name, value in app.env.items():
        if not isinstance(value, str) and value.secret not in app.secrets:
            yield Violation(f"/env/{name}/secret", "references an undefined secret")


def _strategies(app: App) -> Iterator[Violation]:
    strategy = app.unreachable_strategy
    if not isinstance(strategy, str) and strategy.inactive_after_seconds > strategy.expunge_after_seconds:
        yield Violation(
            "/unreachableStrategy", "inactiveAfterSeconds must be less or equal than expungeAfterSeconds"
        )
    if app.labels.get("MARATHON_SINGLE_INSTANCE_APP") == "true":
        if app.instances > 1:
            yield Violation("/instances", "Single instance app may only have one instance")
        upgrade = app.upgrade_strategy
        if upgrade.minimum_health_capacity or upgrade.maximum_over_capacity:
            yield Violation("/upgradeStrategy", "Single instance app must have an upgradeStrategy of 0 and 0")

"""The rules between the fields of an app definition, which Marathon calls "Object is not valid".

Pure: a definition in canonical form in, every violation out. What one field alone may hold
is in `hubfleet.api.app`; what an engine cannot honour is the backend's to say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from .app import App, HealthCheck, ReadinessCheck
from .checks import Check
from .container_rules import container_violations, is_expression, network_violations, uri_violations
from .ids import canonical, is_legal
from .violation import Violation

__all__ = ["CYCLIC", "GPUS", "SECRETS", "VOLUMES", "Violation", "path_violations", "port_count", "violations"]

RESERVED_ENDINGS = ("restart", "tasks", "versions", ".", "..")
OPERATORS = ("UNIQUE", "CLUSTER", "GROUP_BY", "LIKE", "MAX_PER", "UNLIKE", "IS")
LONGEST_EXPRESSION = 1024
"""Most characters of a regular expression in a constraint: to compile one takes time."""

LONGEST_WRITTEN_OUT = 20_000
"""Most characters of one with its counts written out: to compile ``a{4294967294}`` takes all memory."""

CYCLIC = "Dependency graph has cyclic dependencies."
"""Said where all apps are known (``hubfleet.backend.orchestrator.dependencies``)."""

GPUS, SECRETS, VOLUMES = "gpu_resources", "secrets", "external_volumes"
"""Names of what an installation of Marathon may or may not have (``--enable_features``)."""

_ID_PATTERN = r"^(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])|(\.|\.\.)$"


def violations(
    app: App, features: Collection[str] = (GPUS,), roles: Collection[str] = ("*",)
) -> list[Violation]:
    """Return every rule that a definition breaks, in Marathon's words where it has some.

    Parameters
    ----------
    app
        In canonical form (its networks and ports spelled in one way).
    features
        What the installation has of `GPUS`, `SECRETS` and `VOLUMES`.
    roles
        The roles that an app may have.
    """
    return [
        *path_violations(app.id, "/id"),
        *_command(app),
        *network_violations(app),
        *container_violations(app, SECRETS in features, VOLUMES in features),
        *_ports(app),
        *_health_checks(app),
        *_check(app),
        *_readiness_checks(app),
        *_constraints(app),
        *_secrets(app, SECRETS in features),
        *_resources(app, GPUS in features),
        *_roles(app, roles),
        *_strategies(app),
        *_dependencies(app),
        *(
            violation
            for index, fetch in enumerate(app.fetch)
            for violation in uri_violations(fetch.uri, f"/fetch({index})/uri")
        ),
    ]


def path_violations(app_id: str, path: str, *, of_group: bool = False) -> Iterator[Violation]:
    """Yield what is wrong with the absolute id of an app or a group, which was sent at `path`."""
    if canonical(app_id) == "":
        yield Violation(path, "must not be root")
    elif not is_legal(app_id):
        yield Violation(path, f"must fully match regular expression '{_ID_PATTERN}'")
    elif not of_group and app_id.rsplit("/", 1)[-1] in RESERVED_ENDINGS:
        yield Violation(
            path, f"must not end with any of the following reserved keywords: {', '.join(RESERVED_ENDINGS)}"
        )


def _dependencies(app: App) -> Iterator[Violation]:
    for index, dependency in enumerate(app.dependencies):
        yield from path_violations(dependency, f"/dependencies({index})")


def _command(app: App) -> Iterator[Violation]:
    container = app.container
    contained = container is not None and (container.docker is not None or container.type == "MESOS")
    both = app.cmd is not None and bool(app.args)
    if both or (app.cmd is None and not app.args and not contained):
        yield Violation(
            "/", "AppDefinition must either contain one of 'cmd' or 'args', and/or a 'container'."
        )


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
        if check.ip_protocol == "IPv6" and not _may_use_ipv6(app, check):
            yield Violation(
                path, "IPv6 can only be used for container type DOCKER and Mesos http/https/tcp health checks"
            )
    if sum(1 for check in app.health_checks if check.protocol.startswith("MESOS_")) > 1:
        yield Violation("/", "AppDefinition can contain at most one Mesos health check")


def _may_use_ipv6(app: App, check: HealthCheck) -> bool:
    in_docker = app.container is not None and app.container.type == "DOCKER"
    return in_docker and check.protocol.startswith("MESOS_")


def _port_in_range(check: HealthCheck, ports: int) -> bool:
    if check.port_index is not None:
        return check.port_index < ports
    return bool(check.port) or ports > 0


def _check(app: App) -> Iterator[Violation]:
    check = app.check
    if check is None:
        return
    if app.container is not None and app.container.type == "DOCKER":
        yield Violation("/", "AppDefinition must not use 'checks' if using docker")
    if sum(kind is not None for kind in (check.http, check.tcp, check.exec)) != 1:
        yield Violation("/check", "Must specify a single type of check, http, tcp, or exec")
    elif not _check_port_in_range(check, port_count(app)):
        yield Violation(
            "/check",
            "check port index must address an element of the ports array or container port mappings.",
        )
    if check.exec is not None and (check.exec.command.shell is None) == (check.exec.command.argv is None):
        yield Violation("/check/exec/command", "specify either `shell` or `argv`, never both")


def _check_port_in_range(check: Check, ports: int) -> bool:
    asked = check.http or check.tcp
    if asked is None:
        return True
    if asked.port_index is not None:
        return asked.port_index < ports
    return asked.port is not None or ports == 1


def _readiness_checks(app: App) -> Iterator[Violation]:
    if len(app.readiness_checks) > 1:
        yield Violation("/readinessChecks", f"got {len(app.readiness_checks)}, expected 1 or less")
    mappings = app.container.port_mappings if app.container is not None else None
    names = {port.name for port in (mappings if mappings is not None else app.port_definitions or [])}
    for index, check in enumerate(app.readiness_checks):
        yield from _readiness_check(check, names, f"/readinessChecks({index})")


def _readiness_check(check: ReadinessCheck, names: Collection[str | None], path: str) -> Iterator[Violation]:
    if check.port_name not in names:
        yield Violation(f"{path}/portName", f"No port definition reference for portName {check.port_name}")
    if check.timeout_seconds >= check.interval_seconds:
        yield Violation(
            f"{path}/timeoutSeconds",
            f"got {check.timeout_seconds}, expected less than {check.interval_seconds}",
        )


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
            numeric = value is None or _is_count(value)
            return None if numeric else "GROUP BY must define an integer value or else no value at all"
        case "MAX_PER":
            numeric = value is not None and _is_count(value)
            return None if numeric else "MAX_PER requires an integer value"
        case "LIKE" | "UNLIKE":
            return _expression(value)
        case "IS":
            legal = value is not None and re.fullmatch(r"[a-zA-Z0-9_/.-]*", value) is not None
            return None if legal else _IS_TEXT
        case _:
            return None


_IS_TEXT = (
    "IS only supports Mesos text and float values "
    "(see http://mesos.apache.org/documentation/latest/attributes-resources/)"
)

_COUNTS = (
    f"a regular expression has at most {LONGEST_WRITTEN_OUT} characters here with its counts, such as {{3}}, "
    "written out; write * or + where the count does not matter"
)


def _is_count(value: str) -> bool:
    return re.fullmatch(r"[0-9]{1,10}", value) is not None and int(value) < 2**31


def _expression(value: str | None) -> str | None:
    if not value:
        return "LIKE and UNLIKE require a non-empty, regular expression value"
    if len(value) > LONGEST_EXPRESSION:
        return f"a regular expression has at most {LONGEST_EXPRESSION} characters here"
    if not is_expression(value):
        return "is not a valid regular expression"
    return _COUNTS if is_too_long(value) else None


def is_too_long(expression: str) -> bool:
    """Whether a regular expression might be longer than `LONGEST_WRITTEN_OUT` with its counts written out."""
    length = len(expression)
    for least, most in re.findall(r"\{(\d*),?(\d*)\}", expression):
        length *= max(1, int(least or 0), int(most or 0))
    return length > LONGEST_WRITTEN_OUT


def _secrets(app: App, enabled: bool) -> Iterator[Violation]:
    references = {name: value for name, value in app.env.items() if not isinstance(value, str)}
    if app.secrets and not enabled:
        yield Violation("/secrets", "Feature secrets is not enabled. Enable with --enable_features secrets)")
    if "" in app.secrets:
        yield Violation("/secrets", "the name of a secret must not be empty")
    if references and not enabled:
        yield Violation(
            "/env",
            "use of secret-references in the environment requires the secrets feature to be enabled",
        )
    for name, value in references.items():
        if value.secret not in app.secrets:
            yield Violation(f"/env/{name}/secret", "references an undefined secret")


def _resources(app: App, gpus_enabled: bool) -> Iterator[Violation]:
    if app.gpus:
        if app.container is not None and app.container.type == "DOCKER":
            yield Violation("/", "GPU resources only work with the Mesos containerizer")
        if not gpus_enabled:
            yield Violation(
                "/", "Feature gpu_resources is not enabled. Enable with --enable_features gpu_resources)"
            )
    if app.resource_limits is None:
        return
    for name, limit, requested in (
        ("cpus", app.resource_limits.cpus, app.cpus),
        ("mem", app.resource_limits.mem, app.mem),
    ):
        if isinstance(limit, float) and limit < requested:
            yield Violation(
                f"/resourceLimits/{name}",
                f"resource limit must be greater than or equal to requested resource ({requested})",
            )


def _roles(app: App, roles: Collection[str]) -> Iterator[Violation]:
    if app.role is not None and app.role not in roles:
        yield Violation("/role", f"got {app.role}, expected one of: {', '.join(sorted(roles))}")
    accepted = app.accepted_resource_roles
    if accepted is None:
        return
    if not accepted:
        yield Violation("/acceptedResourceRoles", "must not be empty")
    allowed = {"*", app.role or "*"}
    if not allowed.issuperset(accepted):
        yield Violation(
            "/acceptedResourceRoles",
            f"acceptedResourceRoles can only contain {' and '.join(sorted(allowed))}",
        )


def _strategies(app: App) -> Iterator[Violation]:
    strategy = app.unreachable_strategy
    if not isinstance(strategy, str):
        inactive, expunge = strategy.inactive_after_seconds, strategy.expunge_after_seconds
        if inactive > expunge:
            yield Violation(
                "/unreachableStrategy/inactiveAfterSeconds",
                f"inactiveAfterSeconds ({inactive}) must be less or equal to expungeAfterSeconds, "
                f"which is {expunge}",
            )
        if app.resident:
            yield Violation("/", "unreachableStrategy must be disabled for resident tasks")
    upgrade = app.upgrade_strategy
    if app.labels.get("MARATHON_SINGLE_INSTANCE_APP") == "true":
        if app.instances > 1:
            yield Violation("/", "Single instance app may only have one instance")
        if upgrade.minimum_health_capacity or upgrade.maximum_over_capacity:
            yield Violation("/upgradeStrategy", "Single instance app must have an upgradeStrategy of 0 and 0")
    elif app.resident and upgrade.maximum_over_capacity:
        yield Violation(
            "/upgradeStrategy/maximumOverCapacity", f"got {upgrade.maximum_over_capacity}, expected 0.0"
        )

"""What processes on one machine cannot give an app, and what no process can be given. Pure.

Nothing is passed over in silence: what an app asks for and would not get is refused, with
what to do instead.
"""

from __future__ import annotations

from collections.abc import Iterator

from hubfleet.api.app import App
from hubfleet.api.rules import Violation

MOST_INSTANCES = 10_000
"""Most instances of one app: each takes room in the state, whether there is a place for it or not."""

LONGEST_TEXT = 128 * 1024 - 1
"""Bytes of one argument, or of one variable with its name: Linux' MAX_ARG_STRLEN without the zero byte."""

MOST_TEXT = 1024 * 1024
"""Bytes of all arguments and variables together, half of what Linux takes: the rest is Marathon's own."""

_ELSEWHERE = "use a backend with the Docker Swarm driver, or Marathon"


def on_host_network(app: App) -> bool:
    """Whether an app uses the host's own network."""
    return all(network.mode == "host" for network in app.networks)


def not_honoured(app: App) -> list[Violation]:
    """Return what processes on one machine cannot give an app, and what could."""
    return [*_container(app), *_machine(app), *_checks(app)]


def _container(app: App) -> Iterator[Violation]:
    container = app.container
    if container is None:
        return
    if container.docker is not None:
        yield Violation(
            "/container/docker",
            f"the process driver runs commands of this machine and no images; {_ELSEWHERE}",
        )
    elif app.cmd is None and not app.args:
        yield Violation("/", "without an image there must be a command: give 'cmd' or 'args'")
    if container.volumes:
        yield Violation("/container/volumes", f"the process driver mounts no volumes yet; {_ELSEWHERE}")
    if container.linux_info is not None:
        yield Violation("/container/linuxInfo", f"the process driver confines no capabilities; {_ELSEWHERE}")
    if container.port_mappings and on_host_network(app):
        yield Violation("/container/portMappings", "portMappings are not allowed with host-networking")


def _machine(app: App) -> Iterator[Violation]:
    if app.instances > MOST_INSTANCES:
        yield Violation(
            "/instances", f"{app.instances} asked, but an app has at most {MOST_INSTANCES} instances here"
        )
    if not on_host_network(app):
        yield Violation("/networks", f"the process driver knows only the host's own network; {_ELSEWHERE}")
    if app.require_ports:
        yield Violation(
            "/requirePorts", "the process driver chooses the ports; leave it out and use $PORT0, $PORT1 …"
        )
    if app.fetch:
        yield Violation("/fetch", "the process driver fetches nothing yet; let the command do it")
    if app.constraints:
        yield Violation(
            "/constraints", "one machine has nothing to choose between; leave the constraints out"
        )
    if app.secrets or any(not isinstance(value, str) for value in app.env.values()):
        yield Violation("/secrets", "Feature secrets is not enabled. Enable with --enable_features secrets)")


def _checks(app: App) -> Iterator[Violation]:
    if app.check is not None or app.readiness_checks or app.dependencies:
        yield Violation(
            "/", "'check', 'readinessChecks' and 'dependencies' are not supported yet; leave them out"
        )
    for index, check in enumerate(app.health_checks):
        if check.protocol == "COMMAND":
            yield Violation(
                f"/healthChecks({index})", "COMMAND checks are not supported yet; use HTTP, HTTPS or TCP"
            )


def not_possible(app: App) -> list[Violation]:
    """Return what cannot be the command or the environment of any process."""
    return [*_texts(app), *_sizes(app)]


def _texts(app: App) -> Iterator[Violation]:
    if app.args and not app.args[0]:
        yield Violation("/args(0)", "the first argument is the program to run, and must not be empty")
    for name in app.env:
        if not name or "=" in name:
            yield Violation("/env", f"{name!r} cannot be the name of a variable")
    texts = {
        "/cmd": [app.cmd or ""],
        "/args": app.args,
        "/user": [app.user or ""],
        "/env": [part for pair in app.env.items() for part in pair if isinstance(part, str)],
        "/labels": [part for pair in app.labels.items() for part in pair],
    }
    for path, parts in texts.items():
        if any("\0" in part for part in parts):
            yield Violation(path, "must not hold a zero byte")


def _sizes(app: App) -> Iterator[Violation]:
    sizes = {
        "/cmd": [_bytes(app.cmd or "")],
        "/args": [_bytes(argument) for argument in app.args],
        "/env": [_bytes(f"{name}={value}") for name, value in app.env.items()],
        "/labels": [sum(_bytes(key) + 1 for key in app.labels)],  # MARATHON_APP_LABELS
    }
    for path, found in sizes.items():
        if found and max(found) > LONGEST_TEXT:
            yield Violation(path, f"a process is given at most {LONGEST_TEXT} bytes at once; use a file")
    labels = sum(_bytes(f"MARATHON_APP_LABEL_{key}={value}") for key, value in app.labels.items())
    whole = labels + sum(map(sum, sizes.values()))
    if whole > MOST_TEXT:
        yield Violation(
            "/", f"command, env and labels together take {whole} bytes of at most {MOST_TEXT}; use a file"
        )


def _bytes(text: str) -> int:
    return len(text.encode("utf-8"))

"""Apps as the API shows them: the definition, and what a request asks for beside it (``marathon-v2`` 1.1).

An app's JSON is made in pieces of text: the definition is worked out once for each version,
and an app of ten thousand tasks, or a list of ten thousand apps, is sent piece by piece
while other requests are answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hubfleet.api.wire import now

from ..records import AppRecord, DeploymentRecord, Instance
from ..state import State
from . import taskstats

_PREFIXES = ("group.apps.", "apps.", "app.")
_IMPLIED = {
    "tasks": frozenset({"tasks", "deployments"}),
    "failures": frozenset({"tasks", "lastTaskFailure", "deployments"}),
}
ALWAYS = frozenset({"counts", "deployments"})
"""What lists of apps show without being asked."""


def wanted_parts(embeds: Iterable[str]) -> frozenset[str]:
    """Return which parts of an app the values of ``embed`` name, with or without prefix.

    Unknown values name nothing. One is our own, and only for those who ask, since the Python client
    0.13.0 takes no field that it does not know: ``stderr``, the last lines of a failure.
    """
    wanted: set[str] = set()
    for value in embeds:
        prefix = next((prefix for prefix in _PREFIXES if value.startswith(prefix)), "")
        name = value.removeprefix(prefix)
        wanted |= _IMPLIED.get(name, {name})
    return frozenset(wanted)


_COMPACT = json.JSONEncoder(separators=(",", ":"))


def compact(value: Any) -> str:
    """Return a value's JSON text without blanks."""
    return _COMPACT.encode(value)


def app_pieces(
    state: State, record: AppRecord, wanted: frozenset[str], sees_deployment: Callable[[str], bool]
) -> Iterator[str]:
    """Yield the JSON object of an app in pieces.

    Parameters
    ----------
    wanted
        What is shown beside the definition, as `wanted_parts` returns it.
    sees_deployment
        Says which deployments exist for the reader, by their ids.
    """
    yield record.text[:-1]  # without the last brace
    launched = [instance for instance in state.instances_of(record.id) if instance.launched]
    for name, value in _parts(state, record, launched, wanted, sees_deployment):
        yield f',"{name}":{compact(value)}'
    if "tasks" in wanted:
        yield ',"tasks":['
        yield from separated(task_texts(launched))
        yield "]"
    yield "}"


def _parts(
    state: State,
    record: AppRecord,
    launched: list[Instance],
    wanted: frozenset[str],
    sees_deployment: Callable[[str], bool],
) -> Iterator[tuple[str, Any]]:
    if "counts" in wanted:
        for name, count in taskstats.counts(launched).items():
            yield f"tasks{name.capitalize()}", count
    if "deployments" in wanted:
        ids = [deployment.id for deployment in state.deployments_of(record.id)]
        yield "deployments", [{"id": each} for each in ids if sees_deployment(each)]
    if "lastTaskFailure" in wanted and record.last_task_failure is not None:
        failure = record.last_task_failure.to_wire()
        if "stderr" not in wanted:
            failure.pop("stderr", None)
        yield "lastTaskFailure", failure
    if "readiness" in wanted:
        deployments = state.deployments_of(record.id)
        yield (
            "readinessCheckResults",
            [result for each in deployments for result in readiness_results(each, state, record.id)],
        )
    if "taskStats" in wanted:
        yield "tasksStats", taskstats.by_version(record.app, launched, now())


def readiness_results(deployment: DeploymentRecord, state: State, app_id: str) -> list[Any]:
    """Return what the readiness checks have said of the tasks that a deployment launched of an app."""
    return [
        result.to_wire()
        for instance in state.instances_of(app_id)
        if state.launched_by(instance) is deployment
        for result in instance.readiness
    ]


def task_texts(instances: Iterable[Instance]) -> Iterator[str]:
    """Yield the JSON of each instance's task, of those that still have one when their turn comes."""
    for instance in instances:
        if instance.launched:
            yield instance.to_task().to_text()


def separated(texts: Iterable[str]) -> Iterator[str]:
    """Yield texts with commas between them."""
    for number, text in enumerate(texts):
        yield f",{text}" if number else text


def listing(name: str, apps: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the JSON object that holds, under one name, a list of what is in pieces itself."""
    yield f'{{"{name}":['
    for number, pieces in enumerate(apps):
        if number:
            yield ","
        yield from pieces
    yield "]}"

"""What is checked before anything happens: arguments of clusters, of scale and of adapt."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from hubfleet.workers import MarathonCluster, MarathonWorkers
from hubfleet.workers.adaptive import checked_options
from hubfleet.workers.checks import whole_number

PLACE = {"url": "http://127.0.0.1:1", "token": "t", "group": "/j/a/dask"}


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("url", "the address of the backend, .* is missing: pass url=..., or set HUBFLEET_URL"),
        ("token", "the credential at the backend .* is missing: pass token=..., or set JUPYTERHUB_API_TOKEN"),
        (
            "group",
            "the group for the workers' app, .* is missing: pass group=..., or set HUBFLEET_DASK_GROUP",
        ),
    ],
)
def test_what_is_neither_given_nor_in_the_environment_is_asked_for(missing: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        MarathonCluster(**{name: value for name, value in PLACE.items() if name != missing})


@pytest.mark.parametrize(
    ("arguments", "kind", "sentence"),
    [
        ({"url": "127.0.0.1:8090"}, ValueError, "begins with http:// or https://"),
        ({"url": ""}, ValueError, "url must not be empty"),
        ({"group": "/Not/Legal"}, ValueError, "group must be a Marathon path such as"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": 7}, TypeError, "name must be a text"),
        ({"n_workers": -1}, ValueError, "n_workers must be a whole number from 0 to 10000, got -1"),
        ({"n_workers": "3"}, TypeError, "n_workers must be a whole number"),
        ({"security": "on"}, TypeError, "security must be True"),
        ({"drain_seconds": -1}, ValueError, "drain_seconds must be a number of seconds, at least 0"),
        ({"dashboard_address": 8787}, TypeError, "dashboard_address must be a text"),
        ({"host": ""}, ValueError, "host must not be empty"),
        ({"memory": 1}, TypeError, "has no option 'memory'"),
        ({"cpu": 1}, TypeError, "has no option 'cpu'; did you mean 'cpus'?"),
    ],
)
def test_bad_arguments_of_a_cluster(arguments: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        MarathonCluster(**{**PLACE, **arguments})


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"minimum": -1}, ValueError, "minimum must be a whole number"),
        ({"minimum": True}, TypeError, "minimum must be a whole number"),
        ({"maximum": 2.5}, TypeError, "maximum must be a whole number"),
        ({"maximum": float("nan")}, TypeError, "maximum must be a whole number"),
        (
            {"minimum": 3, "maximum": 2},
            ValueError,
            "maximum must not be less than minimum, got minimum=3, maximum=2",
        ),
        ({"interval": "often"}, ValueError, "interval must be a time such as '1s'"),
        ({"interval": 0}, ValueError, "interval must be a time such as '1s' .* at least 0.05; got 0"),
        ({"interval": True}, TypeError, "interval must be a time"),
        ({"wait_count": 0}, ValueError, "wait_count must be a whole number from 1"),
        ({"target_duration": "-5s"}, ValueError, "target_duration must be a time"),
        ({"worker_key": "host"}, TypeError, "worker_key must be a function"),
        ({"max": 3}, TypeError, "adapt has no option 'max'; did you mean"),
        ({"maximun": 3}, TypeError, "adapt has no option 'maximun'; did you mean 'maximum'?"),
        ({"minimum_cores": 3}, TypeError, "adapt has no option 'minimum_cores'; did you mean 'minimum'?"),
    ],
)
def test_bad_options_of_adapt(options: dict[str, Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        checked_options(options)


def test_options_of_adapt_have_the_defaults_of_dask() -> None:
    assert checked_options({}) == {
        "minimum": 0,
        "maximum": float("inf"),
        "interval": 1.0,
        "wait_count": 3,
        "target_duration": 5.0,
        "worker_key": None,
    }
    given = checked_options({"minimum": 1, "maximum": 4, "interval": "200ms", "target_duration": 2})
    assert (given["minimum"], given["maximum"], given["interval"], given["target_duration"]) == (
        1,
        4,
        0.2,
        2.0,
    )


@pytest.mark.parametrize("wrong", [True, 1.0, 2.5, "3", None, float("inf"), -1, 10**6])
def test_numbers_of_workers_that_are_none(wrong: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="must be a whole number from 0 to 10000"):
        whole_number("the number of workers", wrong, 0, 10_000)


def test_workers_know_what_would_run_before_anything_runs() -> None:
    from hubfleet.api.client import Client

    workers = MarathonWorkers(
        "tcp://10.0.0.1:8786", Client(PLACE["url"]), group="/j/a/dask", name="My cluster", mem=256
    )
    app = workers.app(instances=3)
    assert app.id.startswith("/j/a/dask/my-cluster--x-")
    assert app.id.endswith("/workers")
    assert (app.instances, app.mem) == (3, 256.0)
    assert app.env["DASK_SCHEDULER_ADDRESS"] == "tcp://10.0.0.1:8786"


def test_a_worker_imports_nothing_that_only_a_cluster_needs() -> None:
    """Each worker pays for this import when it starts; and no notebook image needs the hub."""
    probe = (
        "import sys; import hubfleet.workers.drain; "
        "light = {'pydantic', 'requests', 'marathon', 'jupyterhub'} & set(sys.modules); "
        "from hubfleet.workers import MarathonCluster, MarathonWorkers; "
        "print(sorted(light), sorted({'jupyterhub', 'traitlets'} & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", probe], capture_output=True, text=True, check=True, timeout=200
    )
    assert ran.stdout.split() == ["[]", "[]"]

"""Every option can be configured as Dask users configure: by files, by variables, and in Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

import dask.config
import pytest
from click.testing import CliRunner

from hubfleet.workers import MarathonCluster
from hubfleet.workers.adaptive import OPTIONS
from hubfleet.workers.amounts import BOUNDS
from hubfleet.workers.cli import workers
from hubfleet.workers.config import DEFAULTS, section
from hubfleet.workers.options import WorkerOptions
from hubfleet.workers.settings import ClusterSettings, worker_options

PLACE = {"url": "http://127.0.0.1:1", "token": "t", "group": "/j/a/dask"}


def names(part: str) -> set[str]:
    return {option.replace("-", "_") for option in DEFAULTS["hubfleet"][part]}


def test_every_option_is_in_the_file_of_defaults() -> None:
    arguments = set(signature(MarathonCluster.__init__).parameters)
    assert names("cluster") == arguments - {"self", "token", "asynchronous", "loop", "options"}
    assert names("worker") == {option.name for option in fields(WorkerOptions)}
    assert names("adapt") == {*OPTIONS, *BOUNDS} - {"worker_key"}


def test_the_defaults_of_the_file_are_those_of_the_code() -> None:
    assert WorkerOptions(**worker_options("test", {})) == WorkerOptions()


def test_what_is_configured_holds_unless_it_is_given() -> None:
    with dask.config.set(
        {
            "hubfleet.cluster.drain-seconds": 5,
            "hubfleet.cluster.security": False,
            "hubfleet.cluster.group": "/site/dask",
            "hubfleet.worker.mem": 2048,
            "hubfleet.worker.env": {"A": "b"},
        }
    ):
        settings = ClusterSettings.of({**PLACE, "group": None, "drain_seconds": None, "security": None})
        assert (settings.group, settings.drain_seconds) == ("/site/dask", 5)
        assert settings.security.tls_ca_file is None
        assert ClusterSettings.of({**PLACE, "drain_seconds": 7}).drain_seconds == 7
        found = worker_options("test", {"mem": 1024})
        assert (found["mem"], found["env"]) == (1024, {"A": "b"})
    assert ClusterSettings.of(PLACE).drain_seconds == 60


@pytest.mark.parametrize(
    ("configured", "kind", "sentence"),
    [
        ({"hubfleet.worker.cpu": 1}, TypeError, "hubfleet.worker in Dask's .* 'cpu'; did you mean 'cpus'"),
        ({"hubfleet.worker": 1}, TypeError, "hubfleet.worker in Dask's configuration must be options"),
        ({"hubfleet.cluster.idle-timeout": "soon"}, ValueError, "idle_timeout must be a time"),
        ({"hubfleet.cluster.silence-logs": "loud"}, ValueError, "silence_logs must be a level"),
        ({"hubfleet.cluster.scheduler-port": 70000}, ValueError, "scheduler_port must be a whole number"),
    ],
)
def test_mistakes_in_the_configuration_are_named(
    configured: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with dask.config.set(configured), pytest.raises(kind, match=sentence):
        MarathonCluster(**PLACE)


SHOW = """
import json
from hubfleet.workers.config import settings
print(json.dumps({each.name: [each.shown, each.source] for each in settings()}))
"""


def test_files_and_variables_are_read_and_it_is_told_which_held(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("hubfleet:\n  worker:\n    mem: 1024\n    nthreads: 3\n")
    environment = {
        **os.environ,
        "DASK_CONFIG": str(tmp_path),
        "DASK_HUBFLEET__WORKER__MEM": "2048",
        "DASK_HUBFLEET__ADAPT__MAXIMUM": "7",
        "DASK_HUBFLEET__WORKER__ENV": "{'PASSWORD': 'geheim'}",
    }
    printed = subprocess.run(
        [sys.executable, "-c", SHOW], env=environment, capture_output=True, text=True, check=True
    ).stdout
    found = json.loads(printed)
    assert found["hubfleet.worker.mem"] == [2048, "DASK_HUBFLEET__WORKER__MEM"]
    assert found["hubfleet.worker.nthreads"] == [3, str(tmp_path / "mine.yaml")]
    assert found["hubfleet.adapt.maximum"] == [7, "DASK_HUBFLEET__ADAPT__MAXIMUM"]
    assert found["hubfleet.worker.cpus"] == [1.0, "default"]
    assert found["hubfleet.worker.env"] == [{"PASSWORD": "(hidden)"}, "DASK_HUBFLEET__WORKER__ENV"]
    copy = (tmp_path / "hubfleet.yaml").read_text()
    assert "#     mem: 512.0" in copy  # a copy to edit, with nothing in force
    assert not [line for line in copy.splitlines() if line.strip() and not line.startswith("#")]


def test_the_command_prints_every_option() -> None:
    with dask.config.set({"hubfleet.worker.cpus": 2}):
        printed = CliRunner().invoke(workers, ["config"]).output
        table = json.loads(CliRunner().invoke(workers, ["config", "--json"]).output)
    assert len(printed.splitlines()) == len(table) == sum(len(part) for part in DEFAULTS["hubfleet"].values())
    assert table["hubfleet.worker.cpus"] == {"value": 2, "source": "set in this process"}
    assert section("worker")["cpus"] == 1.0

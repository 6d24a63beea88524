"""The definition of the workers' app: what is in it, and what its command line becomes in a shell."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask.config
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from distributed import Security

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.workers.build import (
    DRAIN_MODULE,
    GUARD_MODULE,
    KILL_GRACE_SECONDS,
    build_app,
    without_secrets,
    worker_command,
)
from hubfleet.workers.drain import DRAIN_SECONDS
from hubfleet.workers.options import WorkerOptions
from hubfleet.workers.tls import KEY_VARIABLE, checked_security, encrypts, worker_environment

TASK = {
    "DASK_SCHEDULER_ADDRESS": "tls://10.0.0.1:8786",
    "MESOS_TASK_ID": "a_b.instance-1._app.1",
    "HOST": "10.0.0.2",
    "PORT_WORKER": "31001",
    "PORT_DASHBOARD": "31002",
    "MESOS_SANDBOX": "/tmp/a sandbox with 'quotes' and $money",
}


def run_command(options: WorkerOptions, environment: dict[str, str]) -> list[str]:
    """Run a worker's command line in the shell that a backend uses; return what the program was given."""
    ran = subprocess.run(
        ["/bin/sh", "-c", worker_command(options)],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    found = json.loads(ran.stdout)
    assert isinstance(found, list)
    return found


@pytest.fixture
def echo(tmp_path: Path) -> str:
    """A program in the interpreter's place, at a path that a careless shell line would break on."""
    program = tmp_path / "it's a $(touch broken) python;"
    program.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_the_command_becomes_these_arguments_whatever_is_in_paths_and_variables(echo: str) -> None:
    arguments = run_command(WorkerOptions(python=echo, mem=1000, nthreads=3), TASK)
    assert arguments == [
        *("-m", "distributed.cli.dask_worker", "tls://10.0.0.1:8786", "--no-nanny", "--no-dashboard"),
        *("--name", "a_b.instance-1._app.1", "--host", "10.0.0.2", "--worker-port", "31001"),
        *("--dashboard-address", "10.0.0.2:31002", "--nthreads", "3"),
        *("--memory-limit", str(1000 * 2**20 * 8 // 10), "--death-timeout", "60"),
        *("--local-directory", TASK["MESOS_SANDBOX"], "--preload", DRAIN_MODULE, "--preload", GUARD_MODULE),
    ]
    assert not Path("broken").exists()


def test_dask_worker_takes_every_option_of_the_command() -> None:
    """A renamed option would be found here, and not by workers that never come."""
    from click.testing import CliRunner
    from distributed.cli.dask_worker import main

    line = worker_command(WorkerOptions())
    options = [word for word in line.split() if word.startswith("--")]
    told = CliRunner().invoke(main, ["--help"]).output
    for option in options:
        assert option in told, option


def test_the_app_of_the_defaults() -> None:
    app = build_app(
        "/j/a/dask/c/workers", "tcp://h:1", WorkerOptions(), instances=2, cluster="C", owner="/j/a/n"
    )
    assert (app.instances, app.cpus, app.mem, app.disk, app.gpus) == (2, 1.0, 512.0, 0.0, 0)
    assert app.labels == {labels.CLUSTER: "C", labels.OWNER: "/j/a/n"}
    assert [port.name for port in app.port_definitions or []] == ["worker", "dashboard"]
    assert app.networks[0].mode == "host"
    assert app.container is None
    assert app.env["DASK_SCHEDULER_ADDRESS"] == "tcp://h:1"
    assert app.env["OMP_NUM_THREADS"] == app.env["OPENBLAS_NUM_THREADS"] == "1"
    assert sys.executable in (app.cmd or "")
    assert App.from_request(app.to_wire()).cmd == app.cmd  # the wire's strict types take it


def test_a_worker_has_drained_before_the_backend_kills_it() -> None:
    assert DRAIN_SECONDS < KILL_GRACE_SECONDS


def test_the_environment_is_what_a_nanny_would_set() -> None:
    wanted = dask.config.get("distributed.nanny.pre-spawn-environ")
    app = build_app("/a", "tcp://h:1", WorkerOptions())
    assert {name: app.env[name] for name in wanted} == {name: str(value) for name, value in wanted.items()}


def test_what_the_user_sets_goes_into_the_app() -> None:
    options = WorkerOptions(
        cpus=0.5,
        mem=2048,
        disk=10,
        gpus=1,
        image="registry/dask:1",
        env={"OMP_NUM_THREADS": "4", "MINE": "x"},
        labels={"team": "blue"},
        constraints=[["hostname", "UNIQUE"], ("rack", "GROUP_BY", "2")],
    )
    app = build_app("/a", "tcp://h:1", options, cluster="c")
    assert (app.cpus, app.mem, app.disk, app.gpus) == (0.5, 2048.0, 10.0, 1)
    assert app.env["OMP_NUM_THREADS"] == "4"
    assert app.env["MINE"] == "x"
    assert app.labels == {"team": "blue", labels.CLUSTER: "c"}
    assert app.constraints == [["hostname", "UNIQUE"], ["rack", "GROUP_BY", "2"]]
    assert app.container is not None
    assert app.container.docker is not None
    assert app.container.docker.image == "registry/dask:1"
    assert (app.cmd or "").startswith("exec python -m ")  # the image's own, not this machine's


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"cpus": 0}, ValueError, "cpus must be a number of cores, at least 0.001; got 0"),
        ({"cpus": float("nan")}, ValueError, "cpus must be a number of cores"),
        ({"cpus": "2"}, TypeError, r"cpus must be a number of cores, at least 0.001; got '2' \(str\)"),
        ({"mem": 64}, ValueError, "mem must be a number of MiB, at least 128; got 64"),
        ({"mem": True}, TypeError, "mem must be a number of MiB"),
        ({"mem": "2GB"}, TypeError, "mem must be a number of MiB"),
        ({"disk": -1}, ValueError, "disk must be a number of MiB, at least 0"),
        ({"gpus": 0.5}, TypeError, "gpus must be a whole number from 0 to 1024"),
        ({"nthreads": 0}, ValueError, "nthreads must be a whole number from 1 to 1024, got 0"),
        ({"nthreads": 1.0}, TypeError, "nthreads must be a whole number"),
        ({"python": 3}, TypeError, "python must be a text"),
        ({"image": ""}, ValueError, "image must not be empty"),
        ({"env": ["A=1"]}, TypeError, "env must be a dictionary of texts"),
        ({"env": {"A": 1}}, TypeError, "env must be a dictionary of texts; of 'A' the value is int"),
        ({"env": {KEY_VARIABLE: "k"}}, ValueError, "env must not set .*: the cluster sets it itself"),
        ({"labels": {labels.OWNER: "/x"}}, ValueError, "labels must not set HUBFLEET_OWNER"),
        ({"constraints": "hostname:UNIQUE"}, TypeError, "constraints must be a list of lists"),
        ({"constraints": ["hostname"]}, TypeError, "constraints must be a list of lists"),
        ({"constraints": [["hostname"]]}, ValueError, "is not a field, an operator"),
        ({"nthread": 2}, TypeError, "MarathonCluster has no option 'nthread'; did you mean 'nthreads'?"),
        ({"memory_limit": 2}, TypeError, "has no option 'memory_limit'; it takes .*mem"),
    ],
)
def test_bad_options_are_refused_with_a_sentence(
    options: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        WorkerOptions.of("MarathonCluster", options)


def test_what_is_refused_does_not_tell_the_values_of_an_environment() -> None:
    with pytest.raises(TypeError) as refusal:
        WorkerOptions(env={"PASSWORD": b"hunter2"})  # type: ignore[dict-item]
    assert "hunter2" not in str(refusal.value)


def test_the_worker_gets_its_certificate_by_the_environment_alone() -> None:
    security = checked_security(True)
    tls = worker_environment(security)
    app = build_app("/a", "tls://h:1", WorkerOptions(), tls=tls)
    assert "PRIVATE KEY" in str(app.env[KEY_VARIABLE])
    assert "BEGIN" not in (app.cmd or "")
    shown = without_secrets(app)
    assert "PRIVATE KEY" not in shown.model_dump_json()
    assert shown.env.keys() == app.env.keys()
    assert "PRIVATE KEY" not in repr(security)


def test_dask_reads_the_same_security_from_that_environment() -> None:
    given = checked_security(True)
    collected = dask.config.collect_env(worker_environment(given))
    with dask.config.set(dask.config.merge(dask.config.config, collected)):
        read = Security()
    assert read.require_encryption is True
    assert read.get_tls_config_for_role("worker") == given.get_tls_config_for_role("worker")


def test_security_false_means_none_even_if_dask_is_configured_otherwise() -> None:
    configured = {"distributed.comm.tls.ca-file": "/ca.pem", "distributed.comm.tls.scheduler.cert": "/c.pem"}
    with dask.config.set(configured):
        security = checked_security(False)
    assert not encrypts(security)
    assert KEY_VARIABLE not in worker_environment(security)


def test_a_clusters_own_certificate_is_quick_to_use_unless_the_site_has_named_ciphers() -> None:
    key, certificate = checked_security(True).tls_worker_key, checked_security(True).tls_worker_cert
    assert isinstance(serialization.load_pem_private_key(key.encode(), None), ec.EllipticCurvePrivateKey)
    assert checked_security(True).tls_worker_cert != certificate, "each cluster has its own"
    with dask.config.set({"distributed.comm.tls.ciphers": "ECDHE-RSA-AES256-GCM-SHA384"}):
        key = checked_security(True).tls_worker_key
    assert isinstance(serialization.load_pem_private_key(key.encode(), None), rsa.RSAPrivateKey)


def test_security_must_be_a_security() -> None:
    with pytest.raises(
        TypeError, match=r"security must be True .*, False .* or a distributed.Security, got str"
    ):
        checked_security("tls")

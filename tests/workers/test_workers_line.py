"""The options of a worker beyond its size: what becomes of them in the command line and in the app."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from hubfleet.api.app import App
from hubfleet.backend.drivers.prefork.line import read_command
from hubfleet.workers.build import DRAIN_MODULE, GUARD_MODULE, build_app, worker_command
from hubfleet.workers.options import WorkerOptions

EVERYTHING: dict[str, Any] = {
    "nthreads": 2,
    "resources": {"GPU": 2, "MEM": 10e9},
    "preload": ["mine.setup", "/data/it's mine.py"],
    "lifetime": "1 hour",
    "lifetime_stagger": "5 minutes",
    "nanny": True,
    "dashboard": True,
}


def words(**options: Any) -> list[str]:
    """Return the arguments of a worker's command; none is split or joined by the shell's quoting."""
    return shlex.split(worker_command(WorkerOptions(**options)))[2:]


def after(option: str, line: list[str]) -> list[str]:
    """Return what follows an option, each time that it is there."""
    return [line[index + 1] for index, word in enumerate(line) if word == option]


def test_options_become_arguments() -> None:
    line = words(**EVERYTHING)
    assert after("--resources", line) == ["GPU=2.0 MEM=10000000000.0"]
    assert after("--preload", line) == [DRAIN_MODULE, GUARD_MODULE, "mine.setup", "/data/it's mine.py"]
    assert after("--preload-nanny", line) == [DRAIN_MODULE]
    assert after("--lifetime", line) == ["3600.0s"]
    assert after("--lifetime-stagger", line) == ["300.0s"]
    assert {"--nanny", "--dashboard"} < set(line)
    assert not {"--no-nanny", "--no-dashboard"} & set(line)


def test_nanny_and_dashboard_are_off_by_default() -> None:
    line = words()
    assert {"--no-nanny", "--no-dashboard"} < set(line)
    assert not {"--nanny-port", "--preload-nanny", "--resources", "--lifetime"} & set(line)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["worker", "dashboard"]),
        ({"nanny": True}, ["worker", "nanny", "dashboard"]),
        # Several workers of one task take ports of their own, since those of a Marathon are not in a row.
        ({"nanny": True, "nworkers": 2}, []),
    ],
)
def test_ports_come_from_the_backend_by_name(options: dict[str, Any], names: list[str]) -> None:
    app = build_app("/a", "tcp://h:1", WorkerOptions(**options))
    assert [port.name for port in app.port_definitions or []] == names
    line = words(**options)
    assert after("--worker-port", line) == (["$PORT_WORKER"] if names else [])
    assert after("--nanny-port", line) == (["$PORT_NANNY"] if "nanny" in names else [])


def test_workers_of_one_task_share_its_memory() -> None:
    line = words(nworkers=4, nanny=True, mem=1024)
    assert after("--nworkers", line) == ["4"]
    assert after("--memory-limit", line) == [str(1024 * 2**20 * 8 // 10 // 4)]


def test_volumes_are_those_of_marathon_whichever_way_they_are_written() -> None:
    options = WorkerOptions(
        volumes=["/data:/mnt/data:ro", "/scratch:/scratch", {"hostPath": "/a", "containerPath": "/b"}]
    )
    container = build_app("/a", "tcp://h:1", options).container
    assert container is not None
    assert container.docker is None
    assert [volume.to_wire() for volume in container.volumes] == [
        {"containerPath": "/mnt/data", "hostPath": "/data", "mode": "RO"},
        {"containerPath": "/scratch", "hostPath": "/scratch", "mode": "RW"},
        {"containerPath": "/b", "hostPath": "/a", "mode": "RW"},
    ]


def test_a_plain_marathon_takes_every_number_of_the_definition() -> None:
    """Marathon's types are whole numbers where ours also take parts of seconds."""
    body = build_app("/a", "tcp://h:1", WorkerOptions(**EVERYTHING)).to_wire()
    for field in ("backoffSeconds", "maxLaunchDelaySeconds", "taskKillGracePeriodSeconds", "instances"):
        assert type(body[field]) is int, field
    App.from_request(body)  # the types of the RAML, strictly


@pytest.mark.parametrize(
    "options", [{}, EVERYTHING, {"nanny": True, "nworkers": 3}, {"volumes": ["/data:/data"]}]
)
def test_the_backend_can_fork_a_worker_instead_of_executing_it(options: dict[str, Any]) -> None:
    taken = WorkerOptions(python="/opt/dask/bin/python", **options)
    variables = build_app("/a", "tls://10.0.0.1:8786", taken).env
    task = {
        "MESOS_TASK_ID": "a.instance-1._app.1",
        "HOST": "127.0.0.1",
        "PORT_WORKER": "31001",
        "PORT_NANNY": "31003",
        "PORT_DASHBOARD": "31002",
        "MESOS_SANDBOX": "/var/lib/hubfleet/a sandbox",
    }
    line = read_command(
        ["/bin/sh", "-c", worker_command(taken)], {**{k: str(v) for k, v in variables.items()}, **task}
    )
    assert line is not None
    assert line.kind == "worker"
    assert after("--name", list(line.words)) == ["a.instance-1._app.1"]
    assert after("--preload", list(line.words))[2:] == list(taken.preload)


@pytest.mark.parametrize(
    ("options", "kind", "sentence"),
    [
        ({"nworkers": 2}, ValueError, "nworkers=2 needs nanny=True"),
        ({"nworkers": 0}, ValueError, "nworkers must be a whole number from 1 to 64"),
        (
            {"nworkers": 5, "nanny": True},
            ValueError,
            "at least 128 MiB for each worker; got 512 for nworkers=5",
        ),
        ({"nanny": "no"}, TypeError, r"nanny must be True or False, got 'no' \(str\)"),
        ({"dashboard": 1}, TypeError, "dashboard must be True or False"),
        ({"volumes": "/data:/data"}, TypeError, "volumes must be a list such as"),
        ({"volumes": ["/data"]}, ValueError, "'/data' is not a path of the host, one in the worker"),
        ({"volumes": ["/a:/b:rx"]}, ValueError, "'/a:/b:rx' is not a path"),
        ({"volumes": [{"host_path": "/a"}]}, TypeError, "no option 'host_path'; did you mean 'hostPath'?"),
        ({"volumes": [7]}, TypeError, "volumes must be a list .*, got 7 in it"),
        ({"resources": ["GPU=1"]}, TypeError, "resources must be a dictionary of amounts"),
        ({"resources": {"GPU": "1"}}, TypeError, r"resources\['GPU'\] must be a number"),
        ({"resources": {"GPU=1 MEM": 1}}, ValueError, "the name 'GPU=1 MEM' has blanks, commas or equals"),
        ({"preload": "--nanny"}, ValueError, "which `dask worker` would take for an option"),
        ({"preload": {"a": "b"}}, TypeError, "preload must be the name of a module"),
        ({"preload": [""]}, ValueError, "preload must not be empty"),
        ({"lifetime": "soon"}, ValueError, "lifetime must be a time such as '1s'"),
        ({"lifetime_stagger": "1s"}, ValueError, "lifetime_stagger means nothing without lifetime"),
        ({"nprocs": 2}, TypeError, "MarathonWorkers has no option 'nprocs'"),
        ({"lifetime_staggr": 2}, TypeError, "did you mean 'lifetime_stagger'?"),
        ({"volume": []}, TypeError, "did you mean 'volumes'?"),
    ],
)
def test_bad_options_are_refused_at_once(
    options: dict[str, Any], kind: type[Exception], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        WorkerOptions.of("MarathonWorkers", options)

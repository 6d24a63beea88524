"""Which commands are understood without a shell, and what a shell makes of the environment."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hubfleet.backend.drivers.prefork.line import environment_from_shell, read_command
from hubfleet.spawner.command import shell_line
from hubfleet.workers.build import worker_command
from hubfleet.workers.options import WorkerOptions

ENVIRONMENT = {"PORT0": "31000", "HOME": "/home/ann", "SPLIT": "a b", "PWD": "/", "EMPTY": ""}


def words(line: str) -> list[str] | None:
    found = read_command(["/bin/sh", "-c", line], ENVIRONMENT)
    return None if found is None else list(found.words)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("exec jupyterhub-singleuser --port=$PORT0", ["jupyterhub-singleuser", "--port=31000"]),
        ("exec jupyterhub-singleuser '$PORT0' \"${PORT0}x\"", ["jupyterhub-singleuser", "$PORT0", "31000x"]),
        ('exec jupyterhub-singleuser "$SPLIT" "$EMPTY"', ["jupyterhub-singleuser", "a b", ""]),
        ("exec python3.11 -m jupyterhub.singleuser a", ["python3.11", "-m", "jupyterhub.singleuser", "a"]),
        ("exec dask worker tcp://h:1", ["dask", "worker", "tcp://h:1"]),
        ("exec dask scheduler", None),
        ("jupyterhub-singleuser", None),
        ("exec python -u -m jupyterhub.singleuser", None),
        ("exec python -m http.server", None),
        ("exec jupyterhub-singleuser $SPLIT", None),
        ("exec jupyterhub-singleuser $EMPTY", None),
        ("exec jupyterhub-singleuser $NOT_SET", None),
        ('exec jupyterhub-singleuser "$NOT_SET"', None),
        ("exec jupyterhub-singleuser $PWD", None),
        ("exec jupyterhub-singleuser $(id)", None),
        ('exec jupyterhub-singleuser "`id`"', None),
        ("exec jupyterhub-singleuser *", None),
        ("exec jupyterhub-singleuser ~", None),
        ("exec jupyterhub-singleuser > file", None),
        ("exec jupyterhub-singleuser; id", None),
        ("exec jupyterhub-singleuser && id", None),
        ("exec jupyterhub-singleuser & id", None),
        ("exec jupyterhub-singleuser # note", None),
        ("exec jupyterhub-singleuser \\$PORT0", None),
        ("exec jupyterhub-singleuser 'open", None),
        ("exec jupyterhub-singleuser\nid", None),
        ("exec A=1 jupyterhub-singleuser", None),
        ("exec -a x jupyterhub-singleuser", None),
        ("A=1 exec jupyterhub-singleuser", None),
        ("cd -- /tmp && exec jupyterhub-singleuser", ["jupyterhub-singleuser"]),
        ("cd -- tmp && exec jupyterhub-singleuser", None),
        ("cd -- /tmp/.. && exec jupyterhub-singleuser", None),
        ("rm -- /tmp && exec jupyterhub-singleuser", None),
        ("mkdir -p -m 0700 -- /a && exec jupyterhub-singleuser", ["jupyterhub-singleuser"]),
        ("", None),
    ],
)
def test_only_what_is_certain_is_understood(line: str, expected: list[str] | None) -> None:
    assert words(line) == expected


def test_what_spawner_and_workers_make_is_understood() -> None:
    server = shell_line(["jupyterhub-singleuser", "--a=b c"], "127.0.0.1", "/home/ann/work it", "~/tree")
    line = read_command(["/bin/sh", "-c", server], ENVIRONMENT)
    assert line is not None
    assert (line.kind, line.enter) == ("server", "/home/ann/work it")
    assert line.make == ["/home/ann/work it", "/home/ann/tree"]
    assert line.words == ["jupyterhub-singleuser", "--a=b c", "--ip=127.0.0.1", "--port=31000"]
    task = {
        "HOST": "h",
        "MESOS_TASK_ID": "t",
        "MESOS_SANDBOX": "/s",
        "PORT_WORKER": "1",
        "PORT_DASHBOARD": "2",
    }
    command = worker_command(WorkerOptions())
    line = read_command(["/bin/sh", "-c", command], {**task, "DASK_SCHEDULER_ADDRESS": "tls://h:1"})
    assert line is not None
    assert line.kind == "worker"
    assert "h:2" in line.words


@pytest.mark.parametrize("name", ["IFS", "SHLVL", "OLDPWD", "BASH_ENV", "a.b", "BASH_FUNC_cd%%"])
def test_an_environment_that_a_shell_acts_upon_is_left_to_it(name: str) -> None:
    line = ["/bin/sh", "-c", "exec jupyterhub-singleuser"]
    assert read_command(line, ENVIRONMENT) is not None
    assert read_command(line, {**ENVIRONMENT, name: "x"}) is None


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("enter", [False, True])
def test_a_shell_passes_the_environment_on_as_we_say(tmp_path: Path, shell: str, enter: bool) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    sh = tmp_path / "sh"
    sh.symlink_to(program)
    before, after = str(tmp_path), "/usr" if enter else str(tmp_path)
    given = {"A": "b c", "PATH": "/usr/bin:/bin", "PWD": before}
    line = ("cd -- /usr && " if enter else "") + "exec env -0"
    said = subprocess.run([sh, "-c", line], env=given, cwd=tmp_path, capture_output=True, check=True).stdout
    found = dict(variable.split("=", 1) for variable in said.decode().split("\0") if variable)
    expected = environment_from_shell(shell, given, before, after)
    # Bash tells a program how it was called, unless that is all it did; no program asks.
    assert {name: value for name, value in found.items() if name != "_"} == expected

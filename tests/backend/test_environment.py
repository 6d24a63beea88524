"""What a task finds in its environment (``marathon-v2`` 5.2)."""

from __future__ import annotations

from typing import Any

from instances import app, instance

from hubfleet.backend.orchestrator import environment
from hubfleet.backend.orchestrator.sandbox import last_lines
from hubfleet.backend.records import Condition


def variables(ports: list[int], **fields: Any) -> dict[str, str]:
    task = instance(Condition.PROVISIONED, ports=ports, host="h", incarnation=3)
    return environment.environment(app(**fields), task, {"PATH": "/bin", "HOST": "base"}, "/sandbox")


def test_marathons_own_variables() -> None:
    found = variables([], cpus=0.1, mem=128, disk=2, gpus=0)
    assert found["MARATHON_APP_ID"] == "/a"
    assert found["MARATHON_APP_VERSION"] == "2026-01-01T00:00:00.000Z"
    assert found["MARATHON_APP_RESOURCE_CPUS"] == "0.1"
    assert found["MARATHON_APP_RESOURCE_MEM"] == "128.0"
    assert found["MARATHON_APP_RESOURCE_DISK"] == "2.0"
    assert found["MARATHON_APP_RESOURCE_GPUS"] == "0"
    assert found["MARATHON_APP_ENFORCE_GROUP_ROLE"] == "FALSE"
    assert found["MESOS_TASK_ID"].endswith("._app.3")
    assert found["MESOS_SANDBOX"] == found["PWD"] == "/sandbox"
    assert (found["HOST"], found["PATH"]) == ("h", "/bin")
    assert not any(name.startswith("PORT") for name in found)


def test_ports_by_position_number_and_name() -> None:
    definitions = [{"port": 0, "name": "worker"}, {"port": 8080}, {"port": 0, "name": "dash-board"}]
    found = variables([31001, 31002, 31003], portDefinitions=definitions)
    ports = {name: value for name, value in found.items() if name.startswith("PORT")}
    assert ports == {
        "PORT": "31001",
        "PORTS": "31001,31002,31003",
        "PORT0": "31001",
        "PORT1": "31002",
        "PORT2": "31003",
        "PORT_31001": "31001",
        "PORT_8080": "31002",
        "PORT_31003": "31003",
        "PORT_WORKER": "31001",
        "PORT_DASH-BOARD": "31003",
    }


def test_the_app_has_the_last_word() -> None:
    assert variables([31001], env={"PORT0": "mine", "PATH": "/x"}, portDefinitions=[{}])["PORT0"] == "mine"
    assert variables([], env={"PATH": "/x"})["PATH"] == "/x"


def test_labels_become_variables_but_for_endless_ones() -> None:
    found = variables([], labels={"a.b-c": "x\ny", "k" * 493: "long key", "v": "long" * 128})
    assert found["MARATHON_APP_LABELS"] == "A_B_C"
    assert found["MARATHON_APP_LABEL_A_B_C"] == "x\ny"
    assert "MARATHON_APP_LABEL_V" not in found
    assert variables([])["MARATHON_APP_LABELS"] == ""


def test_a_command_runs_in_a_shell_and_arguments_without_one() -> None:
    assert environment.command(app(cmd="a && b")) == ("/bin/sh", "-c", "a && b")
    assert environment.command(app(cmd=None, args=["/bin/echo", "$A"])) == ("/bin/echo", "$A")


def test_the_end_of_an_output_is_read_only_from_a_file(tmp_path: Any) -> None:
    """Its owner is the task, which can put anything there; nothing of that may hurt the backend."""
    import os

    output = tmp_path / "stderr"
    assert last_lines(output) == ""
    output.write_bytes(b"first\n" + b"x" * 5000 + b"\n\xffend\n")
    assert last_lines(output).endswith("\n\N{REPLACEMENT CHARACTER}end")
    assert "first" not in last_lines(output)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for make in (
        lambda: os.symlink(secret, output),
        lambda: os.mkfifo(output),
        lambda: output.mkdir(),
    ):
        output.unlink()
        make()
        assert last_lines(output) == ""

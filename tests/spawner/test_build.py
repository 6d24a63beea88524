"""What becomes of names, configuration and options: an app, and a line that a shell reads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from hubfleet.api import environment, labels
from hubfleet.api.ids import is_legal
from hubfleet.spawner.build import Server, backend_env, build_app
from hubfleet.spawner.certificates import Certificates
from hubfleet.spawner.command import shell_line
from hubfleet.spawner.options import Choice
from hubfleet.spawner.templates import format_volumes, names_of, path_namespace, path_part

HOSTILE_NAMES = [
    "alice",
    "ALICE",
    "Ünïcode",
    "Ünicode",
    "a b",
    "a-b",
    "a_b",
    "alice@example.org",
    "alice-example-org",
    "..",
    ".",
    "a/b",
    "../../etc",
    "x'; touch pwned; '",
    '"; touch pwned; "',
    "$(touch pwned)",
    "`touch pwned`",
    "line\nbreak; touch pwned",
    "-rf",
    "servers",
    "notebook",
    "n" * 200,
    "n" * 199 + "m",
    "名前",
]


def server(**changes: Any) -> Server:
    values: dict[str, Any] = {
        "prefix": "jupyter",
        "user": "alice",
        "server": "",
        "hub_id": "hub-1",
        "command": ["jupyterhub-singleuser"],
        "base_path": "/user/alice/",
        "choice": Choice(cpu=1, mem=1024, disk=0, gpu=0),
        "listen_ip": "0.0.0.0",
    }
    return Server(**{**values, **changes})


def test_the_app_is_what_a_marathon_is_to_be_sent() -> None:
    app = build_app(server(env={"A": "1"}))
    assert app.to_wire() == {
        "id": "/jupyter/alice/notebook",
        "cmd": "exec jupyterhub-singleuser --ip=0.0.0.0 --port=$PORT0",
        "cpus": 1.0,
        "mem": 1024.0,
        "disk": 0.0,
        "gpus": 0,
        "instances": 1,
        "env": {"A": "1"},
        "labels": {labels.HUB: "hub-1", labels.USER: "alice", labels.SERVER: ""},
        "networks": [{"mode": "host"}],
        "portDefinitions": [{"port": 0, "protocol": "tcp", "name": "notebook"}],
        "requirePorts": False,
        "healthChecks": [
            {
                "protocol": "HTTP",
                "path": "/user/alice/api",
                "portIndex": 0,
                "gracePeriodSeconds": 300,
                "intervalSeconds": 10,
                "timeoutSeconds": 20,
                "maxConsecutiveFailures": 0,
                "delaySeconds": 15,
            }
        ],
        "upgradeStrategy": {"minimumHealthCapacity": 0.0, "maximumOverCapacity": 0.0},
        "backoffSeconds": 1.0,
        "backoffFactor": 1.15,
        "maxLaunchDelaySeconds": 300.0,
        "taskKillGracePeriodSeconds": 10,
        "killSelection": "YOUNGEST_FIRST",
        "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
        "executor": "",
    }


def test_no_two_names_share_an_app_a_home_or_a_volume() -> None:
    apps = [build_app(server(user=name)).id for name in HOSTILE_NAMES]
    apps += [build_app(server(user="alice", server=name)).id for name in HOSTILE_NAMES]
    assert len(set(apps)) == len(apps)
    assert all(is_legal(app_id) for app_id in apps)
    parts = [path_part(name) for name in HOSTILE_NAMES]
    assert len(set(parts)) == len(parts)
    assert all("/" not in part and part not in {"", ".", ".."} and part.isascii() for part in parts)


@pytest.mark.parametrize("name", ["alice", "alice.b", "alice@example.org", "ALICE", "a_b-c", "7"])
def test_an_ordinary_name_keeps_its_directory(name: str) -> None:
    assert path_part(name) == name


def test_what_a_replaced_name_becomes_cannot_be_taken_as_a_name() -> None:
    replaced = path_part("../etc")
    assert path_part(replaced) != replaced


def test_a_segment_in_a_template_is_the_one_of_the_app_id() -> None:
    for name in HOSTILE_NAMES:
        names = path_namespace(names_of(name, "second server"))
        assert build_app(server(user=name)).id == f"/jupyter/{names['user_segment']}/notebook"
        assert names["escaped_username"] == names["user_segment"]
        assert names["servername"] == path_part("second server")


def test_no_two_servers_of_anybody_share_a_volume() -> None:
    pairs = [(user, name) for user in HOSTILE_NAMES for name in ("", "x", "a-b")]
    found = [path_namespace(names_of(*pair))["user_server"] for pair in pairs]
    assert len(set(found)) == len(pairs)


def test_every_text_of_a_template_is_made_safe() -> None:
    names = path_namespace({"username": "../bob", "base_url": "/user/bob/", "number": 3})
    filled = "/srv/{username}/{base_url}/{number}".format(**names)
    assert filled.count("/") == 4
    assert ".." not in filled


def test_volumes_are_filled_in_where_marathon_has_names() -> None:
    volumes = [
        {"containerPath": "/home/{username}", "hostPath": "/srv/{username}", "mode": "RW"},
        {"containerPath": "data", "external": {"name": "v-{username}", "provider": "dvdi"}, "mode": "RO"},
    ]
    filled = format_volumes(volumes, lambda template: template.format(username="alice"))
    assert filled[0] == {"containerPath": "/home/alice", "hostPath": "/srv/alice", "mode": "RW"}
    assert filled[1]["external"] == {"name": "v-alice", "provider": "dvdi"}
    assert volumes[0]["hostPath"] == "/srv/{username}", "the configuration itself is not changed"
    app = build_app(server(volumes=filled))
    assert app.container is not None
    assert app.container.docker is None
    assert [volume.container_path for volume in app.container.volumes] == ["/home/alice", "data"]


def test_an_image_runs_in_a_mesos_container() -> None:
    choice = Choice(cpu=1, mem=1, disk=1, gpu=0, image="quay.io/x", force_pull=True)
    container = build_app(server(choice=choice)).container
    assert container is not None
    assert container.type == "MESOS"
    assert container.docker is not None
    assert (container.docker.image, container.docker.force_pull_image) == ("quay.io/x", True)


def test_configuration_reaches_the_app() -> None:
    app = build_app(
        server(
            constraints=[["rack", "GROUP_BY", 2]],
            unreachable_strategy={"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120},
            run_as="nobody",
            env={"NUMBER": 3, "ABSENT": None},
            health_failures=5,
        )
    )
    assert app.constraints == [["rack", "GROUP_BY", "2"]]
    assert app.to_wire()["unreachableStrategy"] == {"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120}
    assert app.user == "nobody"
    assert app.env == {"NUMBER": "3"}
    assert app.health_checks[0].max_consecutive_failures == 5
    assert build_app(server(unreachable_strategy="disabled")).unreachable_strategy == "disabled"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": []}, "cmd is empty"),
        ({"home_dir": "homes/alice"}, "from the root"),
        ({"command": ["a\0b"]}, "NUL"),
        ({"unreachable_strategy": {"inactiveAfterSeconds": "soon"}}, "inactiveAfterSeconds"),
        ({"volumes": [{"hostPath": "/x"}]}, "containerPath"),
    ],
)
def test_a_configuration_that_makes_no_app_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises((ValueError, ValidationError), match=said):
        build_app(server(**changes))


def test_a_server_learns_the_backend_and_its_own_place_there() -> None:
    assert backend_env("jupyter", "a b", "http://m:1") == {
        environment.BACKEND_URL: "http://m:1",
        environment.DASK_GROUP: build_app(server(user="a b")).id.replace("/notebook", "/dask"),
    }


def test_all_addresses_need_no_option() -> None:
    assert shell_line(["x"], listen_ip="") == "exec x --port=$PORT0"
    assert shell_line(["x"], listen_ip="::") == "exec x --ip=:: --port=$PORT0"


# -- the line in a real shell ----------------------------------------------------------------

FAKE_SINGLEUSER = """#!{python}
import json, os, stat, sys
print(json.dumps({{
    "argv": sys.argv[1:],
    "cwd": os.getcwd(),
    "mode": stat.S_IMODE(os.stat(os.getcwd()).st_mode),
    "parent": os.getppid(),
}}))
"""


@pytest.fixture
def sandbox(tmp_path: Path) -> Path:
    """A directory as a task starts in; beside it a double of the server that tells its arguments."""
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "jupyterhub-singleuser"
    program.write_text(FAKE_SINGLEUSER.format(python=sys.executable))
    program.chmod(0o755)
    directory = tmp_path / "sandbox"
    directory.mkdir()
    return directory


def run(line: str, sandbox: Path) -> dict[str, Any]:
    env = {
        "PATH": f"{sandbox.parent / 'bin'}:{os.environ['PATH']}",
        "PORT0": "31007",
        "HOME": str(sandbox.parent / "home of somebody"),
    }
    done = subprocess.run(
        ["/bin/sh", "-c", line], cwd=sandbox, env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert not list(sandbox.parent.rglob("pwned")), "the shell ran a part of a name"
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    return told


HOSTILE_WORDS = [*HOSTILE_NAMES, "", " ", "*", "~", "$HOME", "\\", "!!", "a=b", "#", "&& touch pwned", "\t"]


def test_the_shell_reads_nothing_but_the_port(sandbox: Path) -> None:
    told = run(shell_line(["jupyterhub-singleuser", *HOSTILE_WORDS], "127.0.0.1"), sandbox)
    assert told["argv"] == [*HOSTILE_WORDS, "--ip=127.0.0.1", "--port=31007"]
    assert told["cwd"] == str(sandbox)
    assert told["parent"] == os.getpid(), "no shell stays between the backend's signals and the server"


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_home_is_made_private_and_entered_whatever_the_name(name: str, sandbox: Path) -> None:
    home = sandbox.parent / "homes" / path_part(name)
    told = run(shell_line(["jupyterhub-singleuser"], home_dir=str(home)), sandbox)
    assert told["cwd"] == str(home)
    assert home.parent == sandbox.parent / "homes"
    assert told["mode"] == 0o700


@pytest.mark.parametrize("name", ["it's", "$(touch pwned)", "new\nline", "; touch pwned", "-p", "a b"])
def test_a_path_is_quoted_even_where_it_was_not_made_safe(name: str, sandbox: Path) -> None:
    home = str(sandbox.parent / "homes" / name)
    assert run(shell_line(["jupyterhub-singleuser"], home_dir=home), sandbox)["cwd"] == home


def test_a_home_that_is_there_already_is_left_as_it_is(sandbox: Path) -> None:
    home = sandbox.parent / "homes" / "alice"
    home.mkdir(parents=True)
    home.chmod(0o750)
    (home / "work.ipynb").write_text("mine")
    assert run(shell_line(["jupyterhub-singleuser"], home_dir=str(home)), sandbox)["mode"] == 0o750
    assert (home / "work.ipynb").read_text() == "mine"


def test_the_notebook_directory_is_made_below_the_home(sandbox: Path) -> None:
    run(shell_line(["jupyterhub-singleuser"], root_dir="~/my work"), sandbox)
    assert (sandbox.parent / "home of somebody" / "my work").is_dir()


def test_a_home_that_cannot_be_made_starts_no_server(sandbox: Path) -> None:
    (sandbox.parent / "file").write_text("")
    line = shell_line(["jupyterhub-singleuser"], home_dir=str(sandbox.parent / "file" / "alice"))
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run(line, sandbox)
    assert "mkdir" in failed.value.stderr


# -- certificates ----------------------------------------------------------------------------

TELLS_CERTIFICATES = """#!{python}
import json, os, stat
files = [os.environ["JUPYTERHUB_SSL_" + name] for name in ("KEYFILE", "CERTFILE", "CLIENT_CA")]
print(json.dumps({{
    "texts": [open(file).read() for file in files],
    "modes": [stat.S_IMODE(os.stat(file).st_mode) for file in files],
    "umask": os.umask(0),
    "left": [name for name in os.environ if name.startswith("HUBFLEET_TLS")],
    "directory": os.path.dirname(files[0]),
}}))
"""


def test_certificates_become_files_that_only_the_server_reads(sandbox: Path) -> None:
    program = sandbox.parent / "bin" / "jupyterhub-singleuser"
    program.write_text(TELLS_CERTIFICATES.format(python=sys.executable))
    certificates = Certificates(key="-KEY-\n%s\n", cert="-CERT-\n'", authorities='-CA-\n"$HOME"')
    line = shell_line(
        ["jupyterhub-singleuser"], home_dir=str(sandbox.parent / "home"), writes_certificates=True
    )
    done = subprocess.run(
        ["/bin/sh", "-c", f"umask 022; {line}"],
        cwd=sandbox,
        env={
            "PATH": f"{program.parent}:{os.environ['PATH']}",
            "PORT0": "1",
            "MESOS_SANDBOX": str(sandbox),
            **certificates.variables(),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["texts"] == [certificates.key, certificates.cert, certificates.authorities]
    assert told["modes"] == [0o600] * 3
    assert told["umask"] == 0o022, "what the server writes has the modes that it always had"
    assert told["left"] == []
    assert told["directory"] == str(sandbox / ".hubfleet-tls")
    assert "-KEY-" not in line
    assert "-KEY-" not in repr(certificates)


def test_a_server_with_tls_is_looked_at_from_without() -> None:
    (check,) = build_app(server(tls=True)).health_checks
    assert (check.protocol, check.path) == ("TCP", None)

"""`make demo`, and what a newcomer reads when it cannot start."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
import requests
from hub import VARIABLES, Ports
from hubs import kill_all, processes_of, running
from ports import free_port

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
STOPPED_SECONDS = 150
DEMO = [sys.executable, str(ROOT / "examples" / "demo.py")]


def demo_ports() -> Ports:
    """Ports of a demo at which no server is started."""
    return Ports(*(free_port() for _ in VARIABLES))


def variables(ports: Ports, state: Path) -> dict[str, str]:
    chosen = {name: str(getattr(ports, what)) for what, name in VARIABLES.items()}
    return {**os.environ, **chosen, "HUBFLEET_STATE": str(state)}


def refused(environment: dict[str, str], command: list[str] = DEMO) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    return done.stderr.strip()


@contextmanager
def demonstrating(
    command: list[str], ports: Ports, state: Path
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A demo that is ready, and what it has told."""
    with subprocess.Popen(
        command, env=variables(ports, state), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        told = ""
        assert demo.stdout is not None
        while "Ctrl-C" not in told:
            line = demo.stdout.readline()
            assert line, f"the demo ended: {demo.stderr.read() if demo.stderr else ''}"
            told += line
        try:
            yield demo, told
        except BaseException:
            demo.terminate()  # or its end would be waited for
            raise


def test_the_demo_tells_address_and_password_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    ports, state = demo_ports(), tmp_path / "state"
    with demonstrating(DEMO, ports, state) as (demo, told):
        assert f"http://127.0.0.1:{ports.public}" in told
        found = re.search(r"password  (\S+)", told)
        assert found is not None
        assert login_status(ports, "alice", found[1]) == 302
        assert login_status(ports, "alice", "not it") == 403
        demo.send_signal(signal.SIGINT)
        assert demo.wait(STOPPED_SECONDS) == 0
        assert demo.stdout is not None
        assert demo.stdout.read().endswith("Stopped.\n")
    nothing_is_left(state)


def test_a_demo_whose_terminal_is_closed_ends_as_by_ctrl_c(tmp_path: Path) -> None:
    state = tmp_path / "state"
    ours, theirs = os.openpty()
    demo = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *DEMO],
        env=variables(demo_ports(), state),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    told = b""
    while b"Ctrl-C" not in told:
        told += os.read(ours, 1000)
    os.close(ours)
    assert demo.wait(STOPPED_SECONDS) is not None
    nothing_is_left(state)


def test_a_demo_whose_terminal_is_gone_when_it_tells_ends_no_other_way(tmp_path: Path) -> None:
    ports, state = demo_ports(), tmp_path / "state"
    nobody, told = os.pipe()
    os.close(nobody)
    demo = subprocess.Popen(DEMO, env=variables(ports, state), stdout=told, stderr=told)
    os.close(told)
    wait_until_answered(f"http://127.0.0.1:{ports.backend}/ping")
    wait_until_answered(f"http://127.0.0.1:{ports.public}/hub/login")
    with suppress(subprocess.TimeoutExpired):
        demo.wait(0.5)  # it looks for both answers every 0.05 s, and tells then
    demo.terminate()
    assert demo.wait(STOPPED_SECONDS) is not None
    nothing_is_left(state)


def test_a_demo_in_a_shells_background_whose_backend_was_killed_ends_and_says_so(tmp_path: Path) -> None:
    ports, state = demo_ports(), tmp_path / "state"
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'examples')!r}); import hub, demo\n"
    code += "hub.BACKEND_SECONDS = 0.5\nsys.exit(demo.main())"
    deaf_to_ctrl_c = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", code]
    with demonstrating(deaf_to_ctrl_c, ports, state) as (demo, _):
        with instead_of_the_backend(ports.backend, state):
            demo.send_signal(signal.SIGINT)
            assert demo.wait(STOPPED_SECONDS) == 0
        assert demo.stdout is not None
        said = demo.stdout.read()
    assert "The backend, which ends the servers, has gone" in said
    assert "Servers that run now go on" in said
    assert said.endswith("Stopped.\n")
    for launcher in psutil.process_iter():
        with suppress(psutil.Error):
            if str(state) in " ".join(launcher.cmdline()):
                launcher.kill()
    nothing_is_left(state)


@contextmanager
def instead_of_the_backend(port: int, state: Path) -> Iterator[None]:
    """Kill the backend, and have somebody at its port who understands nothing.

    The hub, which looks after its services every 30 s, could have another one at any moment.
    """
    deadline = time.monotonic() + 60
    while True:
        kill_all(running("backend --managed", str(state)))
        try:
            server = HTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler)
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield
        server.shutdown()


def nothing_is_left(state: Path) -> None:
    deadline = time.monotonic() + 60
    while left := processes_of(state):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def wait_until_answered(url: str) -> None:
    deadline = time.monotonic() + STOPPED_SECONDS
    while True:
        with suppress(requests.RequestException):
            if requests.get(url, timeout=60).status_code == 200:
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def login_status(ports: Ports, name: str, password: str) -> int:
    session, url = requests.Session(), f"http://127.0.0.1:{ports.public}/hub/login"
    session.get(url, timeout=60)
    form = {"username": name, "password": password, "_xsrf": session.cookies["_xsrf"]}
    return session.post(url, data=form, allow_redirects=False, timeout=60).status_code


@pytest.mark.parametrize("what", list(VARIABLES))
def test_a_taken_port_is_named(tmp_path: Path, what: str) -> None:
    ports = demo_ports()
    with socket.create_server(("127.0.0.1", getattr(ports, what))):
        sentence = refused(variables(ports, tmp_path / "state"))
    assert f"port {getattr(ports, what)}" in sentence
    assert VARIABLES[what] in sentence


def test_a_port_that_is_no_number_is_named(tmp_path: Path) -> None:
    assert "many" in refused({**variables(demo_ports(), tmp_path), "HUBFLEET_PORT": "many"})


def test_a_state_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refused(variables(demo_ports(), tmp_path / "file"))


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    code = (
        f"import sys, shutil, collections; sys.path.insert(0, {str(ROOT / 'examples')!r}); import hub, demo\n"
    )
    code += "hub.shutil.disk_usage = lambda path: collections.namedtuple('usage', 'free')(free=10)\n"
    code += "sys.exit(demo.main())"
    sentence = refused(variables(demo_ports(), tmp_path / "state"), [sys.executable, "-c", code])
    assert "is full" in sentence
    assert len(sentence.splitlines()) == 1


@pytest.mark.parametrize(
    ("log", "sentence"),
    [
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("error: command 'gcc' failed: No such file or directory", "there is no compiler"),
        ("NewConnectionError: Failed to establish a new connection", "cannot be reached"),
        ("something that nobody foresaw", "something that nobody foresaw"),
    ],
)
def test_a_failed_installation_is_explained(tmp_path: Path, log: str, sentence: str) -> None:
    (tmp_path / "log").write_text(f"Collecting things\n{log}\n")
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'examples')!r}); import environment\n"
    code += f"environment.explain({str(tmp_path / 'log')!r}, 'the packages cannot be installed')"
    told = refused(dict(os.environ), [sys.executable, "-c", code])
    assert told.startswith("hubfleet: the packages cannot be installed")
    assert sentence in told


def test_a_too_old_python_is_told_so() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'examples')!r}); import environment\n"
    code += "sys.version_info = (3, 9, 2); sys.argv = ['environment.py', 'demo']; environment.main()"
    assert "Python 3.11 or newer is needed" in refused(dict(os.environ), [sys.executable, "-c", code])

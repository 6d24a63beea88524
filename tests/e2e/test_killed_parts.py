"""Each part of a hub is killed in turn, as a power cut would; a running server stays, and is found again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest
import requests
from hub import Hub
from hubs import is_gone, kill_all, make_hub, running
from person import Person

pytestmark = pytest.mark.long


def eventually(condition: Callable[[], object], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} never came to be"
        time.sleep(0.05)


def server_process(hub: Hub) -> psutil.Process:
    found = []
    for process in running("jupyterhub-singleuser"):
        with suppress(psutil.Error):  # of those of other tests, which come and go
            if str(hub.state) in process.environ().get("MESOS_SANDBOX", ""):
                found.append(process)
    assert len(found) == 1
    return found[0]


def backend_of(hub: Hub) -> list[psutil.Process]:
    """The backend, and the front that replaces it."""
    return running("backend --managed", str(hub.state))


def reachable(hub: Hub, name: str) -> bool:
    try:
        answer = requests.get(f"{hub.url}/user/{name}/api", timeout=60, allow_redirects=False)
        return answer.status_code == 200 and "version" in answer.json()
    except (OSError, ValueError):
        return False


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """The hub whose parts are killed one after the other; the last test ends it."""
    extra = "c.JupyterHub.cleanup_servers = True\nc.Spawner.poll_interval = 1\n"
    hub = make_hub(tmp_path_factory.mktemp("lasting"), extra)
    yield hub
    hub.stop()


@pytest.fixture
def served(lasting: Hub) -> tuple[Hub, Person, psutil.Process]:
    """The hub with one person whose server runs."""
    hub = lasting
    if hub.process is None or hub.process.poll() is not None:
        hub.start()
    person = Person(hub.url, "carol", hub.password)
    person.login()
    if not (person.server() or {}).get("ready"):
        person.start_server()
    eventually(lambda: (person.server() or {}).get("ready"), 240, "the server")
    return hub, person, server_process(hub)


def test_the_backend_killed(served: tuple[Hub, Person, psutil.Process]) -> None:
    hub, person, process = served
    both = backend_of(hub)
    [front] = [each for each in both if each.ppid() not in {other.pid for other in both}]
    [backend] = [each for each in both if each.ppid() == front.pid]
    front.suspend()  # it would replace the backend at once
    backend.kill()
    eventually(lambda: is_gone(backend), 60, "the end of the backend")
    assert not hub.backend_answers()
    assert (person.server() or {}).get("ready"), "unknown is not stopped"
    assert reachable(hub, "carol"), "nobody needs the backend to reach a server that runs"
    front.resume()
    eventually(lambda: hub.backend_answers(), 60, "an answer of the new backend")
    assert server_process(hub).pid == process.pid
    person.stop_server()
    eventually(lambda: is_gone(process), 60, "the end of the server")


def test_the_backend_and_the_service_killed(served: tuple[Hub, Person, psutil.Process]) -> None:
    hub, person, process = served
    kill_all(backend_of(hub))
    # The hub looks after its services every 30 s; meanwhile it polls the server each second.
    eventually(lambda: hub.backend_answers(), 120, "an answer of the new backend")
    assert server_process(hub).pid == process.pid
    assert (person.server() or {}).get("ready")
    person.stop_server()
    eventually(lambda: is_gone(process), 60, "the end of the server")


def test_a_hub_without_its_backend_ends_and_the_next_one_tidies_up(own_hub: Callable[[str], Hub]) -> None:
    hub = own_hub(
        "c.JupyterHub.cleanup_servers = True\n"
        "from hubfleet.spawner import leftovers, stopping\n"
        "c.MarathonSpawner.leftover_grace = stopping.UNANSWERED_SECONDS = 1.0\n"
        "leftovers.LOOK_SECONDS = 0.5\n"
    )
    person = Person(hub.url, "carol", hub.password)
    person.login()
    person.start_server()
    eventually(lambda: (person.server() or {}).get("ready"), 240, "the server")
    process = server_process(hub)
    kill_all(backend_of(hub))
    hub.stop()
    assert hub.process is not None
    assert hub.process.returncode == 0, "it ended by itself"
    assert "is not known to have stopped" in hub.log.read_text()
    assert not is_gone(process)
    hub.start()
    person.login()
    eventually(lambda: is_gone(process), 60, "the end of the server")


def test_the_launcher_killed(served: tuple[Hub, Person, psutil.Process]) -> None:
    hub, person, process = served
    kill_all(running("hubfleet_launcher", str(hub.state)))
    assert reachable(hub, "carol")
    person.stop_server()
    eventually(lambda: is_gone(process), 60, "the end of the server")
    person.start_server()
    eventually(lambda: (person.server() or {}).get("ready"), 240, "another server")
    assert reachable(hub, "carol")


def test_the_hub_killed_and_started_again(served: tuple[Hub, Person, psutil.Process]) -> None:
    hub, person, process = served
    assert hub.process is not None
    os.kill(hub.process.pid, signal.SIGKILL)
    hub.process.wait()
    eventually(lambda: not backend_of(hub), 60, "the end of the killed hub's backend")
    kill_all(running("hubfleet.spawner.proxy", str(hub.ports.proxy_api)))
    hub.start()
    assert not is_gone(process)
    told = hub.log.read_text()
    assert "Allowing to complete in the background" in told, "it waits for no backend that it is to start"
    eventually(lambda: reachable(hub, "carol"), 120, "the route to the server")
    person.login()
    eventually(lambda: (person.server() or {}).get("ready"), 120, "the hub's word on the server")
    person.stop_server()
    eventually(lambda: is_gone(process), 60, "the end of the server")


def test_the_server_killed_comes_back_behind_the_same_route(
    served: tuple[Hub, Person, psutil.Process],
) -> None:
    hub, person, process = served
    process.kill()
    eventually(lambda: is_gone(process), 60, "the end of the server")
    eventually(lambda: reachable(hub, "carol"), 120, "the route to the server's next task")
    assert server_process(hub).pid != process.pid
    person.stop_server()


def test_ctrl_c_ends_everything(served: tuple[Hub, Person, psutil.Process]) -> None:
    hub, _, process = served
    hub.stop()
    eventually(lambda: is_gone(process), 60, "the end of the server")
    eventually(lambda: not running(str(hub.state)), 60, "the end of every process of the hub")
    assert not hub.backend_answers()

"""Clusters in a real hub: they end with their kernel, server and hub, and nobody's token is in any log."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from hub import Hub
from hubs import processes_of
from person import Kernel, Person

pytestmark = pytest.mark.long

CLUSTER = """
import os
from hubfleet.workers import MarathonCluster
cluster = MarathonCluster(n_workers=1, cpus=0.1, lease_seconds=LEASE, silence_logs=False)
client = cluster.get_client()
client.wait_for_workers(1, timeout=110)
assert client.submit(sum, [1, 2]).result(timeout=110) == 3
print(os.getpid())
print(os.environ["JUPYTERHUB_API_TOKEN"])
print(cluster.security.tls_worker_key.splitlines()[1])
"""


def workers(hub: Hub) -> list[int]:
    """The processes of tasks of Dask, whatever has become of their apps."""
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        ours = str(hub.state) in environment.get("MESOS_SANDBOX", "")
        if ours and "/dask/" in environment.get("MARATHON_APP_ID", ""):
            found.append(process.pid)
    return found


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def none_left(hub: Hub) -> None:
    eventually(lambda: not workers(hub))


def start(person: Person) -> None:
    person.start_server()
    eventually(lambda: (person.server() or {}).get("ready"))
    person.open_server()


def begin(person: Person, lease_seconds: int) -> tuple[Kernel, list[str]]:
    kernel = person.start_kernel()
    return kernel, kernel.run(f"LEASE = {lease_seconds}\n{CLUSTER}").split()


def leave(person: Person, hub: Hub) -> set[str]:
    """Begin a cluster in a kernel that goes on without its notebook; return the cluster's secrets."""
    kernel, (_, *secrets) = begin(person, 3600)  # its lease does not end it
    kernel.close()
    assert workers(hub)
    return set(secrets)


def test_clusters_end_with_kernel_server_and_hub_and_no_secret_is_logged(
    own_hub: Callable[[str], Hub],
) -> None:
    hub = own_hub(
        "c.JupyterHub.log_level = 'DEBUG'\nc.Spawner.debug = True\nc.JupyterHub.cleanup_servers = True\n"
        "c.MarathonSpawner.env_keep = ['PATH', 'LANG']\n"
    )
    person = Person(hub.url, "dora", hub.password)
    person.login()
    start(person)
    secrets: set[str] = {hub.backend_token}

    kernel, (pid, token, key) = begin(person, 10)
    secrets |= {token, key}
    assert workers(hub)
    os.kill(int(pid), signal.SIGKILL)
    kernel.close()
    none_left(hub)

    secrets |= leave(person, hub)
    person.stop_server()
    none_left(hub)

    start(person)
    secrets |= leave(person, hub)
    hub.stop()
    none_left(hub)
    eventually(lambda: not processes_of(hub.state))

    logs = {file: file.read_bytes() for file in written_by(hub)}
    assert any(b"DEBUG" in text or b"[D " in text for text in logs.values())
    for secret in secrets:
        assert len(secret) > 16
        assert not [file for file, text in logs.items() if secret.encode() in text]


def written_by(hub: Hub) -> list[Path]:
    """The logs of the hub and its services, and all that is left of what tasks wrote."""
    return [
        file
        for file in hub.state.rglob("*")
        if file.is_file() and (file.suffix == ".log" or file.name in ("stdout", "stderr"))
    ]

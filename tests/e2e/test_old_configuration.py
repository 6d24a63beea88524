"""A configuration written for marathonspawner starts servers as it stands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import RunningBackend
from hub import Hub
from hubs import ADMIN_TOKEN, AdminOf, own_ports

pytestmark = pytest.mark.long

OLD = Path(__file__).with_name("old_jupyterhub_config.py")


class HubBesideItsBackend(Hub):
    """A hub whose backend is none of its services."""

    @property
    def backend_url(self) -> str:
        """Where the backend is."""
        return self.environment["MARATHON_URL"]

    def _wait_for_end_of_backend(self) -> None:
        """It goes on."""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Where the site keeps its users' files."""
    for name in ("alice", "bob"):
        (tmp_path / "site" / "homes" / name).mkdir(parents=True)
    return tmp_path / "site"


@pytest.fixture
def old_hub(backend: RunningBackend, site: Path, tmp_path: Path) -> Iterator[Hub]:
    """The hub of the old configuration; only what would meet others on this machine is said beside it."""
    ports = own_ports()
    hub = HubBesideItsBackend(
        tmp_path / "hub",
        ports,
        configuration=OLD,
        environment={
            "MARATHON_URL": backend.url,
            "HUBFLEET_BACKEND_TOKEN": backend.admin_token,
            "HUB_PORT": str(ports.hub),
            "CULL_TOKEN": ADMIN_TOKEN,
            "SITE": str(site),
        },
        arguments=(
            f"--JupyterHub.bind_url=http://127.0.0.1:{ports.public}",
            f"--JupyterHub.hub_port={ports.hub}",
            f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{ports.proxy_api}",
        ),
    )
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


async def test_an_old_configuration_starts_servers_as_it_stands(
    old_hub: Hub, backend: RunningBackend, site: Path
) -> None:
    admin = AdminOf(old_hub)
    for name in ("alice", "bob"):
        assert admin("POST", f"/users/{name}").status_code == 201
    admin.start("alice")
    admin.start("bob", options={"cpu": "1", "mem": "800", "disk": "1500"})
    assert admin.whoami("alice") == "alice"

    alice = await backend.client.get_app("/notebooks/alice/notebook")
    assert (alice.cpus, alice.mem, alice.disk, alice.gpus) == (0.5, 700, 1000, 0)
    assert alice.constraints == [["hostname", "LIKE", ".+"]]
    assert alice.to_wire()["unreachableStrategy"] == {"inactiveAfterSeconds": 60, "expungeAfterSeconds": 120}
    assert str(alice.env["JUPYTERHUB_API_URL"]) == f"http://127.0.0.1:{old_hub.ports.hub}/hub/api"
    bob = await backend.client.get_app("/notebooks/bob/notebook")
    assert (bob.cpus, bob.mem, bob.disk) == (1, 800, 1500)

    assert alice.container is not None
    assert alice.container.volumes[0].host_path == str(site / "homes" / "alice")

    assert admin("DELETE", "/users/alice/server").status_code in (202, 204)
    deadline = time.monotonic() + 120
    while admin.server_of("alice") is not None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    asked = {"cpu": 64, "mem": 1, "image": "jupyterhub/singleuser:1.0"}
    refused = admin("POST", "/users/alice/server", json=asked)
    assert refused.status_code == 400
    for sentence in ("0.001 to 4", "32 to 8192 MiB", "c.MarathonSpawner.allowed_images"):
        assert sentence in refused.text

    log = old_hub.log.read_text()
    for name in ("hub_ip_connect", "hub_port_connect"):
        assert log.count(f"c.MarathonSpawner.{name} is deprecated") == 1
    assert admin("DELETE", "/users/bob/server").status_code in (202, 204)

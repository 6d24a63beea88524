"""A hub whose backend asks for its certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from certified import asking_for_certificates, authority, relaying

from hubfleet.spawner.link import close_links


async def test_a_backend_that_asks_for_certificates(hub: Any, backend: Any, tmp_path: Path) -> None:
    ours = authority(tmp_path / "ours")
    certificate, key = ours.issue("hub")
    async with relaying(backend.port, asking_for_certificates(ours)) as port:
        configuration = hub.config.MarathonSpawner
        configuration.marathon_host = f"https://127.0.0.1:{port}"
        configuration.marathon_verify = ours.file
        configuration.marathon_client_cert = certificate
        configuration.marathon_client_key = key
        user = hub.user("alice")
        await user.spawn()
        told = await hub.ask(user.spawner.server.url)
        assert told["env"]["JUPYTERHUB_USER"] == "alice"
        shown = str(told["env"]) + str(await backend.client.get_app("/jupyter/alice/notebook"))
        assert certificate not in shown
        assert key not in shown
        await user.stop()
        assert await hub.nothing_left(backend)
        await close_links()
        # Without it the backend is not reached, which the user reads.
        configuration.marathon_client_cert = configuration.marathon_client_key = ""
        stranger = hub.user("bob")
        with pytest.raises(Exception, match="cannot be reached"):
            await stranger.spawn()
        await close_links()


def test_a_key_without_its_certificate_is_named(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", marathon_client_key="/etc/hub.key")
    with pytest.raises(ValueError, match="of which there is none"):
        spawner._link()

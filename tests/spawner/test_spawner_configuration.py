"""What an administrator configures and a user may ask for, as it reaches the app."""

from __future__ import annotations

from typing import Any

import pytest

from hubfleet.api import environment
from hubfleet.spawner.errors import StartRefused


async def test_options_are_checked_at_start_whatever_way_they_came(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    with pytest.raises(StartRefused, match=r"asks for 9999; allowed is 0\.001 to 2") as refused:
        await user.spawn(options={"cpu": 9999, "image": "evil/root"})
    assert refused.value.reason == "options"
    assert refused.value.status_code == 400
    assert refused.value.jupyterhub_message == refused.value.message
    assert "evil/root" in refused.value.message
    assert await hub.nothing_left(backend)


async def test_a_message_cannot_carry_html_to_a_page(small_hub: Any) -> None:
    refusal = StartRefused("<script>'", reason="options")
    assert refusal.jupyterhub_html_message == "&lt;script&gt;&#x27;"
    assert refusal.jupyterhub_message == "<script>'"


@pytest.mark.parametrize(
    ("configuration", "options", "cpus", "mem"),
    [
        ({}, {}, 1, 1024),
        ({"cpu": 1.5, "mem": 2000}, {}, 1.5, 2000),
        ({"mem": 2000}, {"mem": 4000, "cpu": 2}, 2, 4000),
        ({"mem_limit": "8G", "cpu_limit": 3}, {}, 3, 8192),
        ({"mem_limit": "8G"}, {"mem": 8000}, 1, 8000),
        ({"mem_guarantee": "2G", "cpu_guarantee": 1.5}, {}, 1.5, 2048),
        ({"mem_guarantee": "2G", "mem_limit": "3G"}, {}, 1, 3072),
    ],
)
async def test_limits_go_before_defaults(
    small_hub: Any, configuration: dict[str, Any], options: dict[str, Any], cpus: float, mem: float
) -> None:
    app = small_hub.spawner("alice", user_options=options, **configuration).build_app()
    assert (app.cpus, app.mem) == (cpus, mem)


@pytest.mark.parametrize(
    ("configuration", "options"),
    [
        ({"mem_limit": "1G"}, {"mem": 1025}),
        ({"cpu_limit": 0.5}, {"cpu": 1}),
        ({"mem_guarantee": "2G"}, {"mem": 1024}),
        ({"max_gpu": 1}, {"gpu": 2}),
    ],
)
async def test_a_limit_bounds_what_is_asked(
    small_hub: Any, configuration: dict[str, Any], options: dict[str, Any]
) -> None:
    with pytest.raises(StartRefused, match="allowed is"):
        small_hub.spawner("alice", user_options=options, **configuration).build_app()


async def test_the_memory_that_a_server_believes_in_is_what_it_got(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", mem_limit="4G", user_options={"mem": 1000})
    assert spawner.build_app().env["MEM_LIMIT"] == str(1000 * 2**20)


def test_the_hub_finds_the_spawner_by_its_short_name() -> None:
    from jupyterhub.app import JupyterHub

    from hubfleet.spawner import MarathonSpawner

    assert JupyterHub(spawner_class="marathon").spawner_class is MarathonSpawner


async def test_no_address_is_said_as_what_it_is(small_hub: Any) -> None:
    small_hub.config.MarathonSpawner.marathon_host = ""
    user = small_hub.user("alice")
    with pytest.raises(StartRefused, match="address of the Marathon API is missing") as refused:
        await user.spawn()
    assert refused.value.reason == "configuration"
    assert await user.spawner.poll() is not None


async def test_the_deprecated_hub_address_still_acts(
    small_hub: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spawner = small_hub.spawner("alice", hub_ip_connect="10.1.2.3", hub_port_connect=8888)
    assert spawner.get_env()["JUPYTERHUB_API_URL"].startswith("http://10.1.2.3:8888/")
    kept = small_hub.spawner("bob", hub_ip_connect="10.1.2.3", hub_connect_url="http://hub:1")
    assert kept.get_env()["JUPYTERHUB_API_URL"].startswith("http://hub:1/")


async def test_directories_are_safe_and_the_administrator_has_the_last_word(small_hub: Any) -> None:
    spawner = small_hub.spawner("..", home_dir="/srv/{username}", notebook_dir="/data/{username}/work")
    env = spawner.build_app().env
    assert ".." not in str(env["HOME"]) + str(env["JUPYTERHUB_ROOT_DIR"])
    spawner.environment = {"HOME": "/elsewhere", environment.BACKEND_URL: "http://other"}
    env = spawner.build_app().env
    assert (env["HOME"], env[environment.BACKEND_URL]) == ("/elsewhere", "http://other")


async def test_an_old_volume_function_is_asked(small_hub: Any) -> None:
    spawner = small_hub.spawner(
        "alice",
        volumes=[{"containerPath": "/home", "hostPath": "/srv/{username}", "mode": "RW"}],
        format_volume_name=lambda template, spawner: f"{template} for {spawner.user.name}",
    )
    container = spawner.build_app().container
    assert container.volumes[0].host_path == "/srv/{username} for alice"


async def test_the_mark_of_a_hub_outlives_it_and_is_no_other_hubs(small_hub: Any) -> None:
    mark = small_hub.spawner("alice").hub_id
    assert mark == small_hub.spawner("bob").hub_id
    small_hub.settings["cookie_secret"] = b"t" * 32
    assert small_hub.spawner("carol").hub_id != mark

"""The old marathonspawner's traits: each has its name, its default, and what it meant."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from typing import Any

import pytest

from hubfleet.spawner import MarathonSpawner, deprecated
from hubfleet.spawner.errors import StartRefused

DEFAULTS = {
    "app_image": "",  # was jupyterhub/singleuser:<version>, for which the process driver has no use
    "app_prefix": "jupyter",
    "marathon_host": "",
    "marathon_constraints": [],
    "unreachable_strategy": None,
    "volumes": [],
    "max_cpu": 2,
    "cpu": 1,
    "max_mem": 4096,
    "mem": 1024,
    "max_disk": 20000,
    "disk": None,  # 5000 with an image, and none without
    "max_gpu": 0,
    "gpu": 0,
    "mesos_user": None,
    "autotimeout": None,
    "hub_ip_connect": "",
    "hub_port_connect": 0,
    "ports": [],  # in a container 8888, as it was
    "network_mode": "HOST",
}


def test_each_trait_is_there_explains_itself_and_has_its_default(small_hub: Any) -> None:
    del small_hub.config.MarathonSpawner["marathon_host"]
    spawner = small_hub.spawner("alice")
    assert {name: getattr(spawner, name) for name in DEFAULTS} == DEFAULTS
    traits = MarathonSpawner.class_traits(config=True)
    assert all(traits[name].help.strip() for name in [*DEFAULTS, "format_volume_name"])


@pytest.mark.parametrize(
    ("configuration", "path", "value"),
    [
        ({"app_image": "x"}, ("container", "docker", "image"), "x"),
        ({"app_image": "x"}, ("container", "type"), "MESOS"),
        ({"app_image": "x"}, ("disk",), 5000),
        ({"app_prefix": "notebooks"}, ("id",), "/notebooks/alice/notebook"),
        ({"marathon_constraints": [["rack", "GROUP_BY", 2]]}, ("constraints",), [["rack", "GROUP_BY", "2"]]),
        ({"unreachable_strategy": "disabled"}, ("unreachableStrategy",), "disabled"),
        (
            {"volumes": [{"containerPath": "/w", "hostPath": "/srv/{username}", "mode": "RO"}]},
            ("container", "volumes", 0, "hostPath"),
            "/srv/alice",
        ),
        ({"cpu": 0.5}, ("cpus",), 0.5),
        ({"mem": 300}, ("mem",), 300),
        ({"disk": 2000}, ("disk",), 2000),
        ({"gpu": 1, "max_gpu": 1}, ("gpus",), 1),
        ({"mesos_user": "nobody"}, ("user",), "nobody"),
        ({"mesos_user": "{username}"}, ("user",), "alice"),
        ({"network_mode": "HOST"}, ("networks",), [{"mode": "host"}]),
        ({"network_mode": "BRIDGE"}, ("container", "portMappings", 0, "containerPort"), 8888),
        ({"ports": [7777]}, ("container", "portMappings", 0, "containerPort"), 7777),
        ({}, ("portDefinitions", 0, "port"), 0),
        ({}, ("healthChecks", 0, "gracePeriodSeconds"), 300),
        ({}, ("healthChecks", 0, "timeoutSeconds"), 20),
        ({}, ("healthChecks", 0, "maxConsecutiveFailures"), 0),
    ],
)
def test_each_trait_reaches_the_app(
    small_hub: Any, configuration: dict[str, Any], path: tuple[Any, ...], value: Any
) -> None:
    found = small_hub.spawner("alice", **configuration).build_app().to_wire()
    for step in path:
        found = found[step]
    assert found == value


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cpu": 0.0001}, "0.001 to 2"),
        ({"cpu": 3}, "0.001 to 2"),
        ({"mem": 31}, "32 to 4096 MiB"),
        ({"mem": 4097}, "32 to 4096 MiB"),
        ({"disk": 999}, "1000 to 20000 MiB"),
        ({"disk": 20001}, "1000 to 20000 MiB"),
        ({"gpu": 1}, "'gpu' asks for 1"),
    ],
)
def test_what_a_user_asks_is_bounded_at_the_start(small_hub: Any, options: dict[str, Any], said: str) -> None:
    with pytest.raises(StartRefused, match=said):
        small_hub.spawner("alice", user_options=options, app_image="x").build_app()


def test_several_addresses_of_marathon_are_a_list_or_separated_by_commas(small_hub: Any) -> None:
    for value in ("http://a:1,http://b:2", ["http://a:1", "http://b:2"]):
        env = small_hub.spawner("alice", marathon_host=value).build_app().env
        assert env["HUBFLEET_URL"] == "http://a:1,http://b:2"


def test_inactivity_is_counted_over_days_and_in_utc(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice")
    ago = timedelta(days=3, seconds=5)
    spawner.orm_spawner.last_activity = (datetime.now(UTC) - ago).replace(tzinfo=None)
    assert 0 <= spawner._idle_seconds() - ago.total_seconds() < 60


def test_the_hubs_address_is_deprecated_and_says_so_once(
    small_hub: Any, caplog: pytest.LogCaptureFixture
) -> None:
    deprecated.forget_all()
    small_hub.config.MarathonSpawner.update({"hub_ip_connect": "::1", "hub_port_connect": 8888})
    with caplog.at_level(logging.WARNING):
        spawners = [small_hub.spawner(name) for name in ("alice", "bob", "carol")]
    for spawner in spawners:
        assert spawner.get_env()["JUPYTERHUB_API_URL"].startswith("http://[::1]:8888/")
    said = [record.getMessage() for record in caplog.records if "is deprecated" in record.getMessage()]
    assert sorted(said) == [
        "c.MarathonSpawner.hub_ip_connect is deprecated; set c.JupyterHub.hub_connect_url instead",
        "c.MarathonSpawner.hub_port_connect is deprecated; set c.JupyterHub.hub_connect_url instead",
    ]


def test_the_old_default_of_the_hubs_port_means_none(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", hub_ip_connect="10.0.0.1", hub_port_connect=-1)
    port = small_hub.settings["hub"].port
    assert spawner.get_env()["JUPYTERHUB_API_URL"].startswith(f"http://10.0.0.1:{port}/")


def test_the_old_name_of_the_class_is_ours() -> None:
    (point,) = entry_points(group="jupyterhub.spawners", name="marathonspawner.marathonspawner")
    assert point.load() is MarathonSpawner

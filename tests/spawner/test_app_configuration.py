"""Each trait of JupyterHub's Spawner and of ours that says something about the app says it there."""

from __future__ import annotations

from typing import Any

import pytest

from hubfleet.api import labels
from hubfleet.spawner.errors import StartRefused


def built(small_hub: Any, name: str = "alice", server: str = "", **configuration: Any) -> dict[str, Any]:
    wire: dict[str, Any] = small_hub.spawner(name, server, **configuration).build_app().to_wire()
    return wire


# -- what JupyterHub's own traits become -----------------------------------------------------


def test_command_and_arguments_are_one_line(small_hub: Any) -> None:
    wire = built(small_hub, cmd=["my server"], args=["--debug", "$HOME"], ip="10.0.0.1")
    assert wire["cmd"] == "exec 'my server' --debug '$HOME' --ip=10.0.0.1 --port=$PORT0"


def test_a_line_of_the_old_spawner_is_left_as_it_is(small_hub: Any) -> None:
    assert built(small_hub, cmd="jupyter labhub --port $PORT0")["cmd"] == "jupyter labhub --port $PORT0"


def test_the_environment_is_the_hubs_own_with_the_administrators_last_word(
    small_hub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEPT_FOR_THE_TEST", "kept")
    monkeypatch.setenv("JUPYTERHUB_SINGLEUSER_APP", "jupyter_server.serverapp.ServerApp")
    spawner = small_hub.spawner(
        "alice",
        "second",
        env_keep=["KEPT_FOR_THE_TEST", "JUPYTERHUB_SINGLEUSER_APP"],
        environment={
            "FIXED": "1",
            "CALLED": lambda spawner: f"for {spawner.user.name}",
            "JUPYTERHUB_DEBUG": "mine",
            "NUMBER": 7,
            "ABSENT": None,
            "FROM_STORE": {"secret": "database"},
        },
        secrets={"database": {"source": "/jupyter/{username}/db"}},
        debug=True,
        disable_user_config=True,
        default_url="/lab/{username}",
        notebook_dir="/data/{username}",
        hub_connect_url="http://hub.example.org:8081",
    )
    wire = spawner.build_app().to_wire()
    env = wire["env"]
    assert env["KEPT_FOR_THE_TEST"] == "kept"
    assert env["JUPYTERHUB_SINGLEUSER_APP"] == "jupyter_server.serverapp.ServerApp"
    assert env["CALLED"] == "for alice"
    assert env["JUPYTERHUB_DEBUG"] == "mine"
    assert env["NUMBER"] == "7"
    assert "ABSENT" not in env
    assert env["FROM_STORE"] == {"secret": "database"}
    assert wire["secrets"] == {"database": {"source": "/jupyter/alice/db"}}
    assert env["JUPYTERHUB_DISABLE_USER_CONFIG"] == "1"
    assert env["JUPYTERHUB_DEFAULT_URL"] == "/lab/alice"
    assert env["JUPYTERHUB_ROOT_DIR"] == "/data/alice"
    assert env["JUPYTERHUB_API_URL"].startswith("http://hub.example.org:8081/")
    assert env["JUPYTERHUB_SERVER_NAME"] == "second"
    assert env["JUPYTERHUB_USER"] == "alice"


def test_a_guarantee_and_a_limit_are_told_to_the_server(small_hub: Any) -> None:
    env = built(small_hub, mem_guarantee="1G", mem_limit="2G", cpu_guarantee=0.5, cpu_limit=2)["env"]
    assert (env["MEM_GUARANTEE"], env["MEM_LIMIT"]) == (str(2**30), str(2 * 2**30))
    assert (float(env["CPU_GUARANTEE"]), float(env["CPU_LIMIT"])) == (0.5, 2)


# -- networks --------------------------------------------------------------------------------


def test_on_the_hosts_network_the_scheduler_gives_the_port(small_hub: Any) -> None:
    wire = built(small_hub)
    assert wire["networks"] == [{"mode": "host"}]
    assert wire["portDefinitions"] == [{"port": 0, "protocol": "tcp", "name": "notebook"}]
    assert wire["requirePorts"] is False
    assert "container" not in wire


def test_a_fixed_port_of_the_host_is_demanded(small_hub: Any) -> None:
    wire = built(small_hub, port=8900)
    assert wire["portDefinitions"][0]["port"] == 8900
    assert wire["requirePorts"] is True
    assert wire["cmd"].endswith("--port=8900")


@pytest.mark.parametrize(
    ("configuration", "listens"),
    [
        ({"network_mode": "BRIDGE"}, 8888),
        ({"network_mode": "bridge", "port": 9000}, 9000),
        ({"ports": [8000, 22]}, 8000),
    ],
)
def test_in_a_bridged_container_the_port_is_fixed_and_mapped(
    small_hub: Any, configuration: dict[str, Any], listens: int
) -> None:
    wire = built(small_hub, app_image="x", container_type="docker", **configuration)
    assert wire["networks"] == [{"mode": "container/bridge"}]
    assert "portDefinitions" not in wire
    assert wire["container"]["type"] == "DOCKER"
    mappings = wire["container"]["portMappings"]
    assert (mappings[0]["containerPort"], mappings[0]["hostPort"], mappings[0]["name"]) == (
        listens,
        0,
        "notebook",
    )
    assert [mapping["containerPort"] for mapping in mappings[1:]] == configuration.get("ports", [])[1:]
    assert wire["cmd"].endswith(f"--port={listens}")
    assert f":{listens}/" in wire["env"]["JUPYTERHUB_SERVICE_URL"]


def test_a_containers_network_has_a_name(small_hub: Any) -> None:
    wire = built(small_hub, network_mode="USER", network_name="dcos", app_image="x")
    assert wire["networks"] == [{"mode": "container", "name": "dcos"}]
    with pytest.raises(StartRefused, match="network_name is missing"):
        built(small_hub, network_mode="CONTAINER")


def test_further_ports_have_names(small_hub: Any) -> None:
    wanted = {"scheduler": 0, "dashboard": 8787}
    wire = built(small_hub, extra_ports=wanted)
    assert {each["name"]: each["port"] for each in wire["portDefinitions"]} == {"notebook": 0, **wanted}
    assert wire["requirePorts"] is True
    wire = built(small_hub, extra_ports=wanted, network_mode="BRIDGE", app_image="x")
    assert [each["name"] for each in wire["container"]["portMappings"]] == ["notebook", *wanted]
    with pytest.raises(StartRefused, match="cannot have the name 'notebook'"):
        built(small_hub, extra_ports={"notebook": 1})


# -- the rest of the app ---------------------------------------------------------------------


def test_every_kind_of_volume_is_passed_on(small_hub: Any) -> None:
    volumes = [
        {"containerPath": "/home", "hostPath": "/srv/{user_server}", "mode": "RW"},
        {"containerPath": "data", "persistent": {"size": 512}, "mode": "RW"},
        {
            "containerPath": "/mnt",
            "external": {"name": "v-{username}", "provider": "dvdi", "options": {"dvdi/driver": "rexray"}},
            "mode": "RW",
        },
        {"containerPath": "/key", "secret": "ssh"},
    ]
    wire = built(small_hub, "Bob/1", "x", volumes=volumes, secrets={"ssh": {"source": "/{username}/ssh"}})
    host, persistent, external, secret = wire["container"]["volumes"]
    assert host["hostPath"].startswith("/srv/bob-1-")
    assert persistent["persistent"]["size"] == 512
    assert external["external"]["name"].startswith("v-bob-1--x-")
    assert secret["secret"] == "ssh"
    assert wire["secrets"]["ssh"]["source"].count("/") == 2


def test_labels_fetch_and_checks_are_passed_on(small_hub: Any) -> None:
    wire = built(
        small_hub,
        "a/b",
        app_labels={"owner": "{username}", labels.USER: "bob"},
        fetch=["https://e.org/{username}/x.tar", {"uri": "https://e.org/y", "extract": False}],
        readiness_checks=[{"portName": "notebook"}],
        upgrade_strategy={"minimumHealthCapacity": 0.5},
        unreachable_strategy="disabled",
        health_check_interval=5,
        health_check_timeout=3,
        health_check_grace=60,
        health_check_failures=4,
    )
    assert wire["labels"]["owner"] == "a/b"
    assert wire["labels"][labels.USER] == "a/b"
    assert wire["fetch"][0]["uri"].count("/") == 4
    assert wire["fetch"][1] == {
        "uri": "https://e.org/y",
        "extract": False,
        "executable": False,
        "cache": False,
    }
    assert wire["readinessChecks"][0]["portName"] == "notebook"
    assert wire["upgradeStrategy"]["minimumHealthCapacity"] == 0.5
    assert wire["unreachableStrategy"] == "disabled"
    (check,) = wire["healthChecks"]
    assert (check["intervalSeconds"], check["timeoutSeconds"]) == (5, 3)
    assert (check["gracePeriodSeconds"], check["maxConsecutiveFailures"]) == (60, 4)
    assert "healthChecks" not in built(small_hub, "carol", health_checks=[])
    (check,) = built(small_hub, "dave", health_checks=[{"protocol": "TCP", "portIndex": 0}])["healthChecks"]
    assert check["protocol"] == "TCP"


def test_a_user_called_root_is_not_root(small_hub: Any) -> None:
    with pytest.raises(StartRefused, match="runs as root only if"):
        built(small_hub, "root", mesos_user="{username}")
    assert built(small_hub, "root", mesos_user="root")["user"] == "root"
    assert built(small_hub, "alice", mesos_user="{username}")["user"] == "alice"


@pytest.mark.parametrize(
    "configuration",
    [
        {"home_dir": "/srv/{nobody_knows}"},
        {"volumes": [{"containerPath": "/x", "hostPath": "{0}", "mode": "RW"}]},
        {"app_labels": {"a": "{username"}},
        {"fetch": [{"extract": True}]},
        {"health_checks": [{"protocol": "SMOKE"}]},
        {"upgrade_strategy": {"minimumHealthCapacity": 7}},
    ],
)
def test_a_configuration_that_makes_no_app_says_so_and_shows_no_values(
    small_hub: Any, configuration: dict[str, Any]
) -> None:
    with pytest.raises(StartRefused, match="The hub's configuration makes no server") as refused:
        built(small_hub, environment={"TOKEN": "a-secret"}, **configuration)
    assert refused.value.reason == "configuration"
    assert "a-secret" not in refused.value.message


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ({"network_mode": "BRIDGE"}, "knows only the host's own network"),
        ({"app_image": "jupyterhub/singleuser"}, "runs commands of this machine and no images"),
    ],
)
async def test_what_a_driver_cannot_do_reaches_the_user_as_its_sentence(
    hub: Any, configuration: dict[str, Any], said: str
) -> None:
    hub.config.MarathonSpawner.update(configuration)
    with pytest.raises(StartRefused, match=said) as refused:
        await hub.user("alice").spawn()
    assert refused.value.reason == "backend-refused"


async def test_a_server_is_told_its_further_ports(hub: Any) -> None:
    hub.config.MarathonSpawner.extra_ports = {"scheduler": 0}
    user = hub.user("alice")
    await user.spawn()
    env = (await hub.ask(user.spawner.server.url))["env"]
    assert int(env["PORT_SCHEDULER"]) not in {0, int(env["PORT0"])}

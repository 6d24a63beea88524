"""`hubfleet app preview` prints what would be submitted, with no hub and no backend in sight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from hubfleet.spawner.cli import app

CONFIGURATION = """
c.JupyterHub.spawner_class = "marathon"
c.JupyterHub.hub_bind_url = "http://127.0.0.1:9999"
c.JupyterHub.base_url = "/site/"
c.MarathonSpawner.marathon_host = "http://no.such.backend:1"
c.MarathonSpawner.home_dir = "/srv/{username}"
c.Spawner.group_overrides = {"rich": {"groups": ["rich"], "spawner_override": {"max_cpu": 16.0}}}

async def hook(spawner, app):
    app.labels["hooked"] = spawner.user.name

def never(spawner):
    raise AssertionError("this acts on the world")

c.MarathonSpawner.modify_app_hook = hook
c.Spawner.pre_spawn_hook = never
"""


@pytest.fixture
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "jupyterhub_config.py"
    file.write_text(CONFIGURATION)
    return file


def preview(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["preview", *arguments])


def shown(*arguments: str) -> dict[str, Any]:
    result = preview(*arguments)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_app_is_printed_as_it_would_be_submitted(configuration: Path) -> None:
    found = shown("--user", "alice", "--server", "second", "--option", "cpu=1.5", "--option", "mem=2000")
    assert found["id"] == "/jupyter/alice/servers/second"
    assert (found["cpus"], found["mem"]) == (1.5, 2000)
    assert found["labels"]["hooked"] == "alice"
    assert found["healthChecks"][0]["path"] == "/site/user/alice/second/api"
    env = found["env"]
    assert env["JUPYTERHUB_API_URL"] == "http://127.0.0.1:9999/site/hub/api"
    assert env["JUPYTERHUB_SERVICE_PREFIX"] == "/site/user/alice/second/"
    assert env["HOME"] == "/srv/alice"
    assert env["JUPYTERHUB_API_TOKEN"].startswith("<")
    assert sorted(path.name for path in configuration.parent.iterdir()) == ["jupyterhub_config.py"]


def test_the_mark_is_the_running_hubs_if_its_secret_can_be_read(configuration: Path) -> None:
    assert shown("--user", "alice")["labels"]["HUBFLEET_HUB"].startswith("<")
    secret = configuration.parent / "jupyterhub_cookie_secret"
    secret.touch(mode=0o600)
    secret.write_text("ab" * 32)
    assert len(shown("--user", "alice")["labels"]["HUBFLEET_HUB"]) == 16


def test_what_the_hub_would_refuse_is_refused_in_its_words(configuration: Path) -> None:
    result = preview("--user", "alice", "--option", "cpu=8")
    assert result.exit_code == 1
    assert "'cpu' asks for 8; allowed is 0.001 to 2." in result.output


def test_the_limits_of_a_group_count(configuration: Path) -> None:
    assert shown("--user", "alice", "--group", "rich", "--option", "cpu=8")["cpus"] == 8


def test_internal_ssl_is_shown_without_certificates(configuration: Path) -> None:
    configuration.write_text(CONFIGURATION + "c.JupyterHub.internal_ssl = True\n")
    found = shown("--user", "alice")
    assert found["env"]["HUBFLEET_TLS_KEY"] == "<key of this start>"
    assert found["healthChecks"][0]["protocol"] == "TCP"


def test_another_spawner_has_no_apps(configuration: Path) -> None:
    configuration.write_text('c.JupyterHub.spawner_class = "simple"\n')
    result = preview("--user", "alice")
    assert result.exit_code == 1
    assert 'set c.JupyterHub.spawner_class = "marathon"' in result.output


@pytest.mark.parametrize("option", ["cpu", "=2"])
def test_an_option_has_a_name_and_a_value(configuration: Path, option: str) -> None:
    result = preview("--user", "alice", "--option", option)
    assert result.exit_code == 2
    assert "NAME=VALUE" in result.output

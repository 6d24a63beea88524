"""The backend's settings: a file of them, the command line above it, and what is said of mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hubfleet.backend import config_file
from hubfleet.backend.config import Backend
from hubfleet.backend.config_file import ConfigurationError

COMMAND = [sys.executable, "-m", "hubfleet.api.cli", "backend"]
DEFAULTS = Backend().trait_values(config=True)


def file_of(folder: Path, text: str) -> Path:
    file = folder / "backend_config.py"
    file.write_text(f"c = get_config()\n{text}\n")
    return file


def test_the_file_says_and_the_command_line_has_the_last_word(tmp_path: Path) -> None:
    text = "import os\nc.Backend.cpus = 4 * 2\nc.Backend.ports = '2000-3000'\nc.Backend.hostname = os.sep"
    found = config_file.read(file_of(tmp_path, text), {"cpus": 3.0})
    assert (found.cpus, found.ports, found.hostname, found.port) == (3.0, (2000, 3000), "/", 8090)


def test_a_list_may_be_added_to(tmp_path: Path) -> None:
    assert config_file.read(file_of(tmp_path, "c.Backend.admin_tokens.append('t')"), {}).admin_tokens == ["t"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("c.Backend.prot = 1", "there is no setting c.Backend.prot; did you mean c.Backend.port?"),
        ("c.Backend.zzz = 1", "there is no setting c.Backend.zzz; there are accounts, admin_tokens"),
        ("c.Backned.port = 1", "there is no section c.Backned; the settings are c.Backend.<name>"),
        ("c.Backend.port = '1'", "'port' trait of a Backend instance expected an int"),
        ("c.Backend.port = 65536", "'port' trait of a Backend instance should not be greater than 65535"),
        ("c.Backend.cpus = 0", "'cpus' trait of a Backend instance should not be less than 0.001"),
        ("c.Backend.accounts = 'all'", "expected any of ['server', 'shared'], not the str 'all'"),
        ("c.Backend.ports = (9, 1)", "(9, 1) is no range of ports"),
        ("c.Backend.ports = [0, 2]", "no range of ports"),
        ("c.Backend.port.append(1)", "read before it is set, or changed as if it were a list"),
        ("c.Backend.hub_api_url = 'http://hub:8081'", "'http://127.0.0.1:8081/hub/api', with the path"),
        ("c.Backend.hub_api_url = 'hub/api'", "is the address of a hub's API"),
        ("c.Backend.hub_api_url = 8081", "is the address of a hub's API"),
        ("c.Backend.user_quota = 3", "c.Backend.user_quota is a dictionary, not 3"),
        ("c.Backend.app_quota = {'cpu': 3}", "limits instances, cpus, mem, gpus, not 'cpu'"),
        (
            "c.Backend.user_quota = {'cpus': -1}",
            "c.Backend.user_quota['cpus'] is a number that is not negative",
        ),
        (
            "c.Backend.group_quotas = {'g': {'cpus': 1}}",
            "['g'] has limits for 'user' and 'app', not for 'cpus'",
        ),
        ("c.Backend.user_quotas = {'u': {'app': {'mem': '1'}}}", "['u']['app']['mem'] is a number"),
        ("\n1 / 0", "line 3: ZeroDivisionError"),
        ("c.Backend.port =", "line 2: SyntaxError"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_name(tmp_path: Path, text: str, sentence: str) -> None:
    file = file_of(tmp_path, text)
    with pytest.raises(ConfigurationError) as refusal:
        config_file.read(file, {})
    assert str(file) in str(refusal.value)
    assert sentence in str(refusal.value)


@pytest.mark.parametrize("place", ["nowhere.py", "."])
def test_a_file_that_is_not_there_is_not_passed_over(tmp_path: Path, place: str) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        config_file.read(tmp_path / place, {})


def test_the_printed_configuration_names_every_setting_and_can_be_used(tmp_path: Path) -> None:
    printed = subprocess.run([*COMMAND, "config"], capture_output=True, text=True, timeout=60, check=True)
    file = tmp_path / "printed.py"
    file.write_text(printed.stdout)
    assert config_file.read(file, {}).trait_values(config=True) == DEFAULTS
    # With its defaults in force as well.
    file.write_text(printed.stdout.replace("\n# c.", "\nc."))
    assert config_file.read(file, {}).trait_values(config=True) == DEFAULTS
    for name in Backend.class_trait_names(config=True):
        assert f"\n# c.Backend.{name} = " in printed.stdout


@pytest.mark.parametrize("name", Backend.class_trait_names(config=True))
def test_the_help_of_a_setting_stands_alone(name: str) -> None:
    first, blank, *rest = Backend.class_traits()[name].help.splitlines()
    assert first.endswith(".")
    assert blank == ""
    assert any(line.strip().startswith(f"c.Backend.{name}") for line in rest), "an example"


def test_a_mistake_is_one_sentence_on_the_command_line(tmp_path: Path) -> None:
    file = file_of(tmp_path, "c.Backend.prot = 1")
    refused = subprocess.run([*COMMAND, f"--config={file}"], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "did you mean c.Backend.port?" in refused.stderr
    assert "Traceback" not in refused.stderr

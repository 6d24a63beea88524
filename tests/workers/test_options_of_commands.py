"""daskathon's options: those that are kept, those that are gone, and what becomes of odd ones."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from distributed import Security

from hubfleet.workers import connecting
from hubfleet.workers.cli import workers
from hubfleet.workers.options_of_commands import command_line, worker_arguments
from hubfleet.workers.running import standing

DASKATHON = {
    "name": "x",
    "worker_cpus": 2.0,
    "worker_mem": 1024.0,
    "nworkers": 3,
    "nprocs": 2,
    "nthreads": 0,
    "docker": "an/image",
    "maximum": None,
    "volumes": ("/data:/mnt:ro",),
    "constraints": ("hostname:UNIQUE", "rack:LIKE:a:b"),
    "labels": ("team:a",),
    "adaptive": True,
    "no_tls": False,
}


def test_the_options_say_what_a_worker_is() -> None:
    assert worker_arguments(DASKATHON) == {
        "cpus": 2.0,
        "mem": 1024.0,
        "nworkers": 2,
        "nanny": True,
        "nthreads": 1,
        "image": "an/image",
        "volumes": ["/data:/mnt:ro"],
        "constraints": [["hostname", "UNIQUE"], ["rack", "LIKE", "a:b"]],
        "labels": {"team": "a"},
    }


def test_a_deployed_scheduler_is_told_the_same() -> None:
    """Whatever is in a value, it is one word for the shell."""
    evil = {**DASKATHON, "labels": ("a:$(touch /tmp/x); echo 'b'",)}
    words = shlex.split(" ".join(command_line(evil)))
    assert words[words.index("--label") + 1] == "a:$(touch /tmp/x); echo 'b'"
    ended = CliRunner().invoke(workers, ["run", "--help"])
    assert all(word in ended.output for word in words if word.startswith("--"))


@pytest.mark.parametrize("command", ["run", "deploy"])
@pytest.mark.parametrize(
    ("option", "new_way"),
    [
        ("--uri", "--volume"),
        ("--maximum-over-capacity", "end the cluster"),
        ("--minimum-health-capacity", "end the cluster"),
    ],
)
def test_an_option_that_is_gone_names_the_new_way(command: str, option: str, new_way: str) -> None:
    ended = CliRunner().invoke(workers, [command, option, "0.5", "http://127.0.0.1:1"])
    assert ended.exit_code == 2
    assert f"{option} is gone" in ended.output
    assert new_way in ended.output


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--label", "no-colon"], "--label needs KEY:VALUE, got 'no-colon'"),
        (["--maximum", "3"], "--maximum needs --adaptive"),
        (["--token-file", "/no/such/file"], "cannot be read"),
        (["--worker-mem", "1"], "mem must be a number of MiB, at least 128"),
        (["--volume", "nowhere"], "volumes must be a list such as"),
        (["--constraint", "alone"], "constraints must be a list"),
        (["--adaptive", "--nworkers", "4", "--maximum", "2"], "--maximum must not be less than --nworkers"),
    ],
)
def test_an_odd_option_is_refused_in_a_sentence(words: list[str], sentence: str) -> None:
    ended = CliRunner().invoke(workers, ["run", "--group", "/dask", *words, "http://127.0.0.1:1"])
    assert ended.exit_code in (1, 2)
    assert sentence in ended.output
    assert "Traceback" not in ended.output


def test_no_option_takes_a_token() -> None:
    ended = CliRunner().invoke(workers, ["run", "--token", "secret", "http://127.0.0.1:1"])
    assert ended.exit_code == 2
    assert "No such option" in ended.output


@pytest.mark.parametrize(
    ("working", "wanted", "line"),
    [
        (0, {}, "workers    0 of 0"),
        (1, {"a": "TASK_RUNNING"}, "workers    1 of 1"),
        (1, {"a": "TASK_RUNNING", "b": "TASK_STAGING", "waiting-0": "WAITING"},
         "workers    1 of 3 (1 starting, 1 waiting)"),
    ],
)  # fmt: skip
def test_the_progress_line_says_what_becomes_of_the_others(
    working: int, wanted: dict[str, str], line: str
) -> None:
    assert standing(working, wanted) == line


def test_a_link_laid_in_the_files_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    file = tmp_path / "x.yaml"
    file.symlink_to(victim)
    connecting.write(file, "tls://127.0.0.1:1", Security.temporary())
    assert victim.read_text() == "mine"
    assert not file.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE KEY" in file.read_text()

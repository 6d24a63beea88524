"""marathon-deploy 3.0.2 as it is: its own command line, towards a real backend (``marathon-v2`` 7.4).

It waits by sleeping; its sleeps are cut short here, what it asks and reads is its own.
"""

from __future__ import annotations

import builtins
import collections
import collections.abc
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import RunningBackend
from rest import Rest

collections.Iterable = collections.abc.Iterable  # type: ignore[attr-defined]  # gone in Python 3.10

from marathon_deploy import checkappdeploy, deploytool  # noqa: E402

APP: dict[str, Any] = {"id": "/site/app", "cmd": "exec sleep 3600", "cpus": 0.01, "mem": 16, "instances": 2}
CHECK = {"protocol": "TCP", "intervalSeconds": 1, "gracePeriodSeconds": 60}
LISTENING = (
    "import socket, time, os; s = socket.create_server(('', int(os.getenv('PORT0')))); time.sleep(3600)"
)

Tool = Callable[..., None]


@pytest.fixture
def deploy(shared: RunningBackend, monkeypatch: pytest.MonkeyPatch) -> Tool:
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.05)))

    def run(*arguments: str, main: Callable[[], None] = deploytool.main) -> None:
        login = ["-m", shared.url, "-u", "anybody", "-p", shared.admin_token]
        monkeypatch.setattr(sys, "argv", ["marathon-deploy", *login, *arguments])
        main()

    return run


async def test_an_app_is_put_scaled_restarted_and_put_again(
    deploy: Tool, shared_rest: Rest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    definition = tmp_path / "app.json"
    definition.write_text(json.dumps(APP))
    deploy("--put", str(definition))
    first = await shared_rest.running("/site/app", 2)
    await shared_rest.deployed()
    deploy("--appid", "site/app", "--scale", "3")
    assert len(await shared_rest.running("/site/app", 3)) == 3
    await shared_rest.deployed()
    deploy("--appid", "/site/app", "--restart")
    await shared_rest.deployed()
    restarted = await shared_rest.running("/site/app", 3)
    assert {task["id"] for task in restarted}.isdisjoint(task["id"] for task in first)
    deploy("--appid", "/site/app", "--inplacerestart")
    await shared_rest.deployed()
    assert len(await shared_rest.running("/site/app", 3)) == 3
    definition.write_text(json.dumps({**APP, "env": {"A": "1"}, "instances": 1}))
    deploy("--put", str(definition))
    await shared_rest.deployed()
    assert (await shared_rest.app("/site/app"))["env"] == {"A": "1"}
    deploy("--appid", "/site/app", "--instances")
    told = capsys.readouterr().out
    assert told.startswith('"pong"')
    assert "complete." in told
    assert told.endswith("1\n")


async def test_a_deployment_is_cancelled_with_its_prompts(
    deploy: Tool, shared_rest: Rest, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shared_rest.create("/cancelled", cpus=30)
    await shared_rest.running("/cancelled")
    await shared_rest.deployed()
    answers = iter(["YES", "no"])

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(builtins, "input", lambda prompt: next(answers))
    monkeypatch.setattr("marathon_deploy.utils.events.time.sleep", interrupt)
    deploy("--appid", "/cancelled", "--scale", "3")  # the third never fits
    assert list(answers) == []
    await shared_rest.deployed()
    assert (await shared_rest.app("/cancelled"))["instances"] == 1


async def test_its_check_waits_for_a_healthy_task(
    deploy: Tool, shared_rest: Rest, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"id": "/site/checked", "args": [sys.executable, "-c", LISTENING], "cpus": 0.01, "mem": 16}
    made = await shared_rest("POST", "/v2/apps", {**body, "healthChecks": [CHECK]})
    assert made.status_code == 201, made.text
    deploy("--appid", "/site/checked", main=checkappdeploy.main)
    assert "APP deploy on Marathon" in capsys.readouterr().out
    assert (await shared_rest.app("/site/checked"))["tasksHealthy"] == 1

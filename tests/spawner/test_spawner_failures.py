"""Starts that cannot succeed, or must wait for others: what the user is told, and when."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest

from hubfleet.api.app import App
from hubfleet.backend.orchestrator.limits import DeploymentLimits
from hubfleet.spawner import link
from hubfleet.spawner.errors import StartRefused

FAILS = "import sys; print('no such kernel: <gnu>', file=sys.stderr); sys.exit(7)"


async def test_a_server_that_fails_shows_what_it_wrote_last(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.cmd = [sys.executable, "-c", FAILS]
    hub.config.MarathonSpawner.start_failures = 1
    with pytest.raises(StartRefused, match="ended once while it started") as refused:
        await hub.user("alice").spawn()
    assert refused.value.output == "no such kernel: <gnu>"
    assert "no such kernel" not in str(refused.value), "the hub's log is no place for it"
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_a_program_that_is_not_there_is_not_tried_three_times(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.cmd = ["no-such-server"]
    with pytest.raises(StartRefused, match=r"ended once .* status 127") as refused:
        await asyncio.wait_for(hub.user("alice").spawn(), 60)
    assert "no-such-server" in refused.value.output


async def test_what_no_place_could_ever_take_is_not_waited_for(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.marathon_constraints = [["rack", "LIKE", "r1"]]
    with pytest.raises(
        StartRefused, match=r"could ever take .* the place 127\.0\.0\.1 has no rack\.(?!\.)"
    ) as refused:
        await asyncio.wait_for(hub.user("alice").spawn(), 60)
    assert refused.value.reason == "no-place"
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_why_a_former_start_waited_is_not_said_of_the_next(
    hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "_QUEUE_FRESH_SECONDS", 600.0)
    await backend.client.create_app(App(id="/full", cmd="sleep 1000", cpus=64))
    user = hub.user("alice")
    user.spawner.marathon_constraints = [["rack", "LIKE", "r1"]]
    with pytest.raises(StartRefused, match="could ever take"):
        await user.spawn()

    shared, asked = user.spawner._link(), asyncio.Event()
    queue_item = shared.queue_item

    async def noted(app_id: str) -> Any:
        found = await queue_item(app_id)
        asked.set()
        return found

    shared.queue_item = noted
    user.spawner.marathon_constraints = []
    spawn = asyncio.create_task(user.spawn())
    await asyncio.wait_for(asked.wait(), 60)
    await backend.client.delete_app("/full")
    await asyncio.wait_for(spawn, 60)


async def test_a_time_out_amid_fetching_shows_what_cannot_be_fetched(
    hub: Any, backend: Any, too_late: Any
) -> None:
    hub.config.MarathonSpawner.fetch = ["http://127.0.0.1:9/course.zip"]
    user = hub.user("alice")
    said = "cannot fetch http://127.0.0.1:9/course.zip yet: Connection refused"
    refused = await too_late(
        user, lambda: told(user, "Being prepared") and said in " ".join(written(backend, "stderr"))
    )
    assert "it is being prepared" in refused.message
    assert said in refused.output
    await hub.eventually(lambda: hub.nothing_left(backend))


def told(user: Any, beginning: str) -> bool:
    """Whether a user has read a sentence that begins like this."""
    return any(sentence.startswith(beginning) for sentence in user.spawner._told.messages)


def written(backend: Any, name: str) -> list[str]:
    """What the tasks have written."""
    return [file.read_text() for file in backend.state_dir.glob(f"sandboxes/*/{name}")]


async def test_an_account_that_is_not_there_is_one_sentence(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.mesos_user = "nobody-of-the-tests"
    with pytest.raises(StartRefused) as refused:
        await hub.user("alice").spawn()
    assert str(refused.value.message).endswith(".")
    assert ".." not in refused.value.message


async def test_a_server_that_cannot_reach_the_hub_says_which_address(
    hub: Any, backend: Any, tmp_path: Path
) -> None:
    configuration = hub.config.MarathonSpawner
    configuration.cmd = [sys.executable, "-m", "jupyterhub.singleuser", "--allow-root"]
    configuration.environment = {"JUPYTERHUB_API_URL": "http://127.0.0.1:9/hub/api"}
    configuration.home_dir = str(tmp_path / "homes" / "{username}")
    user = hub.user("alice")
    spawn = asyncio.create_task(user.spawn())
    sentence = "The server runs, but cannot reach the hub's API at http://127.0.0.1:9/hub/api"
    await hub.eventually(lambda: asyncio.sleep(0, told(user, sentence)), 200)
    spawn.cancel()
    await asyncio.gather(spawn, return_exceptions=True)
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_a_server_that_gave_up_on_the_hub_fails_at_once(hub: Any, backend: Any) -> None:
    said = "Failed to connect to my Hub at http://10.0.0.1/hub/api (attempt 5/5). Is it running?"
    hub.config.MarathonSpawner.cmd = [sys.executable, "-c", f"raise SystemExit({said!r})"]
    with pytest.raises(
        StartRefused, match=r"cannot reach the hub's API at http://10\.0\.0\.1/hub/api"
    ) as refused:
        await hub.user("alice").spawn()
    assert refused.value.reason == "hub-unreachable"
    assert "hub_connect_url" in refused.value.message
    assert refused.value.output == said


async def test_a_time_out_shows_what_the_server_wrote(hub: Any, backend: Any, too_late: Any) -> None:
    script = "import sys, time; print('loading the cat', file=sys.stderr, flush=True); time.sleep(600)"
    hub.config.MarathonSpawner.cmd = [sys.executable, "-c", script]
    user = hub.user("alice")
    refused = await too_late(
        user, lambda: told(user, "Started at") and "loading the cat\n" in written(backend, "stderr")
    )
    assert "no server answers there" in refused.message
    assert refused.output == "loading the cat"


async def test_in_a_storm_of_logins_a_start_waits_for_its_turn(hub: Any, backend: Any) -> None:
    most = DeploymentLimits.in_all
    for number in range(most + 1):  # one of them runs, and as many changes as there may be stay under way
        await backend.client.create_app(App(id=f"/others/app{number}", cmd="sleep 1000", cpus=60))
        if number == 0:
            await hub.eventually(lambda: deployed(backend))
    assert len(await backend.client.list_deployments()) == most
    user = hub.user("alice")
    spawn = asyncio.create_task(user.spawn())
    await hub.eventually(lambda: asyncio.sleep(0, told(user, "Many servers start")))
    assert not spawn.done()
    await backend.client.delete_app(f"/others/app{most}")
    await asyncio.wait_for(spawn, 60)
    assert (await hub.ask(user.spawner.server.url))["env"]["JUPYTERHUB_USER"] == "alice"


async def deployed(backend: Any) -> bool:
    return not await backend.client.list_deployments()

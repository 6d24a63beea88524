"""The spawner under JupyterHub's own spawn procedure, on a real backend with real processes."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jupyterhub import orm
from jupyterhub.utils import utcnow
from ports import keeping

from hubfleet.api import environment, labels


class RecordingProxy:
    """A double of the hub's proxy: the routes that it was asked for."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, str]] = []

    async def add_user(self, user: Any, server_name: str = "") -> None:
        self.routes.append((user.name, user.spawners[server_name].server.host))


async def test_a_server_starts_is_found_and_ends_without_a_trace(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    spawner = user.spawner
    assert await spawner.poll() is None
    assert await spawner.get_url() == spawner.server.url
    told = await hub.ask(spawner.server.url)
    assert told["env"]["JUPYTERHUB_USER"] == "alice"
    assert told["env"][environment.BACKEND_URL] == backend.url
    assert told["env"][environment.DASK_GROUP] == "/jupyter/alice/dask"
    assert backend.admin_token not in json.dumps(told), "the hub's credential stays in the hub"
    await user.stop()
    assert await hub.nothing_left(backend)
    assert await user.spawner.poll() == 0


async def test_a_stop_returns_when_the_processes_have_ended(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.environment = {"STAND_IN_END": "0.7"}
    user = hub.user("alice")
    await user.spawn()
    await user.spawner.stop()
    assert await hub.nothing_left(backend)


async def test_a_stop_that_has_no_time_returns_when_the_backend_has_agreed(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.environment = {"STAND_IN_END": "600"}
    hub.config.MarathonSpawner.extra_app_config = {"taskKillGracePeriodSeconds": 600}
    user = hub.user("alice")
    await user.spawn()
    await user.spawner.stop(now=True)
    assert not await backend.client.list_apps()
    assert backend.tasks()


async def test_a_server_may_be_kept_from_knowing_the_backend(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.share_backend = False
    user = hub.user("alice")
    await user.spawn()
    told = await hub.ask(user.spawner.server.url)
    assert environment.BACKEND_URL not in told["env"]
    assert environment.DASK_GROUP not in told["env"]


async def test_a_home_outlives_the_server(hub: Any, backend: Any, tmp_path: Path) -> None:
    hub.config.MarathonSpawner.home_dir = str(tmp_path / "homes" / "{username}")
    user = hub.user("..")
    for _ in range(2):
        await user.spawn()
        told = await hub.ask(user.spawner.server.url)
        home = Path(told["cwd"])
        assert home.parent == tmp_path / "homes"
        assert told["env"]["HOME"] == told["cwd"]
        (home / "kept").touch()
        await user.stop()
    assert (home / "kept").exists()
    assert [path.name for path in (tmp_path / "homes").iterdir()] == [home.name]


async def test_no_two_names_meet(hub: Any, backend: Any) -> None:
    names = ["alice", "ALICE", "a b", "a-b", "Ünïcode", "alice@example.org", "n" * 200]
    users = [hub.user(name) for name in names]
    await asyncio.gather(*(user.spawn() for user in users))
    alice = users[0]
    hub.spawner("alice", "second")
    await alice.spawn("second")
    spawners = [*(user.spawner for user in users), alice.spawners["second"]]
    assert len({spawner.server.url for spawner in spawners}) == len(spawners)
    for spawner in spawners:
        told = await hub.ask(spawner.server.url)
        mine = (told["env"]["JUPYTERHUB_USER"], told["env"]["JUPYTERHUB_SERVER_NAME"])
        assert mine == (spawner.user.name, spawner.name)
    await alice.stop()
    left = {(app.labels[labels.USER], app.labels[labels.SERVER]) for app in await backend.client.list_apps()}
    assert left == {*((name, "") for name in names[1:]), ("alice", "second")}


async def test_a_user_reads_what_happens(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    spawner = user.spawner
    spawn = asyncio.create_task(user.spawn())

    async def read() -> list[dict[str, Any]]:
        await hub.eventually(lambda: asyncio.sleep(0, spawner._start_pending or spawn.done()))
        return [message async for message in spawner.progress()]

    pages = await asyncio.gather(read(), read())
    await spawn
    for messages in pages:
        percents = [message["progress"] for message in messages]
        assert percents == sorted(percents)
        assert max(percents) < 100
        sentences = " | ".join(message["message"] for message in messages)
        assert "Accepted by the backend as /jupyter/alice/notebook" in sentences
        assert f"Started at 127.0.0.1:{spawner.server.port}" in sentences
        assert re.fullmatch(r"The server answers, after \d+\.\d seconds", messages[-1]["message"])


async def test_a_replaced_task_is_routed_where_it_runs_now(hub: Any, backend: Any) -> None:
    proxy = hub.settings["proxy"] = RecordingProxy()
    user = hub.user("alice")
    await user.spawn()
    spawner = user.spawner
    before = spawner.server.url

    async def moved() -> bool:
        assert await spawner.poll() is None, "a server that is replaced is no dead one"
        return bool(spawner.server.url != before)

    with keeping(spawner.server.port):
        for process in backend.tasks():
            process.kill()
        await hub.eventually(moved)
    assert proxy.routes == [("alice", spawner.server.host)]
    stored = hub.db.query(orm.Server).one()
    assert f":{stored.port}/" in spawner.server.url
    assert await spawner.get_url() == spawner.server.url

    async def answers() -> bool:
        try:
            return (await hub.ask(spawner.server.url))["env"]["JUPYTERHUB_USER"] == "alice"
        except OSError:
            return False

    await hub.eventually(answers)


async def test_a_server_that_somebody_scaled_to_nothing_has_ended_and_is_removed(
    hub: Any, backend: Any
) -> None:
    user = hub.user("alice")
    await user.spawn()
    await backend.client.update_app("/jupyter/alice/notebook", {"instances": 0}, force=True)
    spawner = user.spawner

    async def ended() -> bool:
        return await spawner.poll() == 0

    await hub.eventually(ended)
    await user.stop()
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_a_server_deleted_by_somebody_has_ended(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    spawner = user.spawner
    await backend.client.delete_app("/jupyter/alice/notebook")

    async def ended() -> bool:
        return await spawner.poll() == 0

    await hub.eventually(ended)


@pytest.mark.parametrize(
    ("idle", "ends"), [(timedelta(days=3, seconds=10), True), (timedelta(minutes=10), False)]
)
async def test_a_server_that_nobody_uses_is_stopped(
    hub: Any, backend: Any, idle: timedelta, ends: bool
) -> None:
    hub.config.MarathonSpawner.autotimeout = 3600
    user = hub.user("alice")
    await user.spawn()
    spawner = user.spawner
    spawner.orm_spawner.last_activity = utcnow(with_tz=False) - idle
    assert (await spawner.poll() == 0) is ends
    if ends:
        assert await spawner.poll() == 0, "what was said once is not taken back"
        await hub.eventually(lambda: hub.nothing_left(backend))


async def test_a_poll_never_raises(small_hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = small_hub.spawner("alice", marathon_host="no address")
    assert await spawner.poll() == 0, "never started"
    spawner.load_state({"app_id": "/jupyter/alice/notebook", "group": "/jupyter"})
    assert await spawner.poll() is None
    assert await spawner.get_url() == ""


async def test_what_a_page_makes_of_a_spawner_costs_no_request(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", marathon_host="http://127.0.0.1:1")
    assert small_hub.at_once(spawner.poll()) == 0
    assert spawner.get_state() == {}

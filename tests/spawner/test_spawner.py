"""The spawner under JupyterHub's own spawn procedure, on a real backend with real processes."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jupyterhub import orm
from jupyterhub.utils import utcnow

from hubfleet.api import environment, labels
from hubfleet.api.app import App
from hubfleet.api.status import AppStatus
from hubfleet.api.wire import parse_timestamp
from hubfleet.spawner import stopping
from hubfleet.spawner.errors import StartRefused
from hubfleet.spawner.launch import newest_running, url_of
from hubfleet.spawner.link import close_links


async def eventually(question: Callable[[], Awaitable[Any]], seconds: float = 20) -> Any:
    """Return the first true answer to a question; fail if there is none in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not (answer := await question()):
        assert asyncio.get_running_loop().time() < deadline, "it did not come to be in time"
        await asyncio.sleep(0.05)
    return answer


async def nothing_left(backend: Any) -> bool:
    return not await backend.client.list_apps() and not backend.tasks()


async def ask(url: str) -> dict[str, Any]:
    """Return what the stand-in of a server tells about itself."""

    def get() -> Any:
        with urllib.request.urlopen(url + "api", timeout=10) as answer:
            return json.load(answer)

    told = await asyncio.to_thread(get)
    assert isinstance(told, dict)
    return told


class RecordingProxy:
    """A double of the hub's proxy: the routes that it was asked for."""

    def __init__(self) -> None:
        self.routes: list[tuple[str, str]] = []

    async def add_user(self, user: Any, server_name: str = "") -> None:
        self.routes.append((user.name, user.spawners[server_name].server.host))


# -- the ordinary life -----------------------------------------------------------------------


async def test_a_server_starts_is_found_and_ends_without_a_trace(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    spawner = user.spawner
    assert await spawner.poll() is None
    assert await spawner.get_url() == spawner.server.url
    told = await ask(spawner.server.url)
    assert told["env"]["JUPYTERHUB_USER"] == "alice"
    assert told["env"][environment.BACKEND_URL] == backend.url
    assert told["env"][environment.DASK_GROUP] == "/jupyter/alice/dask"
    assert backend.admin_token not in json.dumps(told), "the hub's credential stays in the hub"
    await user.stop()
    assert await nothing_left(backend)
    assert await user.spawner.poll() == 0


async def test_a_stop_returns_when_the_processes_have_ended(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.environment = {"STAND_IN_END": "0.7"}
    user = hub.user("alice")
    await user.spawn()
    await user.spawner.stop()
    assert await nothing_left(backend)


async def test_a_stop_that_has_no_time_returns_when_the_backend_has_agreed(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.environment = {"STAND_IN_END": "0.7"}
    user = hub.user("alice")
    await user.spawn()
    await user.spawner.stop(now=True)
    assert not await backend.client.list_apps()
    assert backend.tasks()


async def test_a_server_may_be_kept_from_knowing_the_backend(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.share_backend = False
    user = hub.user("alice")
    await user.spawn()
    told = await ask(user.spawner.server.url)
    assert environment.BACKEND_URL not in told["env"]
    assert environment.DASK_GROUP not in told["env"]


async def test_a_home_outlives_the_server(hub: Any, backend: Any, tmp_path: Path) -> None:
    hub.config.MarathonSpawner.home_dir = str(tmp_path / "homes" / "{username}")
    user = hub.user("..")
    for _ in range(2):
        await user.spawn()
        told = await ask(user.spawner.server.url)
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
    alice._new_orm_spawner("second", "")
    await alice.spawn("second")
    spawners = [*(user.spawner for user in users), alice.spawners["second"]]
    assert len({spawner.server.url for spawner in spawners}) == len(spawners)
    for spawner in spawners:
        told = await ask(spawner.server.url)
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
        await eventually(lambda: asyncio.sleep(0, spawner._start_pending))
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
        assert messages[-1]["message"] == "The server answers"


# -- what a user may ask for -------------------------------------------------------------------


async def test_options_are_checked_at_start_whatever_way_they_came(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    with pytest.raises(StartRefused, match=r"asks for 9999; allowed is 0\.001 to 2") as refused:
        await user.spawn(options={"cpu": 9999, "image": "evil/root"})
    assert refused.value.reason == "options"
    assert refused.value.status_code == 400
    assert refused.value.jupyterhub_message == refused.value.message
    assert "evil/root" in refused.value.message
    assert await nothing_left(backend)


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


# -- configuration -----------------------------------------------------------------------------


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


# -- starts that fail --------------------------------------------------------------------------


async def test_a_server_that_ends_at_once_fails_with_the_reason_and_leaves_no_app(
    hub: Any, backend: Any
) -> None:
    hub.config.MarathonSpawner.cmd = [sys.executable, "-c", "raise SystemExit(7)"]
    user = hub.user("alice")
    with pytest.raises(StartRefused, match="ended 3 times while it started") as refused:
        await user.spawn()
    assert refused.value.reason == "crashed"
    assert "7" in refused.value.message.partition("The backend says")[2]
    await eventually(lambda: nothing_left(backend))
    assert await user.spawner.poll() is not None


async def test_a_server_that_succeeds_at_the_second_attempt_is_served_where_it_then_runs(
    hub: Any, backend: Any, stand_in: list[str], tmp_path: Path
) -> None:
    once = "import os, sys; os.path.exists(m := sys.argv[1]) or (open(m, 'w').close(), sys.exit(1)); "
    once += "sys.argv = sys.argv[2:]; exec(open(sys.argv[0]).read())"
    hub.config.MarathonSpawner.cmd = [sys.executable, "-c", once, str(tmp_path / "tried"), stand_in[1]]
    user = hub.user("alice")
    await user.spawn()
    assert (await ask(user.spawner.server.url))["env"]["JUPYTERHUB_USER"] == "alice"
    assert "attempt 2 of 3" in " ".join(user.spawner._told.messages)


async def test_what_the_backend_refuses_fails_at_once_with_its_words(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.marathon_constraints = [["hostname", "SOMEWHERE"]]
    with pytest.raises(StartRefused, match="operator must be one of") as refused:
        await asyncio.wait_for(hub.user("alice").spawn(), 10)
    assert refused.value.reason == "backend-refused"


async def test_a_wrong_token_is_said_to_be_one(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.marathon_token = "wrong"
    with pytest.raises(StartRefused, match=r"c\.MarathonSpawner\.marathon_token") as refused:
        await hub.user("alice").spawn()
    assert refused.value.reason == "backend-access"


async def test_a_server_that_finds_no_place_says_what_it_waits_for(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.update({"cpu_limit": 1000.0, "start_timeout": 4})
    user = hub.user("alice")
    heard: list[str] = []

    async def listen(messages: AsyncIterator[dict[str, Any]]) -> None:
        async for message in messages:
            heard.append(message["message"])

    spawn = asyncio.create_task(user.spawn())
    await eventually(lambda: asyncio.sleep(0, user.spawner._start_pending))
    listener = asyncio.create_task(listen(user.spawner.progress()))
    with pytest.raises(StartRefused, match="did not start within 4 seconds: waiting") as refused:
        await spawn
    await asyncio.wait_for(listener, 5)
    assert any(sentence.startswith("Waiting") for sentence in heard)
    assert "1000" in refused.value.message, "it says how much was asked for"
    await eventually(lambda: nothing_left(backend))


async def test_a_server_that_never_answers_says_where_it_runs(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.update({"environment": {"STAND_IN_DELAY": "60"}, "start_timeout": 3})
    with pytest.raises(StartRefused, match=r"runs at 127\.0\.0\.1:\d+, but no server answers"):
        await hub.user("alice").spawn()
    await eventually(lambda: nothing_left(backend))


async def test_a_cancelled_start_leaves_no_app(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.environment = {"STAND_IN_DELAY": "60"}
    user = hub.user("alice")
    spawn = asyncio.create_task(user.spawn())
    await eventually(lambda: asyncio.sleep(0, backend.tasks()))
    assert await user.spawner.poll() is None, "a server that starts is no dead one"
    spawn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await spawn
    await eventually(lambda: nothing_left(backend))


def submit_late(spawner: Any) -> threading.Event:
    """Hold each submission back in its thread for a moment; the event says that one is on its way."""
    transport = spawner._link().client.transport
    create, on_its_way = transport.create_app, threading.Event()

    def create_late(app_id: str, app: App) -> Any:
        on_its_way.set()
        time.sleep(0.3)
        return create(app_id, app)

    transport.create_app = create_late
    return on_its_way


async def test_a_submission_that_arrives_after_the_cancellation_leaves_no_app(hub: Any, backend: Any) -> None:
    spawner = hub.user("alice").spawner
    on_its_way = submit_late(spawner)
    start = asyncio.create_task(spawner.start())
    await eventually(lambda: asyncio.sleep(0, on_its_way.is_set()))
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await eventually(lambda: asyncio.sleep(0, not spawner._link().reaper.holds(spawner.app_id)))
    await eventually(lambda: nothing_left(backend))


async def test_a_foreign_app_survives_a_start_cancelled_before_it_was_recognised(
    hub: Any, backend: Any
) -> None:
    theirs = App(id="/jupyter/alice/notebook", cmd="sleep 1000", labels={labels.HUB: "another hub"})
    await backend.client.create_app(theirs)
    spawner = hub.user("alice").spawner
    on_its_way = submit_late(spawner)
    start = asyncio.create_task(spawner.start())
    await eventually(lambda: asyncio.sleep(0, on_its_way.is_set()))
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    await eventually(lambda: asyncio.sleep(0, not spawner._link().reaper.holds(spawner.app_id)))
    assert (await backend.client.get_app(theirs.id)).cmd == "sleep 1000"


async def test_a_server_whose_app_is_not_there_yet_is_not_taken_for_ended(hub: Any, backend: Any) -> None:
    spawner = hub.user("alice").spawner
    assert await spawner._link().sees()
    on_its_way = submit_late(spawner)
    start = asyncio.create_task(spawner.start())
    await eventually(lambda: asyncio.sleep(0, on_its_way.is_set()))
    assert await spawner.poll() is None
    assert (await start).startswith("http://127.0.0.1:")


async def test_an_app_removed_while_it_starts_fails_at_once(hub: Any, backend: Any) -> None:
    hub.config.MarathonSpawner.environment = {"STAND_IN_DELAY": "60"}
    spawn = asyncio.create_task(hub.user("alice").spawn())
    await eventually(lambda: asyncio.sleep(0, backend.tasks()))
    await backend.client.delete_app("/jupyter/alice/notebook")
    with pytest.raises(StartRefused, match="was removed from the backend while it started") as refused:
        await asyncio.wait_for(spawn, 20)
    assert refused.value.reason == "removed"


# -- apps that are there already ---------------------------------------------------------------


async def test_an_app_of_somebody_else_is_left_alone(hub: Any, backend: Any) -> None:
    theirs = App(id="/jupyter/alice/notebook", cmd="sleep 1000", labels={labels.HUB: "another hub"})
    await backend.client.create_app(theirs)
    user = hub.user("alice")
    with pytest.raises(StartRefused, match="labels do not say that it is this server") as refused:
        await user.spawn()
    assert refused.value.reason == "conflict"
    assert (await backend.client.get_app(theirs.id)).cmd == "sleep 1000"


async def test_a_leftover_of_this_server_is_replaced(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    old = (await ask(user.spawner.server.url))["env"]["JUPYTERHUB_API_TOKEN"]
    # a hub that was killed before it stored anything of this server
    user.spawner.orm_spawner.state = {}
    user.spawner.server = None
    hub.db.commit()
    await close_links()
    again = hub.user("alice")
    assert await again.spawner.poll() == 0
    await again.spawn()
    assert (await ask(again.spawner.server.url))["env"]["JUPYTERHUB_API_TOKEN"] != old
    app = await backend.client.get_app("/jupyter/alice/notebook")
    assert len(app.tasks) == 1
    assert len(await backend.client.list_apps()) == 1


def test_a_task_of_the_former_definition_is_not_the_server() -> None:
    def task(name: str, version: str, **fields: Any) -> dict[str, Any]:
        place = {"id": name, "appId": "/a", "state": "TASK_RUNNING", "host": "h", "ports": [1]}
        return {**place, "version": version, "startedAt": version, **fields}

    old, new, newer = (f"2026-01-01T00:00:0{second}.000Z" for second in (1, 2, 3))
    tasks = [task("old", old), task("new", new), task("newer", newer)]
    status = AppStatus.from_wire({"id": "/a", "tasks": tasks})
    assert newest_running(status).id == "newer"
    status = AppStatus.from_wire({"id": "/a", "tasks": [task("old", old)]})
    assert newest_running(status, parse_timestamp(old)).id == "old"
    assert newest_running(status, parse_timestamp(new)) is None
    for useless in ({"state": "TASK_KILLING"}, {"ports": []}, {"host": ""}):
        status = AppStatus.from_wire({"id": "/a", "tasks": [task("new", new, **useless)]})
        assert newest_running(status) is None


@pytest.mark.parametrize(
    ("host", "url"),
    [("10.0.0.4", "http://10.0.0.4:80"), ("::1", "http://[::1]:80"), ("[fe80::2]", "http://[fe80::2]:80")],
)
def test_an_address_of_any_kind_makes_a_url(host: str, url: str) -> None:
    assert url_of("http", host, 80) == url


async def test_a_user_may_start_again_right_after_a_stop(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    for _ in range(3):
        await user.spawn()
        await user.spawner.stop(now=True)
        await user.stop()
    await eventually(lambda: nothing_left(backend))


# -- outages and restarts ----------------------------------------------------------------------


async def test_while_the_backend_is_down_nothing_is_known_and_nothing_is_lost(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    url = user.spawner.server.url
    await backend.kill()
    assert await eventually(lambda: asyncio.sleep(0, not user.spawner._link().watcher.sighted))
    assert await user.spawner.poll() is None
    assert await user.spawner.get_url() == url
    assert (await ask(url))["env"]["JUPYTERHUB_USER"] == "alice"
    await backend.start()
    assert await eventually(lambda: asyncio.sleep(0, user.spawner._link().watcher.sighted))
    assert await user.spawner.poll() is None
    assert await user.spawner.get_url() == url
    await user.stop()
    await eventually(lambda: nothing_left(backend))


async def test_a_stop_during_an_outage_is_done_after_it(
    hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "PATIENCE_SECONDS", 0.3)
    user = hub.user("alice")
    await user.spawn()
    await backend.kill()
    await user.stop()
    assert backend.tasks(), "nobody could stop it yet"
    await backend.start()
    await eventually(lambda: nothing_left(backend))


async def test_a_start_takes_an_app_off_the_list_of_those_to_be_deleted(
    hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "PATIENCE_SECONDS", 0.1)
    user = hub.user("alice")
    await user.spawn()
    await backend.kill()
    await user.stop()
    await backend.start()
    await user.spawn()
    assert not user.spawner._link().reaper.holds("/jupyter/alice/notebook")
    assert (await ask(user.spawner.server.url))["env"]["JUPYTERHUB_USER"] == "alice"


async def test_a_restarted_hub_finds_its_servers(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    url = user.spawner.server.url
    await close_links()
    hub.config.MarathonSpawner.app_prefix = "changed"
    again = hub.user("alice").spawner
    assert await again.poll() is None
    assert await again.get_url() == url
    assert again.app_id == "/jupyter/alice/notebook"
    await again.stop()
    assert await nothing_left(backend)


async def test_a_hub_killed_during_a_start_finds_the_server_by_its_place(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    url = user.spawner.server.url
    user.spawner.orm_spawner.state = {}
    user.spawner.server.port = 0
    hub.db.commit()
    await close_links()
    again = hub.user("alice").spawner
    assert await again.poll() is None
    assert await again.get_url() == url


async def test_a_server_whose_app_went_while_the_hub_was_down_has_ended(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    await close_links()
    await backend.client.delete_app("/jupyter/alice/notebook")
    again = hub.user("alice").spawner
    assert await again.poll() == 0


async def test_a_hub_that_starts_without_its_backend_takes_its_servers_for_running(
    hub: Any, backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubfleet.spawner.link.FIRST_SIGHT_SECONDS", 0.2)
    user = hub.user("alice")
    await user.spawn()
    url = user.spawner.server.url
    await close_links()
    await backend.kill()
    again = hub.user("alice").spawner
    assert await asyncio.wait_for(again.poll(), 5) is None
    assert await again.get_url() == url


# -- while it runs -----------------------------------------------------------------------------


async def test_a_replaced_task_is_routed_where_it_runs_now(hub: Any, backend: Any) -> None:
    proxy = hub.settings["proxy"] = RecordingProxy()
    user = hub.user("alice")
    await user.spawn()
    spawner = user.spawner
    before = spawner.server.url
    for process in backend.tasks():
        process.kill()

    async def moved() -> bool:
        assert await spawner.poll() is None, "a server that is replaced is no dead one"
        return bool(spawner.server.url != before)

    await eventually(moved)
    assert proxy.routes == [("alice", spawner.server.host)]
    stored = hub.db.query(orm.Server).one()
    assert f":{stored.port}/" in spawner.server.url
    assert await spawner.get_url() == spawner.server.url

    async def answers() -> bool:
        try:
            return (await ask(spawner.server.url))["env"]["JUPYTERHUB_USER"] == "alice"
        except OSError:
            return False

    await eventually(answers)


async def test_a_server_that_somebody_scaled_to_nothing_has_ended_and_is_removed(
    hub: Any, backend: Any
) -> None:
    user = hub.user("alice")
    await user.spawn()
    await backend.client.update_app("/jupyter/alice/notebook", {"instances": 0}, force=True)
    spawner = user.spawner

    async def ended() -> bool:
        return await spawner.poll() == 0

    await eventually(ended)
    await user.stop()
    await eventually(lambda: nothing_left(backend))


async def test_a_server_deleted_by_somebody_has_ended(hub: Any, backend: Any) -> None:
    user = hub.user("alice")
    await user.spawn()
    spawner = user.spawner
    await backend.client.delete_app("/jupyter/alice/notebook")

    async def ended() -> bool:
        return await spawner.poll() == 0

    await eventually(ended)


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
        await eventually(lambda: nothing_left(backend))


async def test_a_poll_never_raises(small_hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spawner = small_hub.spawner("alice", marathon_host="no address")
    assert await spawner.poll() == 0, "never started"
    spawner.load_state({"app_id": "/jupyter/alice/notebook", "group": "/jupyter"})
    assert await spawner.poll() is None
    assert await spawner.get_url() == ""


async def test_what_a_page_makes_of_a_spawner_costs_no_request(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", marathon_host="http://127.0.0.1:1")
    assert await asyncio.wait_for(spawner.poll(), 0.5) == 0
    assert spawner.get_state() == {}

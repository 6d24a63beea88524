"""What it costs to know whether servers run: many spawners of one process, and a backend of their apps."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from conftest import RunningBackend
from jupyterhub import orm, roles
from jupyterhub.objects import Hub
from jupyterhub.spawner import LocalProcessSpawner
from jupyterhub.user import User
from measuring import Part
from rest import Rest
from traitlets.config import Config

from hubfleet.api.app import App
from hubfleet.api.ids import server_app_id
from hubfleet.spawner import MarathonSpawner
from hubfleet.spawner.build import Server
from hubfleet.spawner.link import close_links

ROUNDS = 5
LIMIT = "a dictionary's look-up"
REQUESTS = 200
GROUP = "a poll, {count:,} servers"
REQUEST = "a request instead of a poll, as peers make one"


def spawners_of(configuration: Config, names: list[str]) -> list[MarathonSpawner]:
    """Return the spawners of users' servers that run, as a hub has them after it was started again.

    Of the hub there is no more than its database.
    """
    db = orm.new_session_factory("sqlite:///:memory:")()
    for role in roles.get_default_roles():
        roles.create_role(db, role)
    db.add(orm.OAuthClient(identifier="jupyterhub", secret="", redirect_uri=""))
    people = []
    for name in names:
        base_url = f"/user/{name}/"
        server = orm.Server(proto="http", ip="127.0.0.7", port=1, cookie_name="bench", base_url=base_url)
        people.append(person := orm.User(name=name))
        row = orm.Spawner(name="", user=person, server=server)
        row.state = {"app_id": server_app_id("bench", name, ""), "group": "/bench"}
        db.add_all([person, row])
    db.commit()
    settings = {
        "spawner_class": MarathonSpawner,
        "config": configuration,
        "hub": Hub(),
        "cookie_secret": b"s" * 32,
        "log": logging.getLogger("bench"),
    }
    return [User(person, settings).spawners[""] for person in people]


async def polls(part: Part, backend: RunningBackend, counts: list[int]) -> None:
    """Measure a poll, with so many servers."""
    for count in counts:
        group = GROUP.format(count=count)
        part.ratio(group, "MarathonSpawner, cpu", "LocalProcessSpawner, cpu", limit=f"{LIMIT}, cpu")
        part.ratio(group, "MarathonSpawner, cpu", f"{LIMIT}, cpu", to_a_limit=True)
        part.ratio_between((group, "MarathonSpawner, wall"), (REQUEST, "wall"))
    await backend.start()
    configuration = Config()
    configuration.MarathonSpawner.update(
        marathon_host=backend.url, marathon_token=backend.admin_token, app_prefix="bench", hub_id="bench"
    )
    try:
        names: list[str] = []
        for count in counts:
            await close_links()  # which would look at each app as it is made
            for first in range(len(names), count, 500):
                more = [f"s{number}" for number in range(first, min(count, first + 500))]
                await make_apps(backend, more)
                names += more
            spawners = spawners_of(configuration, names)
            await known(spawners)
            await measure(part, spawners)
        for spawner in spawners[:REQUESTS]:
            begun, used = time.perf_counter(), time.thread_time()
            await backend.client.get_app(spawner.app_id)
            part.add(REQUEST, "wall", time.perf_counter() - begun)
            part.add(REQUEST, "the loop's processor time", time.thread_time() - used)
    finally:
        await close_links()
        await backend.destroy()


async def make_apps(backend: RunningBackend, names: list[str]) -> None:
    """Have the backend run an app for each server, and return when it does."""
    rest = Rest(backend.url, backend.admin_token)
    apps = [
        App(
            id=server_app_id("bench", name, ""),
            cmd="server",
            cpus=0.01,
            mem=1,
            labels=Server.marks("bench", name, ""),
        ).to_wire()
        for name in names
    ]
    answer = await rest("PUT", "/v2/apps", apps)
    assert answer.status_code == 200, answer.text
    async with asyncio.timeout(120):
        while await rest.get("/v2/deployments"):
            await asyncio.sleep(0.05)


async def known(spawners: list[MarathonSpawner]) -> None:
    """Poll each, until where its task is was told to the hub's database."""
    for spawner in spawners:
        while not spawner.get_state()["task_id"]:
            assert await spawner.poll() is None, f"{spawner.app_id} is not known to run"


async def measure(part: Part, spawners: list[MarathonSpawner]) -> None:
    """Poll all of them, some rounds; beside them what JupyterHub's own does, and a dictionary."""
    group = GROUP.format(count=len(spawners))
    dictionary = {spawner.app_id: spawner for spawner in spawners}
    ids = list(dictionary)

    async def look(app_id: str) -> MarathonSpawner | None:
        return dictionary.get(app_id)

    async def ours() -> None:
        for spawner in spawners:
            await spawner.poll()

    async def limit() -> None:
        for app_id in ids:
            await look(app_id)

    local = LocalProcessSpawner(user=spawners[0].user)
    local.pid = os.getpid()

    async def its() -> None:
        for _ in spawners:
            await local.poll()

    async def timed(polls: Callable[[], Awaitable[None]]) -> Mapping[str, float]:
        begun, used = time.perf_counter(), time.thread_time()
        await polls()
        wall, cpu = time.perf_counter() - begun, time.thread_time() - used
        return {"wall": wall / len(spawners), "cpu": cpu / len(spawners)}

    ways = {"MarathonSpawner": ours, "LocalProcessSpawner": its, LIMIT: limit}
    await part.in_turns(group, {name: partial(timed, way) for name, way in ways.items()}, ROUNDS)

"""People start and stop servers while their hub is killed all the time, and what must be true after it.

What the hub said yes to must be so afterwards; where it was killed before it answered, or while the
start or stop was under way, either is right. In some rounds the backend is killed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import requests
from conftest import WarmBackend, task_id_of
from warm_hub import WarmHub

from hubfleet.api import labels

SETTLED_SECONDS = 240.0
_GONE = (requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError)

Server = tuple[str, str]
"""A user's name, and the name of the server; empty for the default one."""


@dataclass
class User:
    """Somebody with two servers, who remembers what the hub promised."""

    name: str
    hub: WarmHub
    chance: random.Random
    may_run: dict[str, set[bool]] = field(default_factory=lambda: {"": {False}, "second": {False}})
    changes: Counter[str] = field(default_factory=Counter)

    async def act_for_ever(self) -> None:
        """Start and stop servers, one after the other, until the hub is gone."""
        with contextlib.suppress(*_GONE):
            while True:
                await self._act(self.chance.choice(["", "second"]))
                await asyncio.sleep(self.chance.uniform(0, 0.2))

    async def _act(self, server: str) -> None:
        path = f"/users/{self.name}/" + (f"servers/{server}" if server else "server")
        before = self.may_run[server]
        start = before == {False} or (before == {True, False} and self.chance.random() < 0.6)
        self.may_run[server] = before | {start}  # until the answer comes both are possible
        what = "start" if start else "stop"
        try:
            answer = await self.hub.ask("POST" if start else "DELETE", path)
        except _GONE:
            self.changes[f"{what} cut off"] += 1
            raise
        self.changes[f"{what} {answer.status_code}"] += 1
        match answer.status_code:
            case 201 | 204:
                self.may_run[server] = {start}
            case 202:
                pass  # it is under way
            case 400 | 404:
                self.may_run[server] = before | {start}  # it is so already, or something is under way
            case _:
                raise AssertionError((self.name, server, start, answer.status_code, answer.text))


class HubStorm:
    """Rounds of starts and stops, each of which the hub does not survive.

    Parameters
    ----------
    hub, backend
        Not started yet.
    seed
        Of everything that is left to chance here; what the machine does is not.
    """

    def __init__(self, hub: WarmHub, backend: WarmBackend, seed: int, people: int = 4) -> None:
        self.hub, self.backend = hub, backend
        self.chance = random.Random(seed)
        self.users = [
            User(f"user{number}", hub, random.Random(self.chance.random())) for number in range(people)
        ]
        self.kills: Counter[str] = Counter()

    async def rounds(self, count: int) -> None:
        """Kill `count` times, and look after every few of them whether all is well."""
        await asyncio.gather(self.backend.start(), self.hub.start())
        for user in self.users:
            assert (await self.hub.ask("POST", f"/users/{user.name}")).ok
        for number in range(1, count + 1):
            await self._round()
            if number % 6 == 0 or number == count:
                await self.check()

    async def _round(self) -> None:
        acting = [asyncio.create_task(user.act_for_ever()) for user in self.users]
        try:
            await asyncio.sleep(self.chance.uniform(0.0, 1.2))
            both = self.chance.random() < 0.25
            self.kills["hub and backend" if both else "hub"] += 1
            await asyncio.gather(self.hub.kill(), *([self.backend.kill()] if both else []))
            for outcome in await asyncio.gather(*acting, return_exceptions=True):
                if isinstance(outcome, BaseException):
                    raise outcome
        finally:
            for task in acting:
                task.cancel()
        if self.chance.random() < 0.25:
            self.kills["hub while it starts"] += 1
            self.hub.begin()
            await asyncio.sleep(self.chance.uniform(0.0, 1.5))
            await self.hub.kill()
        self.hub.begin()
        if both:
            await asyncio.sleep(self.chance.uniform(0.0, 1.0))
            await self.backend.start()
        await self.hub.answers()

    async def check(self) -> None:
        """See that the hub's word is the truth; fail with what is not."""
        deadline = time.monotonic() + SETTLED_SECONDS
        while wrong := await self._wrong():
            assert time.monotonic() < deadline, "\n".join([*wrong, self.hub.last_lines(120)])
            await asyncio.sleep(0.1)

    async def _wrong(self) -> list[str]:
        """Return what is not as it must be, at this moment."""
        ready, wrong = await self._ready()
        apps = {app.id: app for app in await self.backend.client.list_apps()}
        owners = Counter((app.labels[labels.USER], app.labels[labels.SERVER]) for app in apps.values())
        if owners != Counter(ready):
            wrong.append(f"ready: {sorted(ready)}; apps of: {sorted(owners.elements())}")
        tasks = Counter(task.id for app in apps.values() for task in app.tasks if task.running)
        processes = Counter(map(task_id_of, await asyncio.to_thread(self.backend.tasks)))
        if len(tasks) != len(apps) or processes != tasks:
            wrong.append(f"apps {sorted(apps)}, tasks {tasks}, processes {processes}")
        routes = await self.hub.routes()
        if {path.rstrip("/") for path in routes} != {path_of(server).rstrip("/") for server in ready}:
            wrong.append(f"ready: {sorted(ready)}; routes: {sorted(routes)}")
        for server in ready:
            wrong += await self._answer_of(server)
        return wrong

    async def _ready(self) -> tuple[list[Server], list[str]]:
        """Return the servers that the hub says are ready, and what it says that must not be so."""
        ready: list[Server] = []
        wrong = []
        for user in self.users:
            model: dict[str, Any] = (await self.hub.ask("GET", f"/users/{user.name}")).json()
            for name, possible in user.may_run.items():
                server = model["servers"].get(name)
                if server is not None and server["pending"]:
                    wrong.append(f"{user.name}/{name} is pending {server['pending']}")
                    continue
                runs = bool(server and server["ready"])
                if runs:
                    ready.append((user.name, name))
                if runs not in possible:
                    wrong.append(f"{user.name}/{name} runs: {runs}; it was promised: {possible}")
                elif not wrong:
                    user.may_run[name] = {runs}
        return ready, wrong

    async def _answer_of(self, server: Server) -> list[str]:
        answer = await self.hub.visit(f"{path_of(server)}api")
        if answer.status_code != 200:
            return [f"{server} answers {answer.status_code}"]
        told = answer.json()["env"]
        who = (told["JUPYTERHUB_USER"], told["JUPYTERHUB_SERVER_NAME"])
        return [] if who == server else [f"at the place of {server} is {who}"]


def path_of(server: Server) -> str:
    """Return the path of a server's URLs."""
    user, name = server
    return f"/user/{user}/{name}/" if name else f"/user/{user}/"

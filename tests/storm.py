"""A storm of changes over a backend whose parts are killed all the time, and what must be true after it.

Several people change apps of their own, all at once: create, scale, replace, restart, kill, delete, and
the group of them as a whole. What the backend said yes to must be so afterwards; where it was killed before
it answered, either of the two is right. In between the backend, its launcher, or both, are killed with
SIGKILL, and tasks as well. Some tasks are such as the launcher forks from a template while it has a warm one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import psutil
import requests
from conftest import WarmBackend, task_id_of
from rest import Rest, eventually
from warm_templates import WORKER

CPUS, PORTS = 4.0, 40
TASK_CPUS = 0.01
MOST_INSTANCES = 3
SETTLED_SECONDS = 120.0
WARM_ROUNDS = 4
"""Of so many rounds one begins with a template. It dies with its launcher, and to make one takes a second."""

# A console script as Dask's, that stays without doing anything.
_PROGRAM = f"""#!{sys.executable}
import sys
from dask.__main__ import main
if __name__ == '__main__':
    import time
    time.sleep(600)
"""


@dataclass
class Person:
    """Somebody who changes two apps, and remembers what the backend promised."""

    name: str
    rest: Rest
    chance: random.Random
    task: dict[str, Any] = field(default_factory=lambda: _TASK)
    """What is asked for of an app beside its count."""
    possible: dict[str, set[int]] = field(default_factory=dict)
    """How many instances each app may have now; 0 is an app that is not there, or has none."""
    groups: list[set[str]] = field(default_factory=lambda: [set()])
    """Which groups there may be beside the apps."""
    changes: Counter[str] = field(default_factory=Counter)

    async def change_for_ever(self) -> None:
        """Make one change after the other, until the backend is gone."""
        with contextlib.suppress(
            requests.exceptions.ConnectionError, requests.exceptions.ChunkedEncodingError
        ):
            while True:
                await self._change(f"/storm/{self.name}/{self.chance.choice('ab')}")

    async def _change(self, app_id: str) -> None:
        before = self.possible.setdefault(app_id, {0})
        what = self.chance.choices(
            ["put", "scale", "replace", "restart", "kill", "lower", "delete", "group", "end group", "back"],
            [6, 4, 3, 2, 3, 3, 2, 3, 1, 2],
        )[0]
        self.changes[what] += 1
        count = self.chance.randint(1, MOST_INSTANCES)
        force = self.chance.choice(["true", "true", "false"])
        match what:
            case "put":
                body = {"instances": count, **self.task}
                await self._ask("PUT", app_id, f"?force={force}", body, {count}, before)
            case "scale" if before != {0}:
                body = {"instances": count, **self.task}
                await self._ask("PUT", app_id, "?force=true", body, {count}, before)
            case "replace" if before != {0}:
                number = str(self.chance.random())
                body = {"instances": count, **self.task}
                body["env"] = {**body["env"], "N": number}
                await self._ask("PUT", app_id, f"?force={force}", body, {count}, before)
            case "restart":
                await self._ask("POST", app_id, f"/restart?force={force}", None, before, before)
            case "kill" | "lower":
                await self._kill(app_id, before, lower=what == "lower")
            case "delete":
                await self._ask("DELETE", app_id, "", None, {0}, before)
            case "group":
                counts = {name: self.chance.randint(0, MOST_INSTANCES) for name in "ab"}
                apps = [{"id": name, "instances": count, **self.task} for name, count in counts.items()]
                number = f"n{self.chance.randint(0, 9)}"
                body = {"apps": apps, "groups": [{"id": number}]}
                await self._ask_group("PUT", body, counts, made={number})
            case "end group":
                await self.end_group()
            case "back":
                await self._go_back()

    async def begin(self) -> None:
        """Have one task."""
        app_id = f"/storm/{self.name}/a"
        before = self.possible.setdefault(app_id, {0})
        await self._ask("PUT", app_id, "?force=true", {"instances": 1, **self.task}, {1}, before)

    async def end_group(self) -> None:
        """End both apps, and the groups beside them."""
        await self._ask_group("DELETE", None, dict.fromkeys("ab", 0), made=set())

    async def _ask_group(self, method: str, body: Any, after: dict[str, int], made: set[str]) -> None:
        """Change both apps and the groups beside them, all of it or nothing."""
        group = f"/storm/{self.name}"
        ids = {name: f"{group}/{name}" for name in "ab"}
        before = {app_id: self.possible.setdefault(app_id, {0}) for app_id in ids.values()}
        groups = self.groups
        for name, app_id in ids.items():
            self.possible[app_id] = before[app_id] | {after[name]}
        self.groups = [*groups, made]
        answer = await self.rest(method, f"/v2/groups{group}?force=true", body)
        if answer.status_code == 404:
            self.possible.update(before)
            self.groups = groups
            return
        assert answer.status_code == 200, (method, group, answer.status_code, answer.text)
        for name, app_id in ids.items():
            self.possible[app_id] = {after[name]}
        self.groups = [made]

    async def _go_back(self) -> None:
        """Make the group what it was at one of its versions."""
        group = f"/storm/{self.name}"
        listed = await self.rest("GET", f"/v2/groups{group}/versions")
        if listed.status_code == 404:
            return
        version = self.chance.choice(listed.json())
        then = await self.rest("GET", f"/v2/groups{group}/versions/{version}")
        if then.status_code == 404:
            return  # it is one too many by now
        counts = {"a": 0, "b": 0} | {
            app["id"].rpartition("/")[2]: app["instances"] for app in then.json()["apps"]
        }
        made = {each["id"].rpartition("/")[2] for each in then.json()["groups"]}
        await self._ask_group("PUT", {"version": version}, counts, made)

    async def _ask(
        self, method: str, app_id: str, query: str, body: Any, after: set[int], before: set[int]
    ) -> None:
        # Until the answer comes both are possible.
        self.possible[app_id] = before | after
        answer = await self.rest(method, f"/v2/apps{app_id}{query}", body)
        if answer.status_code in (404, 409):
            self.possible[app_id] = before
            return
        assert answer.status_code in (200, 201), (method, app_id, answer.status_code, answer.text)
        self.possible[app_id] = after

    async def _kill(self, app_id: str, before: set[int], lower: bool) -> None:
        """Kill up to two tasks, and where asked lower the count by exactly as many."""
        answer = await self.rest("GET", f"/v2/apps{app_id}/tasks")
        if answer.status_code == 404:
            return
        ids = [task["id"] for task in answer.json()["tasks"]][: self.chance.randint(1, 2)]
        if lower:
            self.possible[app_id] = {max(0, count - less) for count in before for less in range(len(ids) + 1)}
        query = f"?scale={str(lower).lower()}&force=true"
        answer = await self.rest("POST", f"/v2/tasks/delete{query}", {"ids": ids})
        assert answer.status_code in (200, 404), answer.text
        if lower:
            found = await self.rest("GET", f"/v2/apps{app_id}")
            self.possible[app_id] = {found.json()["app"]["instances"]} & self.possible[app_id]
            assert self.possible[app_id], f"{app_id} has a count that nobody asked for: {found.text}"


_TASK: dict[str, Any] = {
    "cmd": "exec sleep 600",
    "cpus": TASK_CPUS,
    "mem": 1,
    "env": {},
    "taskKillGracePeriodSeconds": 1,
}


class Storm:
    """Rounds of changes and kills over one backend.

    Parameters
    ----------
    backend
        Not started yet; its options are set so that a leak of cpus or ports shows.
    seed
        Of everything that is left to chance here; what the machine does is not.
    """

    def __init__(self, backend: WarmBackend, seed: int, people: int = 4) -> None:
        self.backend = backend
        self.chance = random.Random(seed)
        self.rest = Rest(backend.url, backend.admin_token)
        self.people = [
            Person(f"p{number}", self.rest, random.Random(self.chance.random())) for number in range(people)
        ]
        program = backend.state_dir.parent / "dask"
        program.write_text(_PROGRAM)
        program.chmod(0o755)
        forked = {**_TASK, "cmd": f"exec {program} worker", "mem": 0, "env": WORKER}
        self.forker = Person("forked", self.rest, random.Random(self.chance.random()), forked)
        self.people.append(self.forker)
        self.kills: Counter[str] = Counter()

    async def rounds(self, count: int) -> None:
        """Kill `count` times, and look after every few of them whether all is well."""
        await self.backend.start()
        for number in range(count):
            if number % WARM_ROUNDS == 0:
                await self._warm_up()
            await self._round()
            if number % 10 == 9 or number == count - 1:
                await self.check()

    @property
    def forked(self) -> int:
        """How many tasks were forked from a template, as the backend tells."""
        return self.backend.log.read_text().count(" it was forked")

    async def _warm_up(self) -> None:
        """See to it that there is a template, which is made when a first task could have been forked."""
        if not await self._is_warm():
            await self.forker.end_group()
            await self.forker.begin()
            await eventually(self._is_warm)

    async def _is_warm(self) -> bool:
        """Whether there is a template, so that tasks which can be forked cost little."""
        found = await self.rest("GET", "/metrics/prometheus")
        return 'hubfleet_template_ready{kind="worker"} 1' in found.text

    async def _round(self) -> None:
        warm = await self._is_warm()
        people = [person for person in self.people if warm or person is not self.forker]
        changing = [asyncio.create_task(person.change_for_ever()) for person in people]
        try:
            await asyncio.sleep(self.chance.uniform(0.0, 0.3))
            victim = self.chance.choices(["backend", "launcher", "both"], [6, 2, 3])[0]
            self.kills[victim] += 1
            if warm and self.chance.random() < 0.2:
                self.kills["template"] += await asyncio.to_thread(self._kill_templates)
            if victim != "backend":
                await asyncio.to_thread(self._kill_launchers)
            if victim == "launcher":
                # Life goes on for a moment without it, and the next round kills again.
                await asyncio.sleep(self.chance.uniform(0.0, 0.2))
            if self.chance.random() < 0.3:
                await asyncio.to_thread(self._kill_some_tasks)
            await self.backend.kill()
            for person in await asyncio.gather(*changing, return_exceptions=True):
                if isinstance(person, BaseException):
                    raise person
        finally:
            for task in changing:
                task.cancel()
        if self.chance.random() < 0.2:
            await asyncio.to_thread(self._kill_some_tasks)
        if self.chance.random() < 0.2:
            # Killed again while it recovers.
            self.kills["backend while it starts"] += 1
            self.backend.begin()
            await asyncio.sleep(self.chance.uniform(0.0, 0.15))
            await self.backend.kill()
        await self.backend.start()

    def _launchers(self) -> list[psutil.Process]:
        found = []
        for process in self.backend.processes():
            with contextlib.suppress(psutil.Error):
                if not task_id_of(process) and "hubfleet_launcher" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def _kill_launchers(self) -> None:
        for process in self._launchers():
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _kill_templates(self) -> int:
        """Kill the templates of the launchers; return how many they were."""
        killed = 0
        for launcher in self._launchers():
            with contextlib.suppress(psutil.Error):
                for child in launcher.children():
                    if "hubfleet: template" in " ".join(child.cmdline()):
                        child.kill()
                        killed += 1
        return killed

    def _kill_some_tasks(self) -> None:
        for process in self.backend.tasks():
            if self.chance.random() < 0.3:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(self.chance.choice([signal.SIGKILL, signal.SIGTERM]))

    async def check(self) -> None:
        """See that everything is as defined and nothing is left over; fail with what is not."""
        deadline = time.monotonic() + SETTLED_SECONDS
        while wrong := await self._wrong():
            assert time.monotonic() < deadline, "\n".join(
                [*wrong, *self.backend.log.read_text().splitlines()[-40:]]
            )
            await asyncio.sleep(0.05)
        await self._check_resources()

    async def _wrong(self) -> list[str]:
        """Return what is not as it must be, at this moment."""
        wrong = []
        if deployments := await self.rest.get("/v2/deployments"):
            wrong.append(f"deployments under way: {deployments}")
        apps = {app["id"]: app for app in (await self.rest.get("/v2/apps?embed=tasks"))["apps"]}
        tasks: Counter[str] = Counter()
        for person in self.people:
            for app_id, possible in person.possible.items():
                found = apps.get(app_id, {}).get("instances", 0)
                if found not in possible:
                    wrong.append(f"{app_id} has {found} instances; it was promised one of {possible}")
                person.possible[app_id] = {found} if found in possible else possible
        for person in self.people:
            shown = await self.rest("GET", f"/v2/groups/storm/{person.name}?embed=group.groups")
            body = shown.json() if shown.status_code == 200 else {"groups": []}
            found = {each["id"].rpartition("/")[2] for each in body["groups"]}
            if found not in person.groups:
                wrong.append(f"{person.name} has the groups {found}; promised was one of {person.groups}")
            else:
                person.groups = [found]
        for app in apps.values():
            ids = [task["id"] for task in app["tasks"] if task["state"] == "TASK_RUNNING"]
            tasks.update(ids)
            if not len(ids) == app["instances"] == len(app["tasks"]):
                wrong.append(f"{app['id']} wants {app['instances']} tasks: {app['tasks']}")
        processes = Counter(map(task_id_of, await asyncio.to_thread(self.backend.tasks)))
        if processes != tasks:
            wrong.append(
                f"tasks without a process: {tasks - processes}; processes without: {processes - tasks}"
            )
        return wrong

    async def _check_resources(self) -> None:
        """See that all cpus and ports that are not in use can be had: nothing is reserved for nobody."""
        apps = (await self.rest.get("/v2/apps?embed=tasks"))["apps"]
        used_cpus = sum(app["cpus"] * app["instances"] for app in apps)
        used_ports = sum(len(task["ports"]) for app in apps for task in app["tasks"])
        free_ports = PORTS - used_ports
        await self.rest.create(
            "/all-the-rest",
            cpus=round(CPUS - used_cpus, 6),
            portDefinitions=[{"port": 0} for _ in range(free_ports)],
            taskKillGracePeriodSeconds=1,
        )
        try:
            await self.rest.running("/all-the-rest")
        except AssertionError as error:
            raise AssertionError(f"not to be had: {await self.rest.get('/v2/queue')}") from error
        answer = await self.rest("DELETE", "/v2/apps/all-the-rest")
        assert answer.status_code == 200, answer.text
        await self.rest.deployed()


def storm_backend(state_dir: Any, first_port: int) -> WarmBackend:
    """Return a backend with exactly as many cpus and ports as the storm counts."""
    return WarmBackend(state_dir, (first_port, first_port + PORTS - 1), cpus=str(CPUS))


def leftovers(backend: WarmBackend) -> list[int]:
    """Return the processes that work for a backend although it has ended and no app was left."""
    return [process.pid for process in backend.processes() if process.pid != os.getpid()]

"""What tasks wrote and what happened to them, over the API: while they run, and after their end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import re
import threading

import pytest
import requests
import urllib3
from conftest import RunningBackend
from rest import Rest, eventually

from hubfleet.api.errors import NotFound


async def first_task(rest: Rest, app_id: str) -> str:
    found: str = (await rest.running(app_id))[0]["id"]
    return found


async def read(rest: Rest, task_id: str, query: str = "", name: str = "stdout") -> str:
    answer = await rest("GET", f"/v2/tasks/{task_id}/files/{name}{query}")
    assert answer.status_code in (200, 206), answer.text
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return answer.text


async def ended_tasks(rest: Rest, app_id: str, count: int) -> list[str]:
    async def so_many() -> list[str]:
        found = (await rest.get(f"/v2/history/apps{app_id}"))["endedTasks"]
        return [task["id"] for task in found] if len(found) >= count else []

    return await eventually(so_many)


async def test_output_is_read_as_a_whole_in_parts_and_from_its_end(shared_rest: Rest) -> None:
    await shared_rest.create("/parts", cmd="seq 1000; echo wrong >&2; printf '\\377é'; exec sleep 300")
    task_id = await first_task(shared_rest, "/parts")
    whole = "".join(f"{number}\n" for number in range(1, 1001)) + "\ufffdé"

    async def written() -> bool:
        return await read(shared_rest, task_id) == whole

    await eventually(written)
    assert await read(shared_rest, task_id, name="stderr") == "wrong\n"
    assert await read(shared_rest, task_id, "?offset=2&length=4") == "2\n3\n"
    assert await read(shared_rest, task_id, "?offset=-8") == "1000\n\ufffdé"
    assert await read(shared_rest, task_id, "?offset=-8&length=4") == "1000"
    assert await read(shared_rest, task_id, "?tail=2") == "1000\n\ufffdé"
    assert await read(shared_rest, task_id, "?tail=0") == ""
    assert await read(shared_rest, task_id, "?tail=100000") == whole
    assert await read(shared_rest, task_id, "?offset=100000") == ""
    path = f"/v2/tasks/{task_id}/files/stdout"
    size = len(whole.encode()) - 2  # the odd byte is one, its sign takes three
    for asked, shown, place in (("0-1", "1\n", "0-1"), ("-3", "\ufffdé", f"{size - 3}-{size - 1}")):
        answer = await shared_rest("GET", path, headers={"Range": f"bytes={asked}"})
        assert (answer.status_code, answer.text) == (206, shown)
        assert answer.headers["Content-Range"] == f"bytes {place}/{size}"
    assert (await shared_rest("GET", path, headers={"Range": "bytes=99999-"})).status_code == 416
    answer = await shared_rest("HEAD", path)
    assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(size))


@pytest.mark.parametrize("query", ["tail=x", "tail=-1", "offset=1e3", "length=-5", f"offset={'9' * 30}"])
async def test_a_part_that_makes_no_sense_is_refused(shared_rest: Rest, query: str) -> None:
    await shared_rest.create(f"/refused-{abs(hash(query))}")
    task_id = await first_task(shared_rest, f"/refused-{abs(hash(query))}")
    answer = await shared_rest("GET", f"/v2/tasks/{task_id}/files/stdout?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["message"]


async def test_what_is_not_there_is_404(shared_rest: Rest, shared: RunningBackend) -> None:
    await shared_rest.create("/there")
    task_id = await first_task(shared_rest, "/there")
    for path in (
        f"/v2/tasks/{task_id}/files/passwd",
        f"/v2/tasks/{task_id}/files/..%2F..%2Ftoken",
        f"/v2/tasks/..%2F{task_id}/files/stdout",
        "/v2/tasks/no.instance-1._app.1/files/stdout",
        "/v2/tasks/no.instance-1._app.1/history",
        "/v2/tasks/../files/stdout",
        "/v2/history/apps/no",
    ):
        assert (await shared_rest("GET", path)).status_code == 404, path
    with pytest.raises(NotFound):
        await shared.client.task_output("no.instance-1._app.1")


async def test_the_history_of_a_task_reads_as_a_story(shared_rest: Rest, shared: RunningBackend) -> None:
    await shared_rest.create("/story", cmd="echo last words >&2; exit 3", backoffSeconds=300)
    (task_id,) = await ended_tasks(shared_rest, "/story", 1)
    events = await shared.client.task_history(task_id)
    place, *rest = [event.message for event in events]
    before, _, port = place.rpartition(" ")
    assert before == "Placed on 127.0.0.1 with the ports"
    assert int(port) in range(shared.ports[0], shared.ports[1] + 1)
    assert rest[:2] == ["Started", "Terminated: exit code 3"]
    assert re.match(r"Restarting in (300|2\d\d)\.\d s: Command exited", rest[2])
    assert {(event.app_id, event.task_id) for event in events} == {("/story", task_id)}
    of_app = await shared.client.app_history("/story")
    assert of_app.history == events
    assert [(task.state, task.message) for task in of_app.ended_tasks] == [
        ("TASK_FAILED", "Command exited with status 3")
    ]
    assert await shared.client.task_output(task_id, "stderr", tail=1) == "last words\n"


async def test_the_output_of_ended_tasks_is_kept_past_the_app_and_a_restart(
    rest: Rest, backend: RunningBackend
) -> None:
    await rest.create("/kept", cmd="echo said; mkdir made; touch made/file link; exec sleep 300")
    task_id = await first_task(rest, "/kept")
    sandbox = backend.state_dir / "sandboxes" / task_id
    await eventually(lambda: asyncio.sleep(0, (sandbox / "link").exists()))
    await rest("DELETE", "/v2/apps/kept")
    await rest.deployed()
    await eventually(
        lambda: asyncio.sleep(0, {path.name for path in sandbox.iterdir()} == {"stdout", "stderr"})
    )
    orphan = backend.state_dir / "sandboxes" / "orphan.instance-1._app.1"
    await backend.kill()
    orphan.mkdir()
    (orphan / "file").touch()
    (sandbox / "late").touch()
    await backend.start()
    assert await read(rest, task_id) == "said\n"
    messages = [event["message"] for event in (await rest.get(f"/v2/tasks/{task_id}/history"))["history"]]
    assert messages[1:] == ["Started", "Ending: it is not wanted any more", "Killed"]
    await eventually(lambda: asyncio.sleep(0, not orphan.exists() and not (sandbox / "late").exists()))


async def test_only_the_last_ended_tasks_of_an_app_are_kept(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/many", cmd="echo said", backoffSeconds=0.01, backoffFactor=1)

    async def restarted() -> bool:
        there = [path.name for path in (backend.state_dir / "sandboxes").iterdir()]
        return max((int(task.rpartition(".")[2]) for task in there), default=0) >= 8

    await eventually(restarted)
    await rest("DELETE", "/v2/apps/many")
    await rest.deployed()

    async def five() -> bool:
        kept = {path.name for path in (backend.state_dir / "sandboxes").iterdir()}
        return kept == set(await ended_tasks(rest, "/many", 1)) and len(kept) == 5

    await eventually(five)


async def test_what_a_task_writes_is_followed_to_its_end(shared_rest: Rest, shared: RunningBackend) -> None:
    await shared_rest.create("/followed", cmd="echo one; while [ ! -e go ]; do sleep 0.05; done; echo two")
    task_id = await first_task(shared_rest, "/followed")
    following = asyncio.create_task(read(shared_rest, task_id, "?follow=true"))
    (shared.state_dir / "sandboxes" / task_id / "go").touch()
    assert await following == "one\ntwo\n"


async def test_following_goes_on_where_a_killed_backend_left_off(rest: Rest, backend: RunningBackend) -> None:
    await rest.create("/followed", cmd="i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done")
    task_id = await first_task(rest, "/followed")
    path = f"{backend.url}/v2/tasks/{task_id}/files/stdout"

    began = threading.Event()

    def follow(offset: int, least: int) -> bytes:
        heard = b""
        query = {"follow": "true", "offset": str(offset)}
        with requests.get(path, params=query, headers=rest.headers, stream=True, timeout=60) as answer:
            while len(heard) < least and (chunk := answer.raw.read1(4096)):
                heard += chunk
                began.set()
        return heard

    heard = await asyncio.to_thread(follow, 0, 30)
    began.clear()
    following = asyncio.create_task(asyncio.to_thread(follow, len(heard), 1 << 30))
    assert await asyncio.to_thread(began.wait, 60)
    await backend.kill()
    # urllib3's own, since the raw stream is read; what came before it is asked for again.
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        heard += await following
    await backend.start()
    heard += await asyncio.to_thread(follow, len(heard), 30)
    numbers = [int(line) for line in heard.split(b"\n")[:-1]]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run tasks as another account")
async def test_the_output_of_another_account_is_read_by_those_who_see_the_app(shared_rest: Rest) -> None:
    await shared_rest.create("/as-nobody", cmd="id -un; exec sleep 300", user=pwd.getpwnam("nobody").pw_name)
    task_id = await first_task(shared_rest, "/as-nobody")

    async def written() -> bool:
        return await read(shared_rest, task_id) == "nobody\n"

    await eventually(written)

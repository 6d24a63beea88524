"""Files are brought into the sandbox before a task starts: real servers, real archives, real kills."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import RunningBackend, task_id_of
from rest import Rest, eventually

from hubfleet.backend.unpacking import Budget, TooMuch, unpack

AS_ROOT = os.geteuid() == 0
HELD = threading.Event()


def tar(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


FILES = {
    "/plain.txt": b"plain\n",
    "/tool": b"#!/bin/sh\necho tool ran\n",
    "/some.tar.gz": tar(inner=b"from the tar\n"),
    "/some.zip": zipped(zipped=b"from the zip\n"),
    "/climbing.tgz": tar(**{"../../climbed": b"x"}),
    "/climbing.zip": zipped(**{"../../climbed": b"x"}),
    "/broken.tar.gz": b"no archive",
    "/bomb.zip": zipped(zeros=bytes(40 << 20)),
}


class Files(BaseHTTPRequestHandler):
    failures = 2

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/held":
            HELD.wait(300)
        if path == "/shaky" and Files.failures > 0:
            Files.failures -= 1
            self.send_error(503)
            return
        content = {**FILES, "/held": b"held\n", "/shaky": b"at last\n"}.get(path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    HELD.set()
    server.shutdown()


async def said(rest: Rest, app_id: str, last: str) -> str:
    (task,) = await rest.running(app_id)

    async def read() -> str:
        found = (await rest("GET", f"/v2/tasks/{task['id']}/files/stdout")).text
        return found if found.endswith(last) else ""

    return await eventually(read)


async def told(rest: Rest, app_id: str, part: str) -> list[str]:
    async def messages() -> list[str]:
        found = [event["message"] for event in (await rest.get(f"/v2/history/apps{app_id}"))["history"]]
        return found if any(part in message for message in found) else []

    return await eventually(messages)


async def test_files_are_there_before_the_command_runs(shared_rest: Rest, files: str) -> None:
    fetch = [
        {"uri": f"{files}/plain.txt?token=secret"},
        {"uri": f"{files}/tool", "executable": True},
        {"uri": f"{files}/some.tar.gz"},
        {"uri": f"{files}/some.zip", "destPath": "deep/down.zip"},
        {"uri": f"{files}/some.tar.gz", "extract": False, "destPath": "kept.tar.gz"},
        {"uri": f"{files}/shaky"},
    ]
    cmd = "cat plain.txt inner deep/zipped shaky; ./tool; wc -c < kept.tar.gz; echo end; exec sleep 300"
    await shared_rest.create("/fetched", cmd=cmd, fetch=fetch)
    text = await said(shared_rest, "/fetched", "end\n")
    size = len(FILES["/some.tar.gz"])
    assert text == f"plain\nfrom the tar\nfrom the zip\nat last\ntool ran\n{size}\nend\n"
    messages = await told(shared_rest, "/fetched", "Started")
    assert messages[1].startswith(f"Fetching {files}/plain.txt, {files}/tool, ")
    assert "secret" not in "".join(messages)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ({"uri": "/none.txt"}, "404 Not Found"),
        ({"uri": "/broken.tar.gz"}, "cannot be unpacked"),
        ({"uri": "/climbing.tgz"}, "outside"),
        ({"uri": "/climbing.zip"}, "outside"),
        ({"uri": "/plain.txt", "destPath": "../climbed"}, "no place for a file within the sandbox"),
        ({"uri": "/plain.txt", "destPath": "/tmp/climbed"}, "no place for a file within the sandbox"),
    ],
)
async def test_what_cannot_be_had_is_the_failure_of_the_task(
    shared_rest: Rest, shared: RunningBackend, files: str, entry: dict[str, str], reason: str
) -> None:
    app_id = f"/failing-{abs(hash(str(entry)))}"
    await shared_rest.create(app_id, fetch=[{**entry, "uri": files + entry["uri"]}], backoffSeconds=300)
    messages = await told(shared_rest, app_id, "Restarting in")
    assert any(message.startswith("Failed: cannot fetch") and reason in message for message in messages)
    failure = (await shared_rest.app(app_id))["lastTaskFailure"]
    assert failure["state"] == "TASK_FAILED"
    assert reason in failure["message"]
    # What is removed meanwhile is no matter to `walk`, as it is to `glob`.
    assert not [place for place, _, names in os.walk(shared.state_dir) if "climbed" in names]
    await shared_rest("DELETE", f"/v2/apps{app_id}")


@pytest.mark.skipif(not AS_ROOT, reason="only root can run tasks as another account")
async def test_fetching_reads_no_file_that_the_account_could_not(
    shared_rest: Rest, shared: RunningBackend
) -> None:
    secret = f"file://{shared.state_dir}/backend.sqlite"
    await shared_rest.create("/spying", fetch=[{"uri": secret}], user="nobody", backoffSeconds=300)
    messages = await told(shared_rest, "/spying", "Restarting in")
    assert any(message.startswith(("Failed", "Not started")) for message in messages)
    assert not list(shared.state_dir.glob("sandboxes/spying*/backend.sqlite"))
    await shared_rest("DELETE", "/v2/apps/spying")


def test_what_unpacks_to_more_than_there_may_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb").write_bytes(FILES["/bomb.zip"])
    with pytest.raises(TooMuch, match="8 MiB"):
        unpack(str(tmp_path / "bomb"), str(tmp_path / "bomb.zip"), Budget(8 << 20))
    assert (tmp_path / "zeros").stat().st_size <= 8 << 20


async def test_a_kill_while_files_are_fetched_works_at_once(
    shared_rest: Rest, shared: RunningBackend, files: str
) -> None:
    HELD.clear()
    await shared_rest.create("/held", fetch=[{"uri": f"{files}/held"}])
    await told(shared_rest, "/held", "Fetching")
    await shared_rest("DELETE", "/v2/apps/held")
    await shared_rest.deployed()
    assert not [each for each in map(task_id_of, shared.tasks()) if each.startswith("held.instance")]


async def test_a_backend_killed_while_files_are_fetched_goes_on(
    rest: Rest, backend: RunningBackend, files: str
) -> None:
    HELD.clear()
    await rest.create("/held", cmd="cat held; exec sleep 300", fetch=[{"uri": f"{files}/held"}])
    await eventually(lambda: asyncio.to_thread(backend.tasks))
    await backend.kill()
    await backend.start()
    assert (await rest.tasks("/held"))[0]["state"] == "TASK_STAGING"
    await backend.kill()
    HELD.set()
    await eventually(lambda: asyncio.to_thread(lambda: not backend.tasks()))
    await backend.start()
    assert await said(rest, "/held", "held\n") == "held\n"

    async def only_sleeps() -> bool:
        return len(await asyncio.to_thread(backend.tasks)) == 1

    await eventually(only_sleeps)


def test_what_is_too_late_names_what_was_in_the_way(tmp_path: Path) -> None:
    fetched = subprocess.run(
        [sys.executable, "-I", "-m", "hubfleet.backend.fetcher"],
        env={
            "HUBFLEET_FETCH_SECONDS": "3",
            "HUBFLEET_FETCH_MIB": "1",
            "HUBFLEET_FETCH_0": json.dumps({"uri": "http://user:secret@127.0.0.1:9/x.zip?key=secret"}),
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert fetched.returncode == 1
    assert fetched.stderr.splitlines()[-1] == (
        "fetch: fetching took longer than 3 s; cannot fetch http://127.0.0.1:9/x.zip: Connection refused"
    )
    assert "secret" not in fetched.stderr

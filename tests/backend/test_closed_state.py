"""What is below the state directory is closed to other accounts of the machine, while tasks run."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from conftest import RunningBackend
from rest import Rest, eventually

AS_ROOT = os.geteuid() == 0
SECRET = "secret-of-the-closed-state"


@pytest.fixture
async def open_place(port_range: tuple[int, int]) -> AsyncIterator[RunningBackend]:
    """A backend whose state is in a directory that everybody can enter, as pytest's own is not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        running = RunningBackend(Path(folder) / "state", port_range)
        try:
            await running.start()
            yield running
        finally:
            await running.destroy()


def below(folder: Path) -> list[Path]:
    """The directory and everything in it, at any depth; what goes away meanwhile is left out."""
    inside = os.walk(folder)
    return [folder, *(Path(place, name) for place, dirs, files in inside for name in (*dirs, *files))]


@contextmanager
def account(name: str) -> Iterator[None]:
    """Be somebody else, with no rights but theirs."""
    entry, groups = pwd.getpwnam(name), os.getgroups()
    os.setgroups([])
    os.setegid(entry.pw_gid)
    os.seteuid(entry.pw_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def is_open_to_me(path: Path) -> bool:
    """Whether this account can read, list, write or connect to a path."""
    with suppress(OSError):
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
        return True
    with suppress(OSError):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW))
        return True
    with suppress(OSError):
        os.listdir(path)
        return True
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        return True
    with suppress(OSError):
        (path / "made-by-somebody-else").touch()
        return True
    return False


def modes_let_others_in(path: Path, top: Path) -> bool:
    """Whether the modes alone let another account reach a path, and do something with it."""
    for place in path.parents:
        if place.is_relative_to(top) and not place.stat().st_mode & stat.S_IXOTH:
            return False
    mode = path.lstat().st_mode
    return not stat.S_ISLNK(mode) and bool(mode & (stat.S_IROTH | stat.S_IWOTH))


async def test_another_account_reads_nothing_below_the_state_directory(open_place: RunningBackend) -> None:
    backend, rest = open_place, Rest(open_place.url, open_place.admin_token)
    cmd = "umask 0; echo $SECRET; echo mine > file; mkdir inside; echo deep > inside/file; exec sleep 600"
    # Of a task's own files the modes are its own affair: what closes them is above.
    apps = {"/own": {}, "/other": {"user": "nobody"}} if AS_ROOT else {"/own": {}}
    for app_id, fields in apps.items():
        await rest.create(app_id, cmd=cmd, env={"SECRET": SECRET}, **fields)
        await rest.running(app_id)

    async def written() -> bool:
        return len(list(backend.state_dir.glob("sandboxes/*/inside/file"))) == len(apps)

    await eventually(written)
    paths = below(backend.state_dir)
    names = {path.name for path in paths}
    assert {"backend.sqlite", "launcher.journal", "launcher.sock", "stdout", "stderr", "inside"} <= names
    there = [path for path in paths if os.path.lexists(path)]
    assert [path for path in there if modes_let_others_in(path, backend.state_dir)] == []
    if AS_ROOT:
        with account("daemon"):
            found = [path for path in there if is_open_to_me(path)]
        assert found == []
        # Who has a task reaches its sandbox, and nothing else.
        with account("nobody"):
            found = [path for path in there if is_open_to_me(path)]
        assert {path.relative_to(backend.state_dir).parts[1].split(".")[0] for path in found} == {"other"}


async def test_no_secret_is_in_the_arguments_of_a_process(open_place: RunningBackend) -> None:
    rest = Rest(open_place.url, open_place.admin_token)
    await rest.create("/secret", env={"SECRET": SECRET})
    await rest.running("/secret")
    assert open_place.process is not None
    pid = open_place.process.pid

    async def lines_of_all() -> list[str]:
        lines = []
        for process in (psutil.Process(pid), *open_place.processes()):
            with suppress(psutil.Error):  # gone meanwhile
                lines.append(" ".join(process.cmdline()))
        # A process that is just becoming another program shows nothing for a moment.
        return lines if len(lines) >= 3 else []

    lines = await eventually(lines_of_all)
    assert not [line for line in lines if SECRET in line or open_place.admin_token in line]

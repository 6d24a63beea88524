"""Tasks see parts of the host at other places, without anything being made there that they could not make."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from driving import DEADLINE, Site, next_exit, wait_until
from launching import kill_all_below
from rest import Rest

from hubfleet.backend.drivers import Mount, StartRefused, prepare
from hubfleet.backend.drivers.process import ProcessDriver

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run tasks as another account")


async def open_with_mounts(site: Site) -> ProcessDriver:
    driver = await site.open()
    if "mounts" not in driver._client.features:
        pytest.skip("no mount namespace can be made here")
    return driver


def holds(file: Path) -> bool:
    return file.exists() and bool(file.read_text())


@pytest.fixture
def shared_data(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:
        if parent.owner() == pwd.getpwuid(os.geteuid()).pw_name and str(parent).startswith("/tmp/"):
            parent.chmod(0o711)
    data = tmp_path / "data"
    data.mkdir()
    (data / "word").write_text("found")
    data.chmod(0o777)
    return data


@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=as_root)])
async def test_a_path_is_seen_elsewhere_though_its_place_is_not_on_the_host(
    site: Site, shared_data: Path, user: str | None
) -> None:
    driver = await open_with_mounts(site)
    places = ["/no-such-place/deep/work", "/usr/share/no-such-place/work", "here/work"]
    mounts = [Mount(str(shared_data), place) for place in places]
    look = "cat $p/word && touch $p/by-task || exit 1"
    script = f"for p in {' '.join(places)}; do {look}; done; id -un; pwd; ls -A /"
    task = site.spec("a", script, mounts=mounts, user=user)
    await driver.start(task)
    ended = await next_exit(driver)
    said = (task.sandbox / "stdout").read_text().split()
    assert ended.exit_code == 0, (task.sandbox / "stderr").read_text()
    assert said[0] == "found" * 3 + (user or pwd.getpwuid(os.geteuid()).pw_name)
    assert said[1] == str(task.sandbox)
    assert set(os.listdir("/")) < set(said[2:])
    assert (shared_data / "by-task").exists()
    assert not Path("/no-such-place").exists()
    assert not Path("/usr/share/no-such-place").exists()


@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=as_root)])
async def test_a_volume_in_a_volume_leaves_the_outer_one_writable(
    site: Site, shared_data: Path, tmp_path: Path, user: str | None
) -> None:
    """As a home of one's own, with what all share in it."""
    driver = await open_with_mounts(site)
    home, place = tmp_path / "home", "/no-such-place/me"
    home.mkdir()
    if user is not None:
        shutil.chown(home, user)
    mounts = [Mount(str(shared_data), f"{place}/shared", read_only=True), Mount(str(home), place)]
    script = f"cd {place} && cat shared/word && echo own > mine && ! touch shared/new"
    task = site.spec("a", script, mounts=mounts, user=user)
    await driver.start(task)
    assert (await next_exit(driver)).exit_code == 0, (task.sandbox / "stderr").read_text()
    assert sorted(os.listdir(home)) == ["mine", "shared"]


@as_root
async def test_a_link_in_a_volume_leads_root_nowhere_else(
    site: Site, shared_data: Path, tmp_path: Path
) -> None:
    driver = await open_with_mounts(site)
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    elsewhere.mkdir()
    home.mkdir()
    (home / "link").symlink_to(elsewhere)
    mounts = [Mount(str(home), "/no-such-place/me"), Mount(str(shared_data), "/no-such-place/me/link/in")]
    task = site.spec("a", "cat /no-such-place/me/link/in/word", mounts=mounts)
    await driver.start(task)
    assert (await next_exit(driver)).exit_code == 0, (task.sandbox / "stderr").read_text()
    assert os.listdir(elsewhere) == []


async def test_what_is_mounted_read_only_cannot_be_written(site: Site, shared_data: Path) -> None:
    driver = await open_with_mounts(site)
    mounts = [Mount(str(shared_data), "ro", read_only=True), Mount(str(shared_data / "word"), "file", True)]
    script = (
        "cat ro/word file; touch ro/new || echo kept; echo lost > file || echo kept; rm ro/word || echo kept"
    )
    task = site.spec("a", script, mounts=mounts)
    await driver.start(task)
    await next_exit(driver)
    assert (task.sandbox / "stdout").read_text().split() == ["foundfoundkept", "kept", "kept"]
    assert os.listdir(shared_data) == ["word"]
    assert (shared_data / "word").read_text() == "found"


@as_root
async def test_a_mount_opens_nothing_that_the_account_cannot_reach(site: Site, tmp_path: Path) -> None:
    driver = await open_with_mounts(site)
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    task = site.spec("a", "ls in", user="nobody", mounts=[Mount(str(closed / "inner"), "in")])
    with pytest.raises(StartRefused, match="inner cannot be mounted: Permission denied"):
        await driver.start(task)


@as_root
async def test_a_faked_list_of_groups_gives_no_group(site: Site, shared_data: Path) -> None:
    """Accounts are looked up before anything is mounted, and no program gains privileges afterwards."""
    driver = await open_with_mounts(site)
    faked = shared_data / "group"
    faked.write_text(Path("/etc/group").read_text() + "wished:x:4242:nobody\n")
    script = "grep Groups /proc/self/status; grep NoNewPrivs /proc/self/status"
    task = site.spec("a", script, user="nobody", mounts=[Mount(str(faked), "/etc/group")])
    await driver.start(task)
    await next_exit(driver)
    groups, privileges = (task.sandbox / "stdout").read_text().splitlines()
    assert "4242" not in groups
    assert privileges.split()[-1] == "1"


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [
        ("/no-such-source", "in", "host path /no-such-source cannot be mounted: No such file"),
        ("/etc", "/", "would cover the task's sandbox"),
        ("/etc", "../out", "leads out of the sandbox"),
        ("/etc", "/etc/passwd", "one is a directory, one is not"),
    ],
)
async def test_what_cannot_be_mounted_is_refused_with_a_sentence(
    site: Site, source: str, target: str, sentence: str
) -> None:
    driver = await open_with_mounts(site)
    with pytest.raises(StartRefused, match=sentence):
        await driver.start(site.spec("a", "true", mounts=[Mount(source, target)]))


async def test_a_command_beside_a_task_sees_what_it_sees(site: Site, shared_data: Path) -> None:
    driver = await open_with_mounts(site)
    mounts = [Mount(str(shared_data), "/no-such-place/work")]
    task = site.spec("a", "echo up; exec sleep 60", mounts=mounts)
    await driver.start(task)
    await wait_until(partial(holds, task.sandbox / "stdout"), "it runs")
    assert await driver.execute(task, ["grep", "found", "/no-such-place/work/word"], DEADLINE) == 0


async def test_volumes_of_an_app_are_mounted_and_others_refused(shared_rest: Rest, shared_data: Path) -> None:
    volume = {"hostPath": str(shared_data), "containerPath": "/no-such-place/work", "mode": "RO"}
    container = {"type": "MESOS", "volumes": [volume]}
    await shared_rest.create(
        "/mounted", "cat /no-such-place/work/word && exec sleep 600", container=container
    )
    await shared_rest.running("/mounted")
    body = {
        "id": "/relative",
        "cmd": "true",
        "container": {"type": "MESOS", "volumes": [{**volume, "hostPath": "x"}]},
    }
    response = await shared_rest("POST", "/v2/apps", body)
    assert response.status_code == 422
    assert "must be absolute" in response.text


@as_root
@pytest.mark.skipif(not os.access("/usr/bin/python3", os.X_OK), reason="no interpreter for all accounts")
def test_without_root_a_launcher_mounts_in_a_user_namespace_and_guards_memory() -> None:
    """With the system's interpreter and a copy of the launcher's files, which another account can read."""
    place = Path("/tmp") / f"hubfleet-test-{uuid.uuid4().hex}"
    state = place / "state"
    try:
        shutil.copytree(Path(prepare.__file__).parent, place / "launch", ignore=shutil.ignore_patterns("__*"))
        (place / "data").mkdir()
        (place / "data" / "word").write_text("found\n")
        place.chmod(0o777)
        command = ["/usr/bin/python3", "-m", "launch.launcher", "--without-groups", str(state)]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(DEADLINE)
            while True:
                subprocess.run(
                    command, check=True, cwd=place, user="nobody", group="nogroup", timeout=DEADLINE
                )
                # It leaves after a second without a client, which a busy machine may let pass.
                with suppress(ConnectionRefusedError, FileNotFoundError):
                    connection.connect(str(state / "launcher.sock"))
                    break
            lines = connection.makefile("rb")

            def ask(verb: str, **fields: object) -> None:
                connection.sendall(json.dumps({"id": 1, "verb": verb, **fields}).encode() + b"\n")

            def order(name: str, *command: str, **fields: object) -> dict[str, object]:
                sandbox = str(state / "sandboxes" / name)
                environment = {"PATH": "/usr/bin:/bin"}
                return {
                    **{"task_id": name, "command": command, "environment": environment, "sandbox": sandbox},
                    **fields,
                }

            def until(key: str) -> dict[str, object]:
                while key not in (message := json.loads(lines.readline())):
                    assert "error" not in message, message
                return dict(message[key])

            ask("hello")
            if "mounts" not in until("ok")["features"]:  # type: ignore[operator]
                pytest.skip("this machine allows no user namespaces")
            mount = {
                "host_path": str(place / "data"),
                "container_path": "/no-such-place/in",
                "read_only": True,
            }
            script = "cat /no-such-place/in/word; touch /no-such-place/in/new || id -un; exit 7"
            ask("start", **order("a", "sh", "-c", script, mounts=[mount]))
            assert until("exit")["exit_code"] == 7
            assert (state / "sandboxes" / "a" / "stdout").read_text() == "found\nnobody\n"
            greedy = "import time; x = bytearray(b'x' * (80 << 20)); time.sleep(60)"
            ask("start", **order("b", "/usr/bin/python3", "-c", greedy, mem=48))
            ended = until("exit")
            assert ended["signal"] == signal.SIGKILL
            assert str(ended["excess"]).endswith(" MiB of 48 MiB")
    finally:
        kill_all_below(place)
        shutil.rmtree(place)


@as_root
async def test_a_command_beside_a_task_in_a_namespace_of_its_own_making_is_not_root(
    site: Site, tmp_path: Path
) -> None:
    """In a namespace of the account's own, root is no longer called so, but still is."""
    driver = await site.open()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    secret.chmod(0o600)
    for number, how in enumerate(["--user", "--user --mount", "--user --mount --map-root-user"]):
        # Where accounts may make none there is nothing to enter, and all below holds too.
        script = (
            f"chmod 755 .; unshare {how} true && exec unshare {how} sh -c 'echo own; exec sleep 60';"
            "echo none; exec sleep 60"
        )
        task = site.spec(f"a{number}", script, user="nobody")
        await driver.start(task)
        await wait_until(partial(holds, task.sandbox / "stdout"), "it runs")
        own_view = "--mount" in how and (task.sandbox / "stdout").read_text() == "own\n"
        for command in (f"cat {secret}", f"echo changed > {secret}"):
            assert await driver.execute(task, ["sh", "-c", command], DEADLINE) not in (0, None)
        is_itself = f"test $(id -u) = {pwd.getpwnam('nobody').pw_uid}"
        gains_nothing = f"{is_itself} && grep -q 'NoNewPrivs:.1' /proc/self/status"
        right = gains_nothing if own_view else is_itself
        assert await driver.execute(task, ["sh", "-c", right], DEADLINE) == 0
    assert secret.read_text() == "secret"

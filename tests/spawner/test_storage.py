"""Servers that JupyterHub deletes or renames for good: what becomes of their apps and their storage."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from hubfleet.spawner.errors import StartRefused
from hubfleet.spawner.storage import belongs_to, delete_command, move_command


@pytest.mark.parametrize(
    ("template", "of_user", "of_server"),
    [
        ("/srv/homes/{username}", True, False),
        ("/srv/homes/{username}/{servername}", True, True),
        ("/srv/{user_server}", True, True),
        ("/srv/shared", False, False),
        ("/srv/{servername}", False, False),
        ("", False, False),
    ],
)
def test_only_what_is_somebodys_alone_is_ever_deleted(template: str, of_user: bool, of_server: bool) -> None:
    assert belongs_to(template, "") is of_user
    assert belongs_to(template, "second") is of_server


def test_a_deletion_goes_through_no_link(tmp_path: Path) -> None:
    home, mount, others = tmp_path / "ho me", tmp_path / "mount", tmp_path / "others"
    for folder in (home, mount, others):
        folder.mkdir()
        (folder / "file").touch()
        (folder / "link").symlink_to(others)
    subprocess.run(["/bin/sh", "-c", delete_command(str(home), [str(mount)])], check=True)
    assert not home.exists()
    assert not list(mount.iterdir())
    assert (others / "file").exists()


def test_a_move_overwrites_nothing(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"

    def move() -> int:
        return subprocess.run(["/bin/sh", "-c", move_command([(str(old), str(new))])]).returncode

    assert move() == 0, "there is nothing to move"
    old.mkdir()
    (old / "kept").touch()
    assert move() == 0
    assert (new / "kept").exists()
    old.mkdir()
    assert move() != 0
    assert old.exists()


async def homes(hub: Any, tmp_path: Path, *servers: str) -> tuple[Any, Path]:
    """Start and stop servers of alice and bob, so that each has a home."""
    root = tmp_path / "homes"
    hub.config.MarathonSpawner.home_dir = f"{root}/{{username}}/{{server_segment}}"
    users = [hub.user(name) for name in ("alice", "bob")]
    for user in users:
        for server in servers:
            if server:
                hub.spawner(user.name, server)
            await user.spawn(server)
            await user.stop(server)
    return users[0], root


async def test_a_deleted_server_takes_its_own_home_with_it_and_no_other(
    hub: Any, backend: Any, tmp_path: Path
) -> None:
    hub.config.MarathonSpawner.delete_storage = True
    alice, root = await homes(hub, tmp_path, "first", "second")
    await alice._delete_spawner("second")
    assert sorted(path.name for path in (root / "alice").iterdir()) == ["first"]
    await alice.delete_spawners()
    assert not any((root / "alice").glob("*"))
    assert sorted(path.name for path in (root / "bob").iterdir()) == ["first", "second"]
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_a_deleted_users_volume_is_emptied_and_a_shared_one_is_not(
    hub: Any, backend: Any, tmp_path: Path
) -> None:
    places = {"mine": "/srv/of/{username}", "all": "/srv/shared"}
    hub.config.MarathonSpawner.volumes = [
        {"containerPath": f"/{name}", "hostPath": f"{tmp_path}{place}", "mode": "RW"}
        for name, place in places.items()
    ]
    hub.config.MarathonSpawner.delete_storage = True
    for place in ("of/alice", "of/bob", "shared"):
        (tmp_path / "srv" / place / "folder").mkdir(parents=True)
    await hub.spawner("alice").delete_forever()
    assert not list((tmp_path / "srv" / "of" / "alice").iterdir())
    assert (tmp_path / "srv" / "of" / "bob" / "folder").exists()
    assert (tmp_path / "srv" / "shared" / "folder").exists()


async def test_storage_stays_unless_it_is_configured_to_go(hub: Any, backend: Any, tmp_path: Path) -> None:
    alice, root = await homes(hub, tmp_path, "first")
    await alice.delete_spawners()
    assert (root / "alice" / "first").exists()
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_storage_that_cannot_be_deleted_is_named_in_the_log(
    hub: Any, backend: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hub.config.MarathonSpawner.update({"delete_storage": True, "marathon_constraints": [["hostname", "NO"]]})
    hub.config.MarathonSpawner.home_dir = str(tmp_path / "{username}")
    with caplog.at_level("ERROR"):
        await hub.spawner("alice").delete_forever()
    assert f"({tmp_path}/alice) is not deleted" in caplog.text


async def test_a_renamed_server_finds_its_home(hub: Any, backend: Any, tmp_path: Path) -> None:
    alice, root = await homes(hub, tmp_path, "first")
    (root / "alice" / "first" / "notebook.ipynb").touch()
    await alice.spawners["first"].rename("first", "renamed")
    assert (root / "alice" / "renamed" / "notebook.ipynb").exists()
    assert not (root / "alice" / "first").exists()
    await hub.eventually(lambda: hub.nothing_left(backend))


async def test_a_server_whose_storage_cannot_be_moved_keeps_its_name(
    hub: Any, backend: Any, tmp_path: Path
) -> None:
    alice, root = await homes(hub, tmp_path, "first", "second")
    with pytest.raises(StartRefused, match="keeps its name") as refused:
        await alice.spawners["first"].rename("first", "second")
    assert refused.value.status_code == 409
    assert (root / "alice" / "first").exists()


async def test_a_home_of_all_servers_needs_no_move(small_hub: Any) -> None:
    small_hub.config.MarathonSpawner.home_dir = "/srv/homes/{username}"
    await small_hub.spawner("alice", "first").rename("first", "renamed")

"""A backend works with a launcher of another version, which still has tasks, or says that it cannot."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from driving import Site, lives
from warm_templates import BASE, Warm, about, run

from hubfleet.backend.drivers import DriverError, launcher_client, launcher_server

Edit = Callable[[str, str, str], None]


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Warm]:
    site = Warm(tmp_path / "state")
    site.home.mkdir()
    yield site
    await site.close()


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Edit:
    """Have launchers started from a copy of their package; change a file of that as an upgrade does."""
    ours, copy = Path(launcher_client.__file__).parent, tmp_path / "another-version"
    shutil.copytree(ours, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(launcher_client, "__file__", str(copy / "launcher_client.py"))

    def replace(name: str, old: str, new: str) -> None:
        text = (copy / name).read_text()
        assert old in text
        (copy / name).write_text(text.replace(old, new))

    return replace


async def test_a_launcher_that_is_not_understood_is_named_and_its_tasks_go_on(
    site: Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await Site.open(site)
    pid = await driver.start(site.spec("old", "exec sleep 600"))
    monkeypatch.setattr(launcher_client, "PROTOCOL", launcher_server.PROTOCOL + 1)
    with pytest.raises(DriverError, match="speaks protocol 1, this backend 2: end its tasks"):
        await site.driver().open()
    assert lives(pid)


async def test_a_launcher_of_the_first_version_does_what_it_can(site: Warm, edit: Edit) -> None:
    edit("launcher_server.py", 'FEATURES = ("execute", "prefork")', "FEATURES = ()")
    driver = await Site.open(site, environment=BASE, warm=["worker"])
    assert await driver.templates() == []
    exit_, said, _ = await run(driver, site.spec("old", "echo served; exit 3"))
    assert (exit_.exit_code, said) == (3, "served\n")


async def test_a_launcher_that_templates_of_the_new_version_do_not_suit_executes(
    site: Warm, edit: Edit
) -> None:
    driver = await Site.open(site, environment=BASE)
    edit(
        "order.py", '"user",\n    )', '"user",\n        "zone",\n    )'
    )  # of which the launcher knows nothing
    wanted = "not the version of the launcher any more"
    async with asyncio.timeout(120):
        while wanted not in (found := await about(driver))["reason"]:
            exit_, _, complained = await run(driver, site.worker(PROBE_END="3"))
            assert exit_.exit_code == 3, complained
    assert (found["forked"], found["cold"] > 0) == (0, True)

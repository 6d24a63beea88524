"""What tasks write: bounded while they run, readable afterwards, and nothing that leads elsewhere."""

from __future__ import annotations

import contextlib
import os
import signal
from functools import partial
from pathlib import Path

import pytest
from driving import Site, next_exit, wait_until

from hubfleet.backend.drivers import Output
from hubfleet.backend.drivers.rotation import move_end_to_front, shorten

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run tasks as another account")


async def test_output_is_read_from_either_end(site: Site) -> None:
    driver = await site.open()
    spec = site.spec("task", "printf 0123456789; printf wrong >&2")
    await driver.start(spec)
    await next_exit(driver)
    read = partial(driver.read_output, spec.task_id, "stdout")
    assert await read(0, 4) == Output(b"0123", 0, 10)
    assert await read(-3, 100) == Output(b"789", 7, 10)
    assert await read(-100, 2) == Output(b"01", 0, 10)
    assert await read(50, 2) == Output(b"", 10, 10)
    assert await driver.read_output(spec.task_id, "stderr", 0, 100) == Output(b"wrong", 0, 5)
    for task_id, name in ((spec.task_id, "../x"), (spec.task_id, "pid"), ("..", "stdout"), ("", "stdout")):
        assert await driver.read_output(task_id, name, 0, 100) is None


@pytest.mark.parametrize("trap", ["ln -s", "ln", "mkfifo", "mkdir"])
async def test_what_a_task_lays_in_the_place_of_its_output_leads_nowhere(
    site: Site, tmp_path: Path, trap: str
) -> None:
    driver = await site.open(output_bytes=1000)
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * 1000)
    source = secret if trap.startswith("ln") else ""
    spec = site.spec("task", f"rm stdout; {trap} {source} stdout; touch laid; exec sleep 60")
    await driver.start(spec)
    await wait_until((spec.sandbox / "laid").exists, "the trap is laid")
    assert await driver.read_output(spec.task_id, "stdout", 0, 100) is None
    with contextlib.suppress(OSError):
        shorten(str(spec.sandbox), "stdout", 1000)
    await driver.signal(spec.task_id, signal.SIGKILL)
    await next_exit(driver)
    await driver.forget(spec.task_id)
    assert [path.name for path in spec.sandbox.iterdir()] == ["stderr"]
    assert secret.read_bytes() == b"secret" * 1000


@as_root
async def test_the_output_of_another_account_is_closed_to_it_after_the_end(site: Site) -> None:
    driver = await site.open()
    spec = site.spec("task", "echo mine", user="nobody")
    await driver.start(spec)
    await next_exit(driver)
    assert spec.sandbox.stat().st_uid != 0
    assert await driver.read_output(spec.task_id, "stdout", 0, 100) == Output(b"mine\n", 0, 5)
    await driver.forget(spec.task_id)
    assert spec.sandbox.stat().st_uid == 0
    assert await driver.read_output(spec.task_id, "stdout", 0, 100) == Output(b"mine\n", 0, 5)


async def test_long_output_is_cut_at_its_head_while_the_task_writes(site: Site) -> None:
    """50 MB as fast as they come, of which the end stays, at the offsets that it had."""
    driver = await site.open(output_bytes=1 << 20)
    script = "seq -f %049.0f 1 1000000; echo the end >&2; exec sleep 60"
    spec = site.spec("task", script)
    await driver.start(spec)
    await wait_until(lambda: (spec.sandbox / "stderr").read_text() == "the end\n", "all is written")
    out = spec.sandbox / "stdout"
    await wait_until(lambda: out.stat().st_blocks * 512 < 2 << 20, "the head is given up")
    found = await driver.read_output(spec.task_id, "stdout", 0, 4 << 20)
    assert found is not None
    assert found.offset + len(found.content) == found.size == 50_000_000
    assert found.content.endswith(b"%049d\n" % 1_000_000)
    assert found.content[-50000:-49950] == b"%049d\n" % 999_001
    assert len(found.content) >= 1 << 20
    assert (await driver.read_output(spec.task_id, "stdout", -50, 50)) == Output(
        b"%049d\n" % 1_000_000, 49_999_950, 50_000_000
    )


def test_where_no_hole_can_be_made_the_end_moves_to_the_front(tmp_path: Path) -> None:
    path = tmp_path / "stdout"
    path.write_bytes(b"%09d\n" * 300_000 % tuple(range(300_000)))
    writer = os.open(path, os.O_WRONLY | os.O_APPEND)
    file = os.open(path, os.O_RDWR)
    move_end_to_front(file, 2_000_000)
    os.write(writer, b"more")
    os.close(writer)
    os.close(file)
    assert path.read_bytes() == b"%09d\n" * 200_000 % tuple(range(100_000, 300_000)) + b"more"


@pytest.mark.parametrize("user", [None, pytest.param("nobody", marks=as_root)])
async def test_a_sandbox_goes_however_deep_or_closed_it_is(site: Site, user: str | None) -> None:
    """Deeper than Python's stack, and than there are descriptors; and each directory is closed."""
    driver = await site.open()
    dig = "import os\nfor _ in range(3000): os.mkdir('d'); open('f', 'w'); os.chdir('d')"
    spec = site.spec("task", f'python3 -c "{dig}"; mkdir deep deep/x; chmod 0 deep; echo dug', user=user)
    await driver.start(spec)
    await next_exit(driver)
    assert (spec.sandbox / "stdout").read_text() == "dug\n", (spec.sandbox / "stderr").read_text()
    await driver.forget(spec.task_id)
    assert sorted(path.name for path in spec.sandbox.iterdir()) == ["stderr", "stdout"]
    await driver.discard(spec.task_id)
    assert not spec.sandbox.exists()

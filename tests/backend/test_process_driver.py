"""The driver for this machine as the orchestrator uses it: real processes, a real launcher, real kills."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from driving import DEADLINE, Site, kill_launcher, lives, next_exit, wait_until

from hubfleet.backend.drivers import Driver, DriverError, Output, StartRefused, TaskExit, launcher_client
from hubfleet.backend.drivers.launcher_client import ConnectionLost
from hubfleet.backend.drivers.process import ProcessDriver


async def test_a_task_runs_ends_and_is_forgotten(site: Site) -> None:
    driver: Driver = await site.open()
    spec = site.spec("task", "echo hello; mkdir -m 0 closed; ln -s /etc link; exit 3")
    assert await driver.start(spec) > 1
    assert await next_exit(driver) == TaskExit(spec.task_id, 3, None)
    assert await driver.recover() == {spec.task_id: TaskExit(spec.task_id, 3, None)}
    assert (spec.sandbox / "stdout").read_text() == "hello\n"
    for _ in range(2):
        await driver.forget(spec.task_id)
        assert await driver.recover() == {}
        assert sorted(path.name for path in spec.sandbox.iterdir()) == ["stderr", "stdout"]
        assert await driver.kept() == {spec.task_id}
    assert await driver.read_output(spec.task_id, "stdout", 1, 3) == Output(b"ell", 1, 6)
    for _ in range(2):
        await driver.discard(spec.task_id)
        assert await driver.kept() == set()
    assert await driver.read_output(spec.task_id, "stdout", 0, 10) is None


async def test_the_same_id_starts_one_task(site: Site) -> None:
    driver = await site.open()
    spec = site.spec("task", "exec sleep 60")
    assert len({*await asyncio.gather(*(driver.start(spec) for _ in range(5)))}) == 1
    assert await driver.recover() == {spec.task_id: None}


async def test_a_signal_ends_a_task_and_is_the_reason_given(site: Site) -> None:
    driver = await site.open()
    spec = site.spec("task", "exec sleep 60")
    await driver.start(spec)
    await driver.signal(spec.task_id, signal.SIGTERM)
    exit_ = await next_exit(driver)
    assert exit_ == TaskExit(spec.task_id, None, 15)
    assert exit_.message == "Command terminated with signal Terminated"
    await driver.signal(spec.task_id, signal.SIGTERM)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"command": ["no-such-program"]}, "command not found: no-such-program"),
        ({"command": []}, "must be a list"),
        ({"user": "no-such-account"}, "no-such-account"),
    ],
)
async def test_what_cannot_run_is_refused_with_the_reason(
    site: Site, changes: dict[str, Any], sentence: str
) -> None:
    driver = await site.open()
    with pytest.raises(StartRefused, match=sentence):
        await driver.start(site.spec("task", "true", **changes))
    assert await driver.recover() == {}


async def test_an_exit_while_no_backend_ran_is_known_afterwards(site: Site) -> None:
    first = await site.open()
    spec = site.spec("task", "until [ -e go ]; do sleep 0.01; done; exit 7")
    await first.start(spec)
    await first.close()
    (spec.sandbox / "go").touch()
    await wait_until(lambda: '"exit"' in (site.state_dir / "launcher.journal").read_text(), "the task ends")

    second = await site.open()
    assert await next_exit(second) == TaskExit(spec.task_id, 7, None)
    assert await second.recover() == {spec.task_id: TaskExit(spec.task_id, 7, None)}


async def test_running_tasks_outlive_the_backend(site: Site) -> None:
    first = await site.open()
    spec = site.spec("task", "exec sleep 60")
    pid = await first.start(spec)
    await first.close()
    assert lives(pid)
    second = await site.open()
    assert await second.recover() == {spec.task_id: None}
    assert await second.start(spec) == pid


async def test_tasks_outlive_a_killed_launcher_whose_successor_watches_them(site: Site) -> None:
    driver = await site.open()
    spec = site.spec("task", "exec sleep 60")
    pid = await driver.start(spec)
    killed = kill_launcher(driver)
    await wait_until(lambda: driver.launcher_pid != killed, "the driver starts another launcher")
    assert lives(pid)
    assert await driver.recover() == {spec.task_id: None}
    await driver.signal(spec.task_id, signal.SIGKILL)
    assert await next_exit(driver) == TaskExit(spec.task_id, None, None)


async def test_an_exit_while_no_launcher_ran_is_told_as_unknown(site: Site) -> None:
    driver = await site.open()
    spec = site.spec("task", "exec sleep 60")
    pid = await driver.start(spec)
    told = asyncio.create_task(next_exit(driver))
    kill_launcher(driver)
    os.kill(pid, signal.SIGKILL)
    exit_ = await told
    # A launcher that was quick enough has seen it end, but not how.
    assert exit_ == TaskExit(spec.task_id, None, None)


async def test_calls_wait_for_the_next_launcher(site: Site) -> None:
    driver = await site.open()
    for number in range(3):
        kill_launcher(driver)
        assert lives(await driver.start(site.spec(f"task-{number}", "exec sleep 60")))
    assert len(await driver.recover()) == 3


async def test_a_question_whose_answer_was_lost_is_asked_again(site: Site) -> None:
    driver = await site.open()
    assert driver.launcher_pid is not None
    os.kill(driver.launcher_pid, signal.SIGSTOP)
    asked = asyncio.create_task(driver.recover())
    await asyncio.sleep(0.01)
    kill_launcher(driver)
    assert await asked == {}


async def test_a_signal_is_not_sent_twice(site: Site) -> None:
    driver = await site.open()
    spec = site.spec("task", "exec sleep 60")
    await driver.start(spec)
    assert driver.launcher_pid is not None
    os.kill(driver.launcher_pid, signal.SIGSTOP)
    asked = asyncio.create_task(driver.signal(spec.task_id, signal.SIGTERM))
    await asyncio.sleep(0.01)
    kill_launcher(driver)
    with pytest.raises(ConnectionLost):
        await asked
    assert await driver.recover() == {spec.task_id: None}


async def test_a_start_whose_reply_was_lost_gives_the_process_all_the_same(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection is cut by a double of the kill: the launcher carries the order out and cannot say so."""
    driver = await site.open()
    receive = launcher_client.LauncherClient._receive

    def lose_start(client: launcher_client.LauncherClient, message: dict[str, Any]) -> None:
        if "exit" in message:
            # The task is over, and this the first the driver hears of it.
            monkeypatch.setattr(launcher_client.LauncherClient, "_receive", receive)
            raise ConnectionResetError("cut by the test")

    monkeypatch.setattr(launcher_client.LauncherClient, "_receive", lose_start)
    spec = site.spec("task", "echo once; exit 5")
    assert await driver.start(spec) > 1
    assert await next_exit(driver) == TaskExit(spec.task_id, 5, None)
    assert (spec.sandbox / "stdout").read_text() == "once\n"


async def test_a_launcher_that_hangs_is_an_error_in_time(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    driver = await site.open()
    assert driver.launcher_pid is not None
    monkeypatch.setattr(launcher_client, "CALL_SECONDS", 0.1)
    os.kill(driver.launcher_pid, signal.SIGSTOP)
    with pytest.raises(DriverError, match="did not answer 'list'") as caught:
        await driver.recover()
    assert not isinstance(caught.value, StartRefused)
    os.kill(driver.launcher_pid, signal.SIGCONT)
    monkeypatch.undo()
    assert await driver.recover() == {}


async def test_two_drivers_that_open_at_once_share_one_launcher(site: Site) -> None:
    one, two = site.driver(), site.driver()
    await asyncio.gather(one.open(), two.open())
    assert one.launcher_pid == two.launcher_pid
    spec = site.spec("task", "exit 2")
    await one.start(spec)
    assert await next_exit(two) == TaskExit(spec.task_id, 2, None)


async def test_exits_are_told_to_every_reader_until_forgotten(site: Site) -> None:
    driver = await site.open()
    specs = [site.spec(f"task-{number}", f"exit {number}") for number in range(3)]
    early = driver.exits()
    waiting = asyncio.ensure_future(anext(early))
    for spec in specs:
        await driver.start(spec)
    seen = {await asyncio.wait_for(waiting, DEADLINE)}
    while len(seen) < 3:
        seen.add(await asyncio.wait_for(anext(early), DEADLINE))
    assert {exit_.exit_code for exit_ in seen} == {0, 1, 2}
    for spec in specs[:2]:
        await driver.forget(spec.task_id)
    late = driver.exits()
    assert await asyncio.wait_for(anext(late), DEADLINE) == TaskExit(specs[2].task_id, 2, None)
    waiting = asyncio.ensure_future(anext(late))
    await driver.close()
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(waiting, DEADLINE)


async def test_many_starts_at_once(site: Site) -> None:
    driver = await site.open()
    specs = [site.spec(f"task-{number}", "exit 0") for number in range(100)]
    pids = await asyncio.gather(*map(driver.start, specs))
    assert len(set(pids)) == 100
    ended: set[str] = set()
    async with asyncio.timeout(DEADLINE):
        async for exit_ in driver.exits():
            assert exit_.exit_code == 0
            ended.add(exit_.task_id)
            if len(ended) == 100:
                break


async def test_a_running_task_is_not_forgotten(site: Site) -> None:
    driver = await site.open()
    spec = site.spec("task", "exec sleep 60")
    await driver.start(spec)
    with pytest.raises(DriverError, match="has not ended"):
        await driver.forget(spec.task_id)
    assert spec.sandbox.is_dir()


async def test_only_sandboxes_in_the_state_directory_are_removed(site: Site, tmp_path: Path) -> None:
    driver = await site.open()
    (tmp_path / "home").mkdir()
    spec = site.spec("task", "exit 0", sandbox=tmp_path / "home")
    await driver.start(spec)
    await next_exit(driver)
    await driver.forget(spec.task_id)
    await driver.discard(spec.task_id)
    assert (tmp_path / "home" / "stdout").exists()
    for task_id in ("..", "../..", "", "/"):
        await driver.forget(task_id)
        await driver.discard(task_id)
    assert (site.state_dir / "sandboxes").is_dir()


async def test_the_sandbox_of_a_refused_task_can_be_removed(site: Site) -> None:
    driver = await site.open()
    spec = site.spec("task", "", command=["no-such-program"])
    with pytest.raises(StartRefused):
        await driver.start(spec)
    await driver.forget(spec.task_id)
    await driver.discard(spec.task_id)
    assert not spec.sandbox.exists()


async def test_a_closed_driver_says_so(site: Site) -> None:
    driver = await site.open()
    await driver.close()
    with pytest.raises(DriverError, match="closed"):
        await driver.recover()
    await driver.close()
    await driver.open()
    assert await driver.recover() == {}


async def test_a_deep_state_directory_is_as_good_as_any(tmp_path: Path) -> None:
    site = Site(tmp_path.joinpath(*["a-rather-long-name-of-a-directory"] * 12))
    try:
        driver = await site.open()
        spec = site.spec("task", "exit 9")
        await driver.start(spec)
        assert await next_exit(driver) == TaskExit(spec.task_id, 9, None)
    finally:
        await site.close()


async def test_an_unusable_state_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DriverError, match="file"):
        await ProcessDriver(tmp_path / "file").open()


async def test_a_state_directory_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(DriverError, match="chmod go-w"):
        await ProcessDriver(tmp_path / "open").open()


async def test_the_launcher_gets_none_of_the_backends_secrets(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "hunter2")
    driver = await site.open()
    assert b"hunter2" not in Path(f"/proc/{driver.launcher_pid}/environ").read_bytes()


# What the machine offers


async def test_the_offer_is_the_machine_unless_told_otherwise(site: Site) -> None:
    driver = await site.open()
    (offer,) = driver.offers()
    assert offer.host == "127.0.0.1"
    assert 0 < offer.cpus <= (os.cpu_count() or 1)
    assert 0 < offer.mem <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    assert offer.disk > 0
    (offer,) = (await site.open(host="node", cpus=1.5, mem=512, disk=100)).offers()
    assert (offer.host, offer.cpus, offer.mem, offer.disk) == ("node", 1.5, 512, 100)


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
async def test_ports_that_are_taken_or_reserved_are_not_given(site: Site, address: str) -> None:
    with socket.socket() as taken:
        taken.bind((address, 0))
        taken.listen()
        port = taken.getsockname()[1]
        driver = site.driver(port_range=(port - 1, port + 1))
        assert port not in await driver.free_ports("127.0.0.1", 3, frozenset())
        assert await driver.free_ports("127.0.0.1", 3, frozenset({port - 1, port + 1})) == []


async def test_ports_come_in_random_order_and_no_more_than_asked_for(site: Site) -> None:
    driver = site.driver()
    drawn = [await driver.free_ports("127.0.0.1", 5, frozenset()) for _ in range(3)]
    assert all(len(set(ports)) == 5 and all(31000 <= port <= 32000 for port in ports) for ports in drawn)
    assert len({tuple(ports) for ports in drawn}) == 3
    assert await driver.free_ports("127.0.0.1", 0, frozenset()) == []


async def test_a_host_that_is_not_this_machine_has_no_ports(site: Site) -> None:
    with pytest.raises(DriverError, match="elsewhere"):
        await site.driver().free_ports("elsewhere", 1, frozenset())


async def test_an_address_in_front_of_this_machine_takes_no_port_away(site: Site) -> None:
    driver = site.driver(host="192.0.2.1")  # documentation's own: nobody's
    assert len(await driver.free_ports("192.0.2.1", 2, frozenset())) == 2


@pytest.mark.parametrize("port_range", [(0, 10), (10, 9), (1, 65536)])
def test_a_port_range_that_makes_no_sense_is_refused(tmp_path: Path, port_range: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="port range"):
        ProcessDriver(tmp_path, port_range=port_range)

"""All processes of a task, and no other, are the launcher's to signal and sweep, whosever they are."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
import uuid
from functools import partial
from pathlib import Path

import pytest
from launching import (
    DAEMON,
    DEADLINE,
    PATH,
    Home,
    as_root,
    is_gone,
    lives,
    wait_until,
)

from hubfleet.backend.drivers import order as orders
from hubfleet.backend.drivers import prepare
from hubfleet.backend.drivers.proctree import read_process, send_signal

# All processes of a task, and no other


def test_what_a_task_leaves_behind_is_gone_before_its_exit_is_told(home: Home) -> None:
    launcher = home.launch()
    script = f"sleep 60 & echo $! > child; {DAEMON}; until [ -s pid ]; do sleep 0.01; done; exit 5"
    launcher.ask("start", **home.order("task", script))
    assert launcher.exit_of(home.id_of("task")) == (5, None)
    assert not lives(home.pid_from("task"))
    assert not lives(home.pid_from("task", "child"))


def test_the_end_of_the_last_task_ends_even_what_hid_its_origin(home: Home) -> None:
    launcher = home.launch()
    hidden = "setsid env -i /bin/sh -c 'echo $$ > pid; exec sleep 60' & until [ -s pid ]; do sleep 0.01; done"
    launcher.ask("start", **home.order("task", hidden))
    assert launcher.exit_of(home.id_of("task")) == (0, None)
    assert not lives(home.pid_from("task"))


def test_a_signal_reaches_children_in_sessions_of_their_own(home: Home) -> None:
    launcher = home.launch()
    child = "trap 'echo got > got; exit 0' TERM; echo $$ > pid; while :; do sleep 0.01; done"
    # The leader ends well once its child has got the signal and the orphan has died of it.
    leader = "until [ -s got ] && ! kill -0 $(cat orphan); do sleep 0.01; done; exit 0"
    script = f'trap : TERM; setsid sh -c "$CHILD" & {DAEMON.replace("> pid", "> orphan")}; {leader}'
    launcher.ask("start", **home.order("task", script, environment={"PATH": PATH, "CHILD": child}))
    children = [home.pid_from("task"), home.pid_from("task", "orphan")]
    launcher.ask("signal", task_id=home.id_of("task"), signal=int(signal.SIGTERM))
    assert launcher.exit_of(home.id_of("task")) == (0, None)
    assert not any(map(lives, children))


def test_a_signal_reaches_a_child_that_hid_its_origin_while_its_parent_lives(home: Home) -> None:
    launcher = home.launch()
    hidden = "setsid env -i /bin/sh -c 'echo $$ > pid; exec sleep 60' & while :; do sleep 0.01; done"
    pid = launcher.ask("start", **home.order("task", f"trap : USR1; {hidden}"))["ok"]["pid"]
    child = home.pid_from("task")
    launcher.ask("signal", task_id=home.id_of("task"), signal=int(signal.SIGUSR1))
    wait_until(partial(is_gone, child), "the child ends")
    assert lives(pid)


def test_a_child_in_its_tasks_session_is_swept_whatever_its_environment(home: Home) -> None:
    launcher = home.launch()
    other = launcher.ask("start", **home.order("other", ["sleep", "60"]))["ok"]["pid"]
    script = "env -i sleep 60 & echo $! > pid; until grep -q sleep /proc/$!/cmdline; do :; done; exit 0"
    launcher.ask("start", **home.order("task", script))
    assert launcher.exit_of(home.id_of("task")) == (0, None)
    assert not lives(home.pid_from("task"))
    assert lives(other)


def test_a_signal_cannot_hit_a_later_process_with_the_same_id() -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        process = read_process(stranger.pid)
        assert process is not None
        process.started -= 1
        assert send_signal(process, signal.SIGKILL)
        time.sleep(0.02)
        assert stranger.poll() is None
        process.started += 1
        assert send_signal(process, signal.SIGKILL)
        assert stranger.wait(DEADLINE) == -signal.SIGKILL
        assert send_signal(process, signal.SIGKILL)


def test_a_signal_does_not_reach_another_task(home: Home) -> None:
    launcher = home.launch()
    pids = {
        name: launcher.ask("start", **home.order(name, f"{DAEMON}; sleep 60"))["ok"]["pid"]
        for name in ("one", "two")
    }
    orphans = {name: home.pid_from(name) for name in pids}
    launcher.ask("signal", task_id=home.id_of("one"), signal=9)
    assert launcher.exit_of(home.id_of("one")) == (None, 9)
    assert not lives(orphans["one"])
    assert lives(pids["two"])
    assert lives(orphans["two"])


def test_a_signal_to_a_task_that_is_gone_is_no_error(home: Home) -> None:
    launcher = home.launch()
    assert "ok" in launcher.ask("signal", task_id="never-was", signal=15)
    assert "no signal" in launcher.ask("signal", task_id="never-was", signal=4000)["error"]


# Accounts


def test_an_account_that_is_not_there_is_refused(home: Home) -> None:
    reply = home.launch().ask("start", **home.order("task", ["true"], user="no-such-account"))
    assert reply["refused"]
    assert "no-such-account" in reply["error"]


@as_root
def test_root_runs_a_task_as_the_account_that_is_asked_for(home: Home) -> None:
    launcher = home.launch(extra_groups=[os.getgid(), 4, 24])
    launcher.ask("start", **home.order("task", "id -u; id -g; id -G; echo x > made", user="nobody"))
    assert launcher.exit_of(home.id_of("task")) == (0, None)
    account = pwd.getpwnam("nobody")
    groups = os.getgrouplist("nobody", account.pw_gid)
    uid, gid, *all_groups = home.read("task").split()
    assert (int(uid), int(gid)) == (account.pw_uid, account.pw_gid)
    assert {int(group) for group in all_groups} == set(groups)
    sandbox = home.sandbox("task")
    for path in (sandbox, sandbox / "stdout", sandbox / "made"):
        assert path.stat().st_uid == account.pw_uid


@as_root
def test_a_task_of_another_account_is_signalled_and_swept_too(home: Home) -> None:
    launcher = home.launch()
    launcher.ask("start", **home.order("task", f"{DAEMON}; exec sleep 60", user="nobody"))
    orphan = home.pid_from("task")
    launcher.ask("signal", task_id=home.id_of("task"), signal=15)
    assert launcher.exit_of(home.id_of("task")) == (None, 15)
    assert not lives(orphan)


@as_root
def test_a_process_of_another_account_is_no_tasks_whatever_its_environment_says(home: Home) -> None:
    """It would be counted to the memory of somebody else's task, and held to its limit."""
    launcher = home.launch()
    mark = f"env HUBFLEET_TASK={home.id_of('task')} setsid sh -c 'echo $$ > pid; exec sleep 60'"
    launcher.ask("start", **home.order("task", f"{DAEMON}; exec sleep 60", user="nobody"))
    launcher.ask("start", **home.order("other", f"({mark} &); exec sleep 60", user="daemon"))
    orphan, marked = home.pid_from("task"), home.pid_from("other")
    launcher.ask("signal", task_id=home.id_of("task"), signal=9)
    assert launcher.exit_of(home.id_of("task")) == (None, 9)
    assert not lives(orphan)
    assert lives(marked)


def test_without_being_root_only_the_own_account_is_had(tmp_path: Path) -> None:
    """In a process that gave root up, as far as it had it: the interpreter may be out of others' reach."""
    tmp_path.chmod(0o777)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setuid(pwd.getpwnam("nobody").pw_uid)
            own = pwd.getpwuid(os.geteuid()).pw_name
            assert prepare.find_account(own) is None
            assert prepare.find_account(None) is None
            try:
                prepare.find_account("root")
            except orders.StartError as error:
                os.write(write, f"{error.refused} {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read) as said:
        sentence = said.read()
    assert sentence.startswith("True The task is to run as 'root', but only root can change accounts")


@as_root
@pytest.mark.skipif(
    shutil.which("python3", path="/usr/bin") is None, reason="no interpreter for all accounts"
)
def test_a_launcher_that_is_not_root_runs_tasks_as_itself(tmp_path: Path) -> None:
    """With the system's interpreter and a copy of the launcher's files, which another account can read."""
    drivers = Path(prepare.__file__).parent
    package = Path("/tmp") / f"hubfleet-test-{uuid.uuid4().hex}"
    home = Home(package / "state")
    try:
        shutil.copytree(drivers, package / "launch", ignore=shutil.ignore_patterns("__*"))
        package.chmod(0o777)
        command = ["/usr/bin/python3", "-m", "launch.launcher", str(home.state_dir)]
        launcher = home.launch(command, cwd=package, user="nobody", group="nogroup")
        assert "only root" in launcher.ask("start", **home.order("a", ["true"], user="root"))["error"]
        launcher.ask("start", **home.order("b", ["id", "-un"], user="nobody"))
        assert launcher.exit_of(home.id_of("b")) == (0, None)
        assert home.read("b") == "nobody\n"
    finally:
        home.close()
        shutil.rmtree(package)

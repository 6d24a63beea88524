"""The launcher as its clients and its tasks see it: real processes, the real socket, real kills."""

from __future__ import annotations

import json
import os
import pwd
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hubfleet.backend.drivers import order as orders
from hubfleet.backend.drivers import prepare
from hubfleet.backend.drivers.launcher_server import LONGEST_REQUEST, MOST_UNREAD
from hubfleet.backend.drivers.proctree import boot_id, read_process, send_signal

DEADLINE = 60.0
PATH = "/usr/local/bin:/usr/bin:/bin"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run tasks as another account")


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.005)
    raise AssertionError(f"not within {DEADLINE} s: {what}")


def lives(pid: int) -> bool:
    process = read_process(pid)
    return process is not None and not process.dead


def is_gone(pid: int) -> bool:
    return not lives(pid)


def kill_all_below(path: Path) -> None:
    """Kill what works below a directory, or has been started for it, whatever it has done to its ancestry."""
    while True:
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid() or not lives(int(entry.name)):
                continue
            try:
                here = (entry / "cwd").readlink().is_relative_to(path)
                if here or os.fsencode(path) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
        if not found:
            return
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.005)


class Connection:
    """A client of the launcher that waits for its replies and keeps the exits it is told of."""

    def __init__(self, state_dir: Path) -> None:
        directory = os.open(state_dir, os.O_RDONLY)
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(DEADLINE)
        try:
            self.socket.connect(f"/proc/self/fd/{directory}/launcher.sock")
        finally:
            os.close(directory)
        self.lines = self.socket.makefile("rb")
        self.exits: dict[str, tuple[int | None, int | None]] = {}

    def close(self) -> None:
        self.lines.close()
        self.socket.close()

    def send(self, verb: str, **fields: Any) -> str:
        request_id = uuid.uuid4().hex
        self.socket.sendall(json.dumps({"id": request_id, "verb": verb, **fields}).encode() + b"\n")
        return request_id

    def receive(self) -> dict[str, Any]:
        line = self.lines.readline()
        if not line:
            raise ConnectionError("the launcher closed the connection")
        message: dict[str, Any] = json.loads(line)
        if "exit" in message:
            exit_ = message["exit"]
            self.exits[exit_["task_id"]] = (exit_["exit_code"], exit_["signal"])
        return message

    def ask(self, verb: str, **fields: Any) -> dict[str, Any]:
        request_id = self.send(verb, **fields)
        while True:
            message = self.receive()
            if message.get("id") == request_id and "exit" not in message:
                return message

    def exit_of(self, task_id: str) -> tuple[int | None, int | None]:
        while task_id not in self.exits:
            self.receive()
        return self.exits[task_id]

    def tasks(self) -> dict[str, dict[str, Any]]:
        return {task["task_id"]: task for task in self.ask("list")["ok"]["tasks"]}


class Site:
    """A state directory, its launchers, and the tasks of one test."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.name = uuid.uuid4().hex[:8]
        self.connections: list[Connection] = []

    def launch(self, **settings: Any) -> Connection:
        """Start a launcher, as a person would, and connect to it."""
        command = [sys.executable, "-m", "hubfleet.backend.drivers.launcher", str(self.state_dir)]
        deadline = time.monotonic() + DEADLINE
        while True:
            subprocess.run(command, check=True, timeout=DEADLINE, **settings)
            try:
                return self.connect()
            except OSError:
                # It leaves after a second without a client, which a busy machine may let pass.
                assert time.monotonic() < deadline

    def connect(self) -> Connection:
        self.connections.append(Connection(self.state_dir))
        return self.connections[-1]

    def id_of(self, name: str) -> str:
        return f"{name}.{self.name}"

    def sandbox(self, name: str) -> Path:
        return self.state_dir / "sandboxes" / self.id_of(name)

    def order(self, name: str, command: list[str] | str, **changes: Any) -> dict[str, Any]:
        """Return the fields of a start; a command that is a text is the shell's."""
        return {
            "task_id": self.id_of(name),
            "command": ["sh", "-c", command] if isinstance(command, str) else command,
            "environment": {"PATH": PATH},
            "sandbox": str(self.sandbox(name)),
            "user": None,
            **changes,
        }

    def read(self, name: str, file: str = "stdout") -> str:
        try:
            return (self.sandbox(name) / file).read_text()
        except FileNotFoundError:
            return ""

    def pid_from(self, name: str, file: str = "pid") -> int:
        """Wait until a task has written a process id to a file of its sandbox."""
        return int(wait_until(lambda: self.read(name, file).endswith("\n") and self.read(name, file), file))

    def kill_launcher(self, connection: Connection) -> None:
        pid = connection.ask("hello")["ok"]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not lives(pid), "the launcher dies")

    def close(self) -> None:
        for connection in self.connections:
            connection.close()
        kill_all_below(self.state_dir)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path / "state")
    yield site
    site.close()


# How tasks run


@pytest.mark.parametrize(
    ("command", "end"),
    [("exit 0", (0, None)), ("exit 3", (3, None)), ("kill -9 $$", (None, 9)), ("kill -TERM $$", (None, 15))],
)
def test_a_task_starts_and_how_it_ends_is_told(site: Site, command: str, end: tuple[Any, Any]) -> None:
    launcher = site.launch()
    reply = launcher.ask("start", **site.order("task", command))
    assert reply["ok"]["pid"] > 1
    assert launcher.exit_of(site.id_of("task")) == end
    task = launcher.tasks()[site.id_of("task")]
    assert (task["ended"], task["exit_code"], task["signal"]) == (True, *end)


def test_every_client_is_told_of_an_exit(site: Site) -> None:
    starter = site.launch()
    listener = site.connect()
    listener.ask("hello")
    starter.ask("start", **site.order("task", "exit 4"))
    assert starter.exit_of(site.id_of("task")) == listener.exit_of(site.id_of("task")) == (4, None)


def test_output_goes_to_private_files_in_a_private_sandbox(site: Site) -> None:
    launcher = site.launch()
    launcher.ask("start", **site.order("task", "pwd; echo trouble >&2; umask"))
    launcher.exit_of(site.id_of("task"))
    sandbox = site.sandbox("task")
    assert site.read("task") == f"{sandbox}\n0022\n"
    assert site.read("task", "stderr") == "trouble\n"
    assert stat.S_IMODE(sandbox.stat().st_mode) == 0o700
    assert {stat.S_IMODE((sandbox / name).stat().st_mode) for name in ("stdout", "stderr")} == {0o600}


def test_output_is_not_written_through_a_link_that_lies_in_the_sandbox(site: Site, tmp_path: Path) -> None:
    launcher = site.launch()
    site.sandbox("task").mkdir(parents=True)
    (site.sandbox("task") / "stdout").symlink_to(tmp_path / "elsewhere")
    reply = launcher.ask("start", **site.order("task", "echo hello"))
    assert "output" in reply["error"]
    assert not (tmp_path / "elsewhere").exists()


def test_the_environment_is_exactly_what_was_asked_for_and_the_marker(site: Site) -> None:
    launcher = site.launch()
    environment = {"PATH": PATH, "ODD": "a=b\nc\udcff", "HUBFLEET_TASK": "someone-else"}
    order = site.order("task", ["cat", "/proc/self/environ"], environment=environment)
    launcher.ask("start", **order)
    launcher.exit_of(site.id_of("task"))
    output = (site.sandbox("task") / "stdout").read_bytes()
    assert sorted(output.rstrip(b"\0").split(b"\0")) == [
        b"HUBFLEET_TASK=" + site.id_of("task").encode(),
        b"ODD=a=b\nc\xff",
        b"PATH=" + PATH.encode(),
    ]


def test_a_task_inherits_no_descriptor_no_ignored_signal_and_no_session(site: Site) -> None:
    launcher = site.launch()
    site.connect().ask("hello")
    script = "readlink /proc/self/fd/0; grep -E 'Sig(Ign|Blk)' /proc/self/status; ps -o sid= -p $$; echo $$"
    launcher.ask("start", **site.order("files", ["ls", "/proc/self/fd"]))
    launcher.ask("start", **site.order("rest", script))
    launcher.exit_of(site.id_of("files"))
    launcher.exit_of(site.id_of("rest"))
    # The fourth is the directory that ls reads.
    assert site.read("files").split() == ["0", "1", "2", "3"]
    stdin, ignored, blocked, session, pid = sorted(site.read("rest").splitlines(), key=site.read("rest").find)
    assert stdin == "/dev/null"
    # Signals 32 and 33 are the C library's own, which a program cannot set; make(1) leaves 32 ignored.
    changeable = sum(1 << (signum - 1) for signum in signal.valid_signals())
    assert {int(line.split()[1], 16) & changeable for line in (ignored, blocked)} == {0}
    assert session.strip() == pid


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("no-such-program", "command not found: no-such-program"),
        ("/no/such/program", "command not found: /no/such/program"),
        ("./plain", "Permission denied"),
        ("./noise", "Exec format error"),
        ("./orphan", "interpreter"),
    ],
)
def test_a_program_that_cannot_run_is_refused_and_leaves_no_task(
    site: Site, program: str, sentence: str
) -> None:
    launcher = site.launch()
    sandbox = site.sandbox("task")
    sandbox.mkdir(parents=True)
    (sandbox / "plain").write_text("")
    for name, content in (("noise", b"\x01\x02"), ("orphan", b"#!/no/such/interpreter\n")):
        (sandbox / name).write_bytes(content)
        (sandbox / name).chmod(0o755)
    reply = launcher.ask("start", **site.order("task", [program]))
    assert reply["refused"]
    assert sentence in reply["error"]
    assert launcher.tasks() == {}
    # The refusal does not use up the id.
    assert "ok" in launcher.ask("start", **site.order("task", ["true"]))
    assert launcher.exit_of(site.id_of("task")) == (0, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"task_id": ""},
        {"task_id": None},
        {"command": []},
        {"command": "true"},
        {"command": ["true", "a\0b"]},
        {"environment": {"A=B": "c"}},
        {"environment": {"": "c"}},
        {"environment": {"A": 1}},
        {"sandbox": "relative"},
        {"user": 0},
    ],
)
def test_an_order_that_no_process_can_be_given_is_refused(site: Site, changes: dict[str, Any]) -> None:
    launcher = site.launch()
    reply = launcher.ask("start", **{**site.order("task", ["true"]), **changes})
    assert reply["refused"]
    assert launcher.tasks() == {}


def test_the_same_id_starts_one_task(site: Site) -> None:
    launcher = site.launch()
    order = site.order("task", "echo started; exec sleep 60")
    requests = [launcher.send("start", **order) for _ in range(3)]
    replies = [launcher.receive() for _ in requests]
    assert len({reply["ok"]["pid"] for reply in replies}) == 1
    wait_until(lambda: site.read("task"), "the task writes")
    assert launcher.ask("start", **order)["ok"] == replies[0]["ok"]
    assert site.read("task") == "started\n"


def test_an_id_whose_task_has_ended_is_refused(site: Site) -> None:
    launcher = site.launch()
    pid = launcher.ask("start", **site.order("task", "exit 0"))["ok"]["pid"]
    launcher.exit_of(site.id_of("task"))
    reply = launcher.ask("start", **site.order("task", "exit 0"))
    assert reply["refused"]
    assert reply["ended"]
    assert reply["pid"] == pid
    assert "already ended" in reply["error"]


def test_only_an_ended_task_can_be_forgotten(site: Site) -> None:
    launcher = site.launch()
    launcher.ask("start", **site.order("task", ["sleep", "60"]))
    assert "has not ended" in launcher.ask("forget", task_id=site.id_of("task"))["error"]
    launcher.ask("signal", task_id=site.id_of("task"), signal=9)
    launcher.exit_of(site.id_of("task"))
    assert "ok" in launcher.ask("forget", task_id=site.id_of("task"))
    assert launcher.tasks() == {}
    assert "ok" in launcher.ask("forget", task_id=site.id_of("task"))


# All processes of a task, and no other

DAEMON = "setsid sh -c 'sh -c \"echo \\$\\$ > pid; exec sleep 60\" & exit 0'"


def test_what_a_task_leaves_behind_is_gone_before_its_exit_is_told(site: Site) -> None:
    launcher = site.launch()
    script = f"sleep 60 & echo $! > child; {DAEMON}; until [ -s pid ]; do sleep 0.01; done; exit 5"
    launcher.ask("start", **site.order("task", script))
    assert launcher.exit_of(site.id_of("task")) == (5, None)
    assert not lives(site.pid_from("task"))
    assert not lives(site.pid_from("task", "child"))


def test_the_end_of_the_last_task_ends_even_what_hid_its_origin(site: Site) -> None:
    launcher = site.launch()
    hidden = "setsid env -i /bin/sh -c 'echo $$ > pid; exec sleep 60' & until [ -s pid ]; do sleep 0.01; done"
    launcher.ask("start", **site.order("task", hidden))
    assert launcher.exit_of(site.id_of("task")) == (0, None)
    assert not lives(site.pid_from("task"))


def test_a_signal_reaches_children_in_sessions_of_their_own(site: Site) -> None:
    launcher = site.launch()
    child = "trap 'echo got > got; exit 0' TERM; echo $$ > pid; while :; do sleep 0.01; done"
    # The leader ends well once its child has got the signal and the orphan has died of it.
    leader = "until [ -s got ] && ! kill -0 $(cat orphan); do sleep 0.01; done; exit 0"
    script = f'trap : TERM; setsid sh -c "$CHILD" & {DAEMON.replace("> pid", "> orphan")}; {leader}'
    launcher.ask("start", **site.order("task", script, environment={"PATH": PATH, "CHILD": child}))
    children = [site.pid_from("task"), site.pid_from("task", "orphan")]
    launcher.ask("signal", task_id=site.id_of("task"), signal=int(signal.SIGTERM))
    assert launcher.exit_of(site.id_of("task")) == (0, None)
    assert not any(map(lives, children))


def test_a_signal_reaches_a_child_that_hid_its_origin_while_its_parent_lives(site: Site) -> None:
    launcher = site.launch()
    hidden = "setsid env -i /bin/sh -c 'echo $$ > pid; exec sleep 60' & while :; do sleep 0.01; done"
    pid = launcher.ask("start", **site.order("task", f"trap : USR1; {hidden}"))["ok"]["pid"]
    child = site.pid_from("task")
    launcher.ask("signal", task_id=site.id_of("task"), signal=int(signal.SIGUSR1))
    wait_until(partial(is_gone, child), "the child ends")
    assert lives(pid)


def test_a_child_in_its_tasks_session_is_swept_whatever_its_environment(site: Site) -> None:
    launcher = site.launch()
    other = launcher.ask("start", **site.order("other", ["sleep", "60"]))["ok"]["pid"]
    script = "env -i sleep 60 & echo $! > pid; until grep -q sleep /proc/$!/cmdline; do :; done; exit 0"
    launcher.ask("start", **site.order("task", script))
    assert launcher.exit_of(site.id_of("task")) == (0, None)
    assert not lives(site.pid_from("task"))
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


def test_a_signal_does_not_reach_another_task(site: Site) -> None:
    launcher = site.launch()
    pids = {
        name: launcher.ask("start", **site.order(name, f"{DAEMON}; sleep 60"))["ok"]["pid"]
        for name in ("one", "two")
    }
    orphans = {name: site.pid_from(name) for name in pids}
    launcher.ask("signal", task_id=site.id_of("one"), signal=9)
    assert launcher.exit_of(site.id_of("one")) == (None, 9)
    assert not lives(orphans["one"])
    assert lives(pids["two"])
    assert lives(orphans["two"])


def test_a_signal_to_a_task_that_is_gone_is_no_error(site: Site) -> None:
    launcher = site.launch()
    assert "ok" in launcher.ask("signal", task_id="never-was", signal=15)
    assert "no signal" in launcher.ask("signal", task_id="never-was", signal=4000)["error"]


# A launcher that dies


def test_a_task_outlives_the_launcher_and_is_found_again(site: Site) -> None:
    first = site.launch()
    order = site.order("task", f"{DAEMON}; exec sleep 60")
    pid = first.ask("start", **order)["ok"]["pid"]
    orphan = site.pid_from("task")
    site.kill_launcher(first)
    assert lives(pid)

    second = site.launch()
    assert second.tasks()[site.id_of("task")]["pid"] == pid
    assert second.ask("start", **order)["ok"]["pid"] == pid
    second.ask("signal", task_id=site.id_of("task"), signal=9)
    # It was not this launcher's child, so how it ended cannot be known; what it left is swept all the same.
    assert second.exit_of(site.id_of("task")) == (None, None)
    assert not lives(pid)
    assert not lives(orphan)


def test_a_task_that_ends_while_no_launcher_runs_has_ended_unknown(site: Site) -> None:
    first = site.launch()
    pid = first.ask("start", **site.order("task", f"{DAEMON}; exec sleep 60"))["ok"]["pid"]
    orphan = site.pid_from("task")
    site.kill_launcher(first)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not lives(pid), "the task ends")

    second = site.launch()
    task = wait_until(lambda: (t := second.tasks()[site.id_of("task")])["ended"] and t, "the task is swept")
    assert (task["exit_code"], task["signal"]) == (None, None)
    assert not lives(orphan)


def test_an_exit_that_was_told_once_is_known_to_the_next_launcher(site: Site) -> None:
    first = site.launch()
    first.ask("start", **site.order("task", "exit 7"))
    first.exit_of(site.id_of("task"))
    site.kill_launcher(first)
    task = site.launch().tasks()[site.id_of("task")]
    assert (task["ended"], task["exit_code"]) == (True, 7)


def test_nothing_runs_that_a_killed_launcher_did_not_journal(site: Site) -> None:
    """Killed at some point of a burst of starts; where it is killed differs from round to round."""
    for round_number in range(5):
        launcher = site.launch()
        pid = launcher.ask("hello")["ok"]["pid"]
        for number in range(20):
            launcher.send("start", **site.order(f"{round_number}.{number}", ["sleep", "60"]))
        time.sleep(0.004 * round_number)
        os.kill(pid, signal.SIGKILL)
        wait_until(partial(is_gone, pid), "the launcher dies")
        known = {task["pid"] for task in site.launch().tasks().values() if not task["ended"]}
        marker = f".{site.name}".encode()
        running = set()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and b"HUBFLEET_TASK=" in (text := (entry / "environ").read_bytes()):
                    running |= {int(entry.name)} if marker in text else set()
            except OSError:
                continue
        assert running <= known


def test_a_process_that_was_not_journaled_ends_without_a_trace(tmp_path: Path) -> None:
    """The gap between fork and journal: whoever forked dies before the release."""
    script = textwrap.dedent(
        f"""
        import os, signal
        from hubfleet.backend.drivers.fork import fork_task
        from hubfleet.backend.drivers.order import Order
        order = Order("gap", ["touch", "{tmp_path}/ran"], {{"PATH": "{PATH}"}}, "{tmp_path}/sandbox", None)
        print(fork_task(order).pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    result = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=DEADLINE)
    assert result.returncode == -signal.SIGKILL
    wait_until(lambda: not lives(int(result.stdout)), "the forked process ends")
    assert list(tmp_path.iterdir()) == []


def test_a_task_that_cannot_be_journaled_is_not_started(site: Site) -> None:
    launcher = site.launch()
    pid = launcher.ask("hello")["ok"]["pid"]
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    reply = launcher.ask("start", **site.order("task", ["true"]))
    assert "journal cannot be written" in reply["error"]
    assert not reply["refused"]
    assert launcher.tasks() == {}
    assert not site.sandbox("task").exists()
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert "ok" in launcher.ask("start", **site.order("task", ["true"]))


def test_an_exit_is_told_even_if_the_disk_is_full_and_journaled_once_it_is_not(site: Site) -> None:
    launcher = site.launch()
    pid = launcher.ask("hello")["ok"]["pid"]
    launcher.ask("start", **site.order("task", ["sleep", "60"]))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    launcher.ask("signal", task_id=site.id_of("task"), signal=9)
    assert launcher.exit_of(site.id_of("task")) == (None, 9)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    journal = site.state_dir / "launcher.journal"
    wait_until(lambda: '"exit"' in journal.read_text(), "the exit is journaled")


# The journal


def write_journal(site: Site, *lines: dict[str, Any], torn: str = "") -> None:
    site.state_dir.mkdir(parents=True, mode=0o700)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (site.state_dir / "launcher.journal").write_text(text + torn)


def start_line(task_id: str, pid: int, started: int, boot: str) -> dict[str, Any]:
    return {
        "event": "start",
        "task_id": task_id,
        "pid": pid,
        "started": started,
        "boot": boot,
        "sandbox": "/s",
    }


@pytest.mark.parametrize("stale", ["start time", "boot"])
def test_a_stranger_with_a_reused_process_id_is_not_taken_for_the_task(site: Site, stale: str) -> None:
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        process = read_process(stranger.pid)
        assert process is not None
        started = process.started - 1 if stale == "start time" else process.started
        boot = boot_id() if stale == "start time" else "another-boot"
        write_journal(site, start_line("task", stranger.pid, started, boot))
        launcher = site.launch()
        task = wait_until(lambda: (t := launcher.tasks()["task"])["ended"] and t, "the task is swept")
        assert (task["exit_code"], task["signal"]) == (None, None)
        launcher.ask("signal", task_id="task", signal=9)
        launcher.ask("hello")
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_lost_journal_loses_no_running_task(site: Site) -> None:
    launcher = site.launch()
    launcher.ask("start", **site.order("kept", "sleep 60 & wait"))
    launcher.ask("start", **site.order("left", "sleep 60 & echo $! > pid; exec sleep 60"))
    kept, left = (launcher.tasks()[site.id_of(name)]["pid"] for name in ("kept", "left"))
    remains = site.pid_from("left")
    site.kill_launcher(launcher)
    (site.state_dir / "launcher.journal").unlink()
    os.kill(left, signal.SIGKILL)
    launcher = site.launch()
    ended = wait_until(lambda: (t := launcher.tasks()[site.id_of("left")])["ended"] and t, "it is swept")
    assert (ended["exit_code"], ended["signal"]) == (None, None)
    wait_until(lambda: is_gone(remains), "what it left behind is gone")
    assert launcher.tasks()[site.id_of("kept")] == {
        "task_id": site.id_of("kept"),
        "pid": kept,
        "sandbox": str(site.sandbox("kept")),
        "ended": False,
        "exit_code": None,
        "signal": None,
        "excess": None,
        "mem": 0,
    }
    launcher.ask("signal", task_id=site.id_of("kept"), signal=9)
    assert launcher.exit_of(site.id_of("kept")) == (None, None)
    wait_until(lambda: is_gone(kept), "the task is signalled")


@pytest.mark.parametrize("place", ["nowhere", "elsewhere", pytest.param("anothers", marks=as_root)])
def test_a_process_that_only_says_that_it_is_a_task_is_not_believed(site: Site, place: str) -> None:
    task_id = site.id_of("task")
    if place == "elsewhere":
        task_id = f"../{task_id}"
        (site.state_dir / site.id_of("task")).mkdir(parents=True)
    elif place == "anothers":
        site.sandbox("task").mkdir(parents=True)
        os.chown(site.sandbox("task"), pwd.getpwnam("nobody").pw_uid, -1)
    liar = subprocess.Popen(["sleep", "60"], start_new_session=True, env={"HUBFLEET_TASK": task_id})
    try:
        assert site.launch().tasks() == {}
        assert liar.poll() is None
    finally:
        liar.kill()
        liar.wait()


def test_a_line_torn_by_a_crash_costs_nothing_but_itself(site: Site) -> None:
    lines = [
        start_line("kept", 2, 1, "another-boot"),
        {"event": "exit", "task_id": "kept", "exit_code": 3, "signal": None},
        start_line("forgotten", 2, 1, "another-boot"),
        {"event": "exit", "task_id": "forgotten", "exit_code": 0, "signal": None},
        {"event": "forget", "task_id": "forgotten"},
        {"event": "nonsense", "task_id": "x"},
    ]
    write_journal(site, *lines, torn='{"event": "start", "task_id": "torn", "pi')
    launcher = site.launch()
    assert {name: task["exit_code"] for name, task in launcher.tasks().items()} == {"kept": 3}
    # It has been rewritten, so that what comes next is a line of its own.
    journal = [json.loads(line) for line in (site.state_dir / "launcher.journal").read_text().splitlines()]
    assert [line["event"] for line in journal] == ["start", "exit"]


def test_the_journal_holds_no_secret_and_is_for_its_owner_only(site: Site) -> None:
    launcher = site.launch()
    environment = {"PATH": PATH, "TOKEN": "hunter2"}
    launcher.ask("start", **site.order("task", ["sleep", "60"], environment=environment))
    launcher.ask("start", **site.order("other", "exit 0 # hunter2"))
    launcher.exit_of(site.id_of("other"))
    for name in ("launcher.journal", "launcher.sock", "launcher.lock", "launcher.log"):
        assert stat.S_IMODE((site.state_dir / name).stat().st_mode) == 0o600, name
        if name != "launcher.sock":
            assert "hunter2" not in (site.state_dir / name).read_text()
    assert stat.S_IMODE(site.state_dir.stat().st_mode) == 0o700


# What clients do wrong


def test_garbage_gets_an_error_and_harms_nobody(site: Site) -> None:
    launcher = site.launch()
    for garbage in (
        b"not json\n",
        b"\xff\xfe\n",
        b"[1, 2]\n",
        b"null\n",
        b"\n",
        b"[" * 100_000 + b"\n",
        b'{"id": 1}\n',
        b'{"id": 1, "verb": ["list"]}\n',
        b'{"id": 1, "verb": "format"}\n',
        b'{"id": 1, "verb": "start"}\n',
        b'{"id": 1, "verb": "forget"}\n',
        b'{"id": 1, "verb": "signal", "task_id": {}, "signal": true}\n',
    ):
        launcher.socket.sendall(garbage)
        assert launcher.receive()["error"]
    assert launcher.ask("hello")["ok"]["protocol"] == 1


def test_a_request_may_come_in_pieces(site: Site) -> None:
    launcher = site.launch()
    for piece in (b'{"id": 1, "ve', b'rb": "hello"}\n{"id": 2, "verb": "li', b'st"}\n'):
        launcher.socket.sendall(piece)
        site.connect().ask("hello")  # a round of the launcher's loop in between
    assert [launcher.receive()["id"] for _ in range(2)] == [1, 2]


def test_a_request_without_end_is_cut_off(site: Site) -> None:
    endless = site.launch()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        endless.socket.sendall(b"x" * 2 * LONGEST_REQUEST)
    assert "ok" in site.connect().ask("hello")


def test_a_client_that_does_not_read_is_let_go_and_blocks_nobody(site: Site) -> None:
    deaf = site.launch()
    other = site.connect()
    noise = b'{"id": "' + b"x" * 60_000 + b'", "verb": "list"}\n'
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        deaf.socket.sendall(noise * (2 * MOST_UNREAD // len(noise)))
    assert "ok" in other.ask("hello")


def test_a_client_may_leave_before_its_reply(site: Site) -> None:
    hasty = site.launch()
    stays = site.connect()
    stays.ask("hello")
    hasty.send("start", **site.order("task", "exit 0"))
    hasty.close()
    assert stays.exit_of(site.id_of("task")) == (0, None)


# The launcher's own life


def files(site: Site) -> set[str]:
    return {path.name for path in site.state_dir.iterdir()}


def test_an_idle_launcher_leaves_nothing_behind(site: Site) -> None:
    launcher = site.launch()
    pid = launcher.ask("hello")["ok"]["pid"]
    launcher.ask("start", **site.order("task", "exit 0", sandbox=str(site.state_dir.parent / "elsewhere")))
    launcher.exit_of(site.id_of("task"))
    launcher.ask("forget", task_id=site.id_of("task"))
    launcher.close()
    wait_until(lambda: not lives(pid), "the launcher leaves")
    assert files(site) == set()


def test_an_exit_that_nobody_collected_is_kept_for_the_next_launcher(site: Site) -> None:
    launcher = site.launch()
    pid = launcher.ask("hello")["ok"]["pid"]
    launcher.ask("start", **site.order("task", "read line; exit 6", sandbox=str(site.state_dir.parent / "s")))
    launcher.close()
    wait_until(lambda: not lives(pid), "the launcher leaves")
    assert files(site) == {"launcher.journal"}
    # Nothing comes from /dev/null, so read fails at once.
    assert site.launch().tasks()[site.id_of("task")]["exit_code"] == 6


def test_sigterm_ends_a_launcher_without_tasks_only(site: Site) -> None:
    launcher = site.launch()
    pid = launcher.ask("hello")["ok"]["pid"]
    task = launcher.ask("start", **site.order("task", ["sleep", "60"]))["ok"]["pid"]
    os.kill(pid, signal.SIGTERM)
    log = site.state_dir / "launcher.log"
    wait_until(lambda: "SIGTERM is ignored" in log.read_text(), "the launcher says that it stays")
    assert lives(task)
    launcher.ask("signal", task_id=site.id_of("task"), signal=9)
    launcher.exit_of(site.id_of("task"))
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not lives(pid), "the launcher ends")


def test_there_is_one_launcher_for_a_directory(site: Site) -> None:
    pids = {site.launch().ask("hello")["ok"]["pid"] for _ in range(3)}
    assert len(pids) == 1


def test_launchers_that_start_at_once_agree_on_one(site: Site) -> None:
    command = [sys.executable, "-m", "hubfleet.backend.drivers.launcher", str(site.state_dir)]
    starters = [subprocess.Popen(command) for _ in range(4)]
    assert [starter.wait(DEADLINE) for starter in starters] == [0] * 4
    running = [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit()
        and lives(int(entry.name))
        and os.fsencode(site.state_dir) in (entry / "cmdline").read_bytes()
    ]
    assert running == [site.connect().ask("hello")["ok"]["pid"]]


def test_the_launcher_keeps_nothing_of_its_starter(site: Site) -> None:
    with open(os.devnull) as inherited:
        launcher = site.launch(pass_fds=[inherited.fileno()])
    pid = launcher.ask("hello")["ok"]["pid"]
    process = read_process(pid)
    assert process is not None
    assert process.parent != os.getpid()
    assert process.session not in (os.getsid(0), pid)  # no session leader: it can never get a terminal
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    targets = {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)}
    assert targets == {"/dev/null", str(site.state_dir / "launcher.log")}
    assert [link for link in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(link) == "/dev/null"] == [
        Path(f"/proc/{pid}/fd/0")
    ]


def test_a_deep_state_directory_is_as_good_as_any(tmp_path: Path) -> None:
    site = Site(tmp_path.joinpath(*["a-rather-long-name-of-a-directory"] * 12))
    try:
        launcher = site.launch()
        launcher.ask("start", **site.order("task", "exit 9"))
        assert launcher.exit_of(site.id_of("task")) == (9, None)
    finally:
        site.close()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "hubfleet.backend.drivers.launcher", str(tmp_path / "file")]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
    assert result.returncode == 1
    assert "did not start" in result.stderr
    assert str(tmp_path / "file") in result.stderr


# Accounts


def test_an_account_that_is_not_there_is_refused(site: Site) -> None:
    reply = site.launch().ask("start", **site.order("task", ["true"], user="no-such-account"))
    assert reply["refused"]
    assert "no-such-account" in reply["error"]


@as_root
def test_root_runs_a_task_as_the_account_that_is_asked_for(site: Site) -> None:
    launcher = site.launch(extra_groups=[os.getgid(), 4, 24])
    launcher.ask("start", **site.order("task", "id -u; id -g; id -G; echo x > made", user="nobody"))
    assert launcher.exit_of(site.id_of("task")) == (0, None)
    account = pwd.getpwnam("nobody")
    groups = os.getgrouplist("nobody", account.pw_gid)
    uid, gid, *all_groups = site.read("task").split()
    assert (int(uid), int(gid)) == (account.pw_uid, account.pw_gid)
    assert {int(group) for group in all_groups} == set(groups)
    sandbox = site.sandbox("task")
    for path in (sandbox, sandbox / "stdout", sandbox / "made"):
        assert path.stat().st_uid == account.pw_uid


@as_root
def test_a_task_of_another_account_is_signalled_and_swept_too(site: Site) -> None:
    launcher = site.launch()
    launcher.ask("start", **site.order("task", f"{DAEMON}; exec sleep 60", user="nobody"))
    orphan = site.pid_from("task")
    launcher.ask("signal", task_id=site.id_of("task"), signal=15)
    assert launcher.exit_of(site.id_of("task")) == (None, 15)
    assert not lives(orphan)


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
    site = Site(package / "state")
    try:
        shutil.copytree(drivers, package / "launch", ignore=shutil.ignore_patterns("__*"))
        package.chmod(0o777)
        command = ["/usr/bin/python3", "-m", "launch.launcher", str(site.state_dir)]
        subprocess.run(command, check=True, cwd=package, user="nobody", group="nogroup", timeout=DEADLINE)
        launcher = site.connect()
        assert "only root" in launcher.ask("start", **site.order("a", ["true"], user="root"))["error"]
        launcher.ask("start", **site.order("b", ["id", "-un"], user="nobody"))
        assert launcher.exit_of(site.id_of("b")) == (0, None)
        assert site.read("b") == "nobody\n"
    finally:
        site.close()
        shutil.rmtree(package)

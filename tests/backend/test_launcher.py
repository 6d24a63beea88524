"""The launcher as its clients and its tasks see it: real processes, the real socket."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launching import (
    DEADLINE,
    PATH,
    Home,
    lives,
    wait_until,
)

from hubfleet.backend.drivers.launcher_server import LONGEST_REQUEST, MOST_UNREAD
from hubfleet.backend.drivers.proctree import read_process

# How tasks run


@pytest.mark.parametrize(
    ("command", "end"),
    [("exit 0", (0, None)), ("exit 3", (3, None)), ("kill -9 $$", (None, 9)), ("kill -TERM $$", (None, 15))],
)
def test_a_task_starts_and_how_it_ends_is_told(home: Home, command: str, end: tuple[Any, Any]) -> None:
    launcher = home.launch()
    reply = launcher.ask("start", **home.order("task", command))
    assert reply["ok"]["pid"] > 1
    assert launcher.exit_of(home.id_of("task")) == end
    task = launcher.tasks()[home.id_of("task")]
    assert (task["ended"], task["exit_code"], task["signal"]) == (True, *end)


def test_every_client_is_told_of_an_exit(home: Home) -> None:
    starter = home.launch()
    listener = home.connect()
    listener.ask("hello")
    starter.ask("start", **home.order("task", "exit 4"))
    assert starter.exit_of(home.id_of("task")) == listener.exit_of(home.id_of("task")) == (4, None)


def test_output_goes_to_private_files_in_a_private_sandbox(home: Home) -> None:
    launcher = home.launch()
    launcher.ask("start", **home.order("task", "pwd; echo trouble >&2; umask"))
    launcher.exit_of(home.id_of("task"))
    sandbox = home.sandbox("task")
    assert home.read("task") == f"{sandbox}\n0022\n"
    assert home.read("task", "stderr") == "trouble\n"
    assert stat.S_IMODE(sandbox.stat().st_mode) == 0o700
    assert {stat.S_IMODE((sandbox / name).stat().st_mode) for name in ("stdout", "stderr")} == {0o600}


def test_output_is_not_written_through_a_link_that_lies_in_the_sandbox(home: Home, tmp_path: Path) -> None:
    launcher = home.launch()
    home.sandbox("task").mkdir(parents=True)
    (home.sandbox("task") / "stdout").symlink_to(tmp_path / "elsewhere")
    reply = launcher.ask("start", **home.order("task", "echo hello"))
    assert "output" in reply["error"]
    assert not (tmp_path / "elsewhere").exists()


def test_the_environment_is_exactly_what_was_asked_for_and_the_marker(home: Home) -> None:
    launcher = home.launch()
    environment = {"PATH": PATH, "ODD": "a=b\nc\udcff", "HUBFLEET_TASK": "someone-else"}
    order = home.order("task", ["cat", "/proc/self/environ"], environment=environment)
    launcher.ask("start", **order)
    launcher.exit_of(home.id_of("task"))
    output = (home.sandbox("task") / "stdout").read_bytes()
    assert sorted(output.rstrip(b"\0").split(b"\0")) == [
        b"HUBFLEET_TASK=" + home.id_of("task").encode(),
        b"ODD=a=b\nc\xff",
        b"PATH=" + PATH.encode(),
    ]


def test_a_task_inherits_no_descriptor_no_ignored_signal_and_no_session(home: Home) -> None:
    launcher = home.launch()
    home.connect().ask("hello")
    script = "readlink /proc/self/fd/0; grep -E 'Sig(Ign|Blk)' /proc/self/status; ps -o sid= -p $$; echo $$"
    launcher.ask("start", **home.order("files", ["ls", "/proc/self/fd"]))
    launcher.ask("start", **home.order("rest", script))
    launcher.exit_of(home.id_of("files"))
    launcher.exit_of(home.id_of("rest"))
    # The fourth is the directory that ls reads.
    assert home.read("files").split() == ["0", "1", "2", "3"]
    stdin, blocked, ignored, session, pid = home.read("rest").splitlines()
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
    home: Home, program: str, sentence: str
) -> None:
    launcher = home.launch()
    sandbox = home.sandbox("task")
    sandbox.mkdir(parents=True)
    (sandbox / "plain").write_text("")
    for name, content in (("noise", b"\x01\x02"), ("orphan", b"#!/no/such/interpreter\n")):
        (sandbox / name).write_bytes(content)
        (sandbox / name).chmod(0o755)
    reply = launcher.ask("start", **home.order("task", [program]))
    assert reply["refused"]
    assert sentence in reply["error"]
    assert launcher.tasks() == {}
    # The refusal does not use up the id.
    assert "ok" in launcher.ask("start", **home.order("task", ["true"]))
    assert launcher.exit_of(home.id_of("task")) == (0, None)


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
def test_an_order_that_no_process_can_be_given_is_refused(home: Home, changes: dict[str, Any]) -> None:
    launcher = home.launch()
    reply = launcher.ask("start", **{**home.order("task", ["true"]), **changes})
    assert reply["refused"]
    assert launcher.tasks() == {}


def test_the_same_id_starts_one_task(home: Home) -> None:
    launcher = home.launch()
    order = home.order("task", "echo started; exec sleep 60")
    requests = [launcher.send("start", **order) for _ in range(3)]
    replies = [launcher.receive() for _ in requests]
    assert len({reply["ok"]["pid"] for reply in replies}) == 1
    wait_until(lambda: home.read("task"), "the task writes")
    assert launcher.ask("start", **order)["ok"] == replies[0]["ok"]
    assert home.read("task") == "started\n"


def test_an_id_whose_task_has_ended_is_refused(home: Home) -> None:
    launcher = home.launch()
    pid = launcher.ask("start", **home.order("task", "exit 0"))["ok"]["pid"]
    launcher.exit_of(home.id_of("task"))
    reply = launcher.ask("start", **home.order("task", "exit 0"))
    assert reply["refused"]
    assert reply["ended"]
    assert reply["pid"] == pid
    assert "already ended" in reply["error"]


def test_only_an_ended_task_can_be_forgotten(home: Home) -> None:
    launcher = home.launch()
    launcher.ask("start", **home.order("task", ["sleep", "60"]))
    assert "has not ended" in launcher.ask("forget", task_id=home.id_of("task"))["error"]
    launcher.ask("signal", task_id=home.id_of("task"), signal=9)
    launcher.exit_of(home.id_of("task"))
    assert "ok" in launcher.ask("forget", task_id=home.id_of("task"))
    assert launcher.tasks() == {}
    assert "ok" in launcher.ask("forget", task_id=home.id_of("task"))


# What clients do wrong


def test_garbage_gets_an_error_and_harms_nobody(home: Home) -> None:
    launcher = home.launch()
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


def test_a_request_may_come_in_pieces(home: Home) -> None:
    launcher = home.launch()
    for piece in (b'{"id": 1, "ve', b'rb": "hello"}\n{"id": 2, "verb": "li', b'st"}\n'):
        launcher.socket.sendall(piece)
        home.connect().ask("hello")  # a round of the launcher's loop in between
    assert [launcher.receive()["id"] for _ in range(2)] == [1, 2]


def test_a_request_without_end_is_cut_off(home: Home) -> None:
    other, endless = home.launch(), home.connect()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        endless.socket.sendall(b"x" * 2 * LONGEST_REQUEST)
    assert "ok" in other.ask("hello")


def test_a_client_that_does_not_read_is_let_go_and_blocks_nobody(home: Home) -> None:
    deaf = home.launch()
    other = home.connect()
    noise = b'{"id": "' + b"x" * 60_000 + b'", "verb": "list"}\n'
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        deaf.socket.sendall(noise * (2 * MOST_UNREAD // len(noise)))
    assert "ok" in other.ask("hello")


def test_a_client_may_leave_before_its_reply(home: Home) -> None:
    hasty = home.launch()
    stays = home.connect()
    stays.ask("hello")
    hasty.send("start", **home.order("task", "exit 0"))
    hasty.close()
    assert stays.exit_of(home.id_of("task")) == (0, None)


# The launcher's own life


def files(home: Home) -> set[str]:
    return {path.name for path in home.state_dir.iterdir()}


def test_an_idle_launcher_leaves_nothing_behind(home: Home) -> None:
    launcher = home.launch()
    pid = launcher.ask("hello")["ok"]["pid"]
    launcher.ask("start", **home.order("task", "exit 0", sandbox=str(home.state_dir.parent / "elsewhere")))
    launcher.exit_of(home.id_of("task"))
    launcher.ask("forget", task_id=home.id_of("task"))
    launcher.close()
    wait_until(lambda: not lives(pid), "the launcher leaves")
    assert files(home) == set()


def test_an_exit_that_nobody_collected_is_kept_for_the_next_launcher(home: Home) -> None:
    launcher = home.launch()
    pid = launcher.ask("hello")["ok"]["pid"]
    launcher.ask("start", **home.order("task", "read line; exit 6", sandbox=str(home.state_dir.parent / "s")))
    launcher.close()
    wait_until(lambda: not lives(pid), "the launcher leaves")
    assert files(home) == {"launcher.journal"}
    # Nothing comes from /dev/null, so read fails at once.
    assert home.launch().tasks()[home.id_of("task")]["exit_code"] == 6


def test_sigterm_ends_a_launcher_without_tasks_only(home: Home) -> None:
    launcher = home.launch()
    pid = launcher.ask("hello")["ok"]["pid"]
    task = launcher.ask("start", **home.order("task", ["sleep", "60"]))["ok"]["pid"]
    os.kill(pid, signal.SIGTERM)
    log = home.state_dir / "launcher.log"
    wait_until(lambda: "SIGTERM is ignored" in log.read_text(), "the launcher says that it stays")
    assert lives(task)
    launcher.ask("signal", task_id=home.id_of("task"), signal=9)
    launcher.exit_of(home.id_of("task"))
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not lives(pid), "the launcher ends")


def test_there_is_one_launcher_for_a_directory(home: Home) -> None:
    pids = {home.launch().ask("hello")["ok"]["pid"] for _ in range(3)}
    assert len(pids) == 1


def launchers_of(home: Home) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # gone meanwhile
            if entry.name.isdigit() and os.fsencode(home.state_dir) in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_launchers_that_start_at_once_agree_on_one(home: Home) -> None:
    command = [sys.executable, "-m", "hubfleet.backend.drivers.launcher", str(home.state_dir)]
    starters = [subprocess.Popen(command) for _ in range(4)]
    launcher = wait_until(home.connected, "one answers")  # at once: it leaves after a second without a client
    assert [starter.wait(DEADLINE) for starter in starters] == [0] * 4
    # Those that came too late have said so before they end.
    wait_until(lambda: launchers_of(home) == [launcher.ask("hello")["ok"]["pid"]], "there is one left")


def test_the_launcher_keeps_nothing_of_its_starter(home: Home) -> None:
    with open(os.devnull) as inherited:
        launcher = home.launch(pass_fds=[inherited.fileno()])
    pid = launcher.ask("hello")["ok"]["pid"]
    process = read_process(pid)
    assert process is not None
    assert process.parent != os.getpid()
    assert process.session not in (os.getsid(0), pid)  # no session leader: it can never get a terminal
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    targets = {os.readlink(f"/proc/{pid}/fd/{number}") for number in range(3)}
    assert targets == {"/dev/null", str(home.state_dir / "launcher.log")}
    assert [link for link in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(link) == "/dev/null"] == [
        Path(f"/proc/{pid}/fd/0")
    ]


def test_a_deep_state_directory_is_as_good_as_any(tmp_path: Path) -> None:
    home = Home(tmp_path.joinpath(*["a-rather-long-name-of-a-directory"] * 12))
    try:
        launcher = home.launch()
        launcher.ask("start", **home.order("task", "exit 9"))
        assert launcher.exit_of(home.id_of("task")) == (9, None)
    finally:
        home.close()


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "hubfleet.backend.drivers.launcher", str(tmp_path / "file")]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=DEADLINE)
    assert result.returncode == 1
    assert "did not start" in result.stderr
    assert str(tmp_path / "file") in result.stderr

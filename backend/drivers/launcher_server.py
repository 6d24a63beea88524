"""The launcher's loop and its protocol: newline-delimited JSON on a Unix socket.

A request is ``{"id": ..., "verb": ..., ...}``; its reply repeats the id and holds either ``"ok"`` or
``"error"``, a sentence, with ``"refused": true`` where asking again is of no use. ``{"exit": {...}}`` is
pushed to every client when a task has ended.

=========  =============================================  ================================
verb       fields                                         ok
=========  =============================================  ================================
hello      output_bytes: kept of a long stdout or stderr  protocol, pid, features, groups
start      task_id, command, environment, sandbox, user,  pid, template: the kind it was
           cpus, mem, mounts, prefork                     forked from, executed: why it was
                                                          executed after all
execute    as start, and seconds                          code, or null if it was not
                                                          done in time
signal     task_id, signal
list                                                      tasks: a list of
                                                          task_id, pid, sandbox, ended,
                                                          exit_code, signal, excess, mem
forget     task_id
prefork    python, environment, warm: what
           `prefork.Templates` are configured with
templates                                                 templates: a list of kind, pid,
                                                          ready, forked, executed, cold,
                                                          reason
=========  =============================================  ================================

The refusal of a start whose task has ended also has ``"ended": true`` and the ``"pid"`` it had.

A launcher lives as long as its tasks, through changes of the backend's version. So the protocol's number
says what is understood at all, and ``features`` what this launcher can do beyond the first ones: a backend
asks for nothing else of it. Fields that a launcher does not know are passed over.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

from .custody import Task
from .isolation.cgroups import Groups
from .isolation.mounts import can_mount
from .journal import Journal, Record
from .order import Order, StartError
from .rotation import Rotation
from .supervisor import Supervisor

PROTOCOL = 1
FEATURES = ("execute", "prefork")
"""What launchers of the first version could not do."""
MOUNTS = "mounts"
"""Announced where tasks can have mounts."""

IDLE_SECONDS = 1.0
"""How long a launcher without a client and without a task stays."""

MOST_CLIENTS = 64
LONGEST_COMMAND_SECONDS = 3600
LONGEST_REQUEST = 8 << 20
MOST_UNREAD = 16 << 20
"""Bytes kept for a client that does not read; beyond that it is let go."""


class BadRequest(Exception):
    """A request that makes no sense; the message says why."""


class Client:
    """One connection and what has not been read or written yet."""

    __slots__ = ("connection", "received", "unsent")

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.received = bytearray()
        self.unsent = bytearray()


class Server:
    """The launcher's loop.

    Parameters
    ----------
    listener
        A listening socket that does not block.
    journal
        The journal of the state directory, not loaded yet.
    groups
        The control groups that tasks can have.
    log
        Called with a sentence about anything a person should know.
    """

    def __init__(
        self, listener: socket.socket, journal: Journal, groups: Groups, log: Callable[[str], None]
    ) -> None:
        self._log = log
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._clients: set[Client] = set()
        self._leaving = False
        self._idle_since: float | None = None
        self._verbs: Mapping[str, Callable[[Mapping[str, object]], object]] = {
            "hello": self._hello,
            "signal": self._signal,
            "list": self._list,
            "prefork": self._prefork,
            "templates": lambda request: {"templates": self.supervisor.templates.describe()},
            "forget": self._forget,
        }
        self._rotation = Rotation(log)
        self._groups = groups
        self._can_mount = can_mount()
        self.supervisor = Supervisor(journal, self._watch, self._unwatch, groups, self._announce, log)
        self._watch(listener.fileno(), self._accept)
        self._wakeup, wakeup = os.pipe()
        for descriptor in (self._wakeup, wakeup):
            os.set_blocking(descriptor, False)
        self._watch(self._wakeup, self._read_signals)
        for signum in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(signum, lambda *_: None)
        for signum in (signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, signal.SIG_IGN)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)

    def run(self) -> None:
        """Serve until there is nothing left to care for."""
        while not self._leaving:
            times = (self.supervisor.tick(), self._rotation.tick(time.monotonic(), self._running))
            due = min((each for each in times if each is not None), default=None)
            if self._clients or self.supervisor.busy:
                self._idle_since = None
            else:
                self._idle_since = self._idle_since or time.monotonic()
                if time.monotonic() >= self._idle_since + IDLE_SECONDS:
                    return
                due = min(due or float("inf"), self._idle_since + IDLE_SECONDS)
            timeout = None if due is None else max(0.0, due - time.monotonic())
            for key, events in self._selector.select(timeout):
                # An earlier callback of this round may have closed what this one is about.
                if self._selector.get_map().get(key.fd) is key:
                    key.data(events)

    def _watch(self, descriptor: int, callback: Callable[[], None]) -> None:
        self._selector.register(descriptor, selectors.EVENT_READ, lambda events: callback())

    def _unwatch(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)

    def _read_signals(self) -> None:
        received = os.read(self._wakeup, 65536)
        self.supervisor.reap()
        if signal.SIGTERM in received:
            if self.supervisor.busy:
                self._log("SIGTERM is ignored, since tasks are in this launcher's care; end them first.")
            else:
                self._leaving = True

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            self._log(f"A client cannot be let in: {error}")
            # Out of descriptors, say: the client still waits, so the loop would spin.
            time.sleep(0.05)
            return
        if len(self._clients) >= MOST_CLIENTS:
            self._log(f"A client is turned away: there are {MOST_CLIENTS} already.")
            connection.close()
            return
        connection.setblocking(False)
        client = Client(connection)
        self._clients.add(client)
        self._selector.register(connection, selectors.EVENT_READ, partial(self._serve, client))

    def _serve(self, client: Client, events: int) -> None:
        if events & selectors.EVENT_WRITE:
            self._flush(client)
        if not events & selectors.EVENT_READ or client not in self._clients:
            return
        try:
            received = client.connection.recv(262144)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._let_go(client)
            return
        # Only what came now can hold the end of a line.
        *lines, rest = received.split(b"\n")
        for line in lines:
            self._answer(client, bytes(client.received) + line)
            client.received.clear()
        client.received += rest
        if len(client.received) > LONGEST_REQUEST:
            self._log(f"A client is let go, since its request is longer than {LONGEST_REQUEST} bytes.")
            self._let_go(client)

    def _answer(self, client: Client, line: bytes) -> None:
        """Do what one line asks for; whatever it holds, it gets a reply."""
        request_id: object = None
        try:
            request = _parse(line)
            request_id = request.get("id")
            verb = request.get("verb")
            if verb == "start":
                order = Order.from_request(request)
                self.supervisor.start(order, partial(self._settled, client, request_id))
                return
            if verb == "execute":
                order = Order.from_request(request)
                self.supervisor.execute(order, _seconds(request), partial(self._done, client, request_id))
                return
            if not isinstance(verb, str) or verb not in self._verbs:
                known = ", ".join(sorted([*self._verbs, "start", "execute"]))
                raise BadRequest(f"There is no verb {verb!r}; there are: {known}.")
            reply = {"id": request_id, "ok": self._verbs[verb](request)}
        except StartError as error:
            reply = _start_error(request_id, error)
        except BadRequest as error:
            reply = {"id": request_id, "error": str(error)}
        except Exception:  # the tasks of all must not depend on what one client sends
            sys.excepthook(*sys.exc_info())
            reply = {"id": request_id, "error": "The launcher failed on this request; launcher.log says how."}
        self._send(client, reply)

    def _settled(
        self, client: Client, request_id: object, task: Task | None, error: StartError | None
    ) -> None:
        if task is None or error is not None:
            assert error is not None
            reply = _start_error(request_id, error)
        elif (record := task.record).ended:
            reply = {
                "id": request_id,
                "error": f"Task {record.task_id} has already ended; a task id serves once, so use another.",
                "refused": True,
                "ended": True,
                "pid": record.pid,
            }
        else:
            how = {"template": task.template, "executed": task.executed_since}
            reply = {"id": request_id, "ok": {"pid": record.pid, **how}}
        self._send(client, reply)

    def _done(self, client: Client, request_id: object, code: int | None, error: StartError | None) -> None:
        reply = {"id": request_id, "ok": {"code": code}} if error is None else _start_error(request_id, error)
        self._send(client, reply)

    def _hello(self, request: Mapping[str, object]) -> object:
        output_bytes = request.get("output_bytes")
        if isinstance(output_bytes, int) and output_bytes > 0:
            self._rotation.kept_bytes = output_bytes
        return {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "features": [*FEATURES, MOUNTS] if self._can_mount else FEATURES,
            "groups": self._groups.bases,
        }

    def _running(self) -> list[Record]:
        return [task.record for task in self.supervisor.tasks.values() if not task.record.ended]

    def _list(self, request: Mapping[str, object]) -> object:
        self.supervisor.settle()
        return {"tasks": [_describe(task.record) for task in self.supervisor.tasks.values()]}

    def _prefork(self, request: Mapping[str, object]) -> None:
        python, environment, warm = (request.get(name) for name in ("python", "environment", "warm"))
        if python is not None and not (isinstance(python, str) and os.path.isabs(python)):
            raise BadRequest(f"The python of templates is an absolute path or nothing, not {python!r}.")
        if not isinstance(environment, dict) or not all(
            isinstance(value, str) and "\0" not in name + value for name, value in environment.items()
        ):
            raise BadRequest("The environment of templates must map names to texts without zero bytes.")
        if not isinstance(warm, list) or not all(isinstance(kind, str) for kind in warm):
            raise BadRequest("The kinds of templates to be made at once must be a list of texts.")
        self.supervisor.templates.configure(python, environment, warm)

    def _signal(self, request: Mapping[str, object]) -> None:
        signum = request.get("signal")
        if not isinstance(signum, int) or signum not in signal.valid_signals():
            raise BadRequest(f"There is no signal {signum!r}.")
        self.supervisor.signal(_task_id(request), signum)

    def _forget(self, request: Mapping[str, object]) -> None:
        try:
            self.supervisor.forget(_task_id(request))
        except ValueError as error:
            raise BadRequest(str(error)) from error

    def _announce(self, record: Record) -> None:
        exit_ = {
            "task_id": record.task_id,
            "exit_code": record.exit_code,
            "signal": record.signal,
            "excess": record.excess,
        }
        for client in list(self._clients):
            self._send(client, {"exit": exit_})

    def _send(self, client: Client, message: Mapping[str, object]) -> None:
        if client in self._clients:
            client.unsent += json.dumps(message, separators=(",", ":")).encode() + b"\n"
            self._flush(client)

    def _flush(self, client: Client) -> None:
        try:
            sent = client.connection.send(client.unsent) if client.unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._let_go(client)
            return
        del client.unsent[:sent]
        if len(client.unsent) > MOST_UNREAD:
            self._log("A client is let go, since it does not read what it is sent.")
            self._let_go(client)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if client.unsent else 0)
        key = self._selector.get_key(client.connection)
        if key.events != events:
            self._selector.modify(client.connection, events, key.data)

    def _let_go(self, client: Client) -> None:
        if client in self._clients:
            self._clients.remove(client)
            self._selector.unregister(client.connection)
            client.connection.close()


def _parse(line: bytes) -> dict[str, object]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"A request is one line of JSON: {error}") from error
    if not isinstance(request, dict):
        raise BadRequest("A request is a JSON object.")
    return request


def _task_id(request: Mapping[str, object]) -> str:
    task_id = request.get("task_id")
    if not isinstance(task_id, str):
        raise BadRequest(f"This verb needs the task_id of a task, not {task_id!r}.")
    return task_id


def _seconds(request: Mapping[str, object]) -> float:
    seconds = request.get("seconds")
    if not isinstance(seconds, (int, float)) or not 0 < seconds <= LONGEST_COMMAND_SECONDS:
        raise BadRequest(f"A command needs seconds, above 0 and at most {LONGEST_COMMAND_SECONDS}.")
    return seconds


def _start_error(request_id: object, error: StartError) -> dict[str, object]:
    return {"id": request_id, "error": str(error), "refused": error.refused}


def _describe(record: Record) -> dict[str, object]:
    return {
        "task_id": record.task_id,
        "pid": record.pid,
        "sandbox": record.sandbox,
        "ended": record.ended,
        "exit_code": record.exit_code if record.ended else None,
        "signal": record.signal if record.ended else None,
        "excess": record.excess if record.ended else None,
        "mem": record.mem,
    }

"""The tasks in the launcher's care: started, signalled, swept up after, and found again.

The life of a task::

    forked ──journaled──► starting ──exec──► running ──leader ends──► swept ──journaled──► ended
                              └─ refused: forgotten

A task has ended when none of its processes is left; only then is its exit journaled and announced.

Standard library only, and as little of that as will do: the launcher imports this.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial

from .adoption import find_lost
from .commands import Commands, Done
from .custody import LONGEST_PAUSE, Settled, Sweep, Task
from .finding import Finder
from .fork import Forked, fork_task, read_outcome, split_outcome
from .isolation.cgroups import Groups
from .isolation.limits import Limits
from .journal import Journal, Record
from .order import Order, StartError
from .prefork.templates import Templates
from .proctree import boot_id, read_process, send_signal

_REWRITE_LINES = 5000


class Supervisor:
    """All tasks of one launcher.

    Parameters
    ----------
    journal
        Where their lives are written down.
    watch, unwatch
        Have a callback called when a descriptor becomes readable, or no more.
    groups
        The control groups that tasks can have.
    announce
        Called with the record of a task that has ended.
    log
        Called with a sentence about anything a person should know.
    """

    def __init__(
        self,
        journal: Journal,
        watch: Callable[[int, Callable[[], None]], None],
        unwatch: Callable[[int], None],
        groups: Groups,
        announce: Callable[[Record], None],
        log: Callable[[str], None],
    ) -> None:
        self._journal = journal
        self._watch = watch
        self._unwatch = unwatch
        self._groups = groups
        self._limits = Limits(groups)
        self._announce = announce
        self._log = log
        self._boot = boot_id()
        self._children: dict[int, Task] = {}
        self._commands = Commands()
        # Tasks for which a template was asked, and who waits for them.
        self._asked: dict[str, list[Settled]] = {}
        self.templates = Templates(watch, unwatch, log)
        self.tasks: dict[str, Task] = {}
        self._finder = Finder(self.tasks, groups)

    @property
    def busy(self) -> bool:
        """Whether a task is not over yet, or an exit is not on disk yet."""
        alive = any(not task.record.ended for task in self.tasks.values())
        return alive or bool(self._asked) or self._journal.behind

    def adopt(self, state_dir: str) -> None:
        """Take over what the launcher before this one has left: in the journal, and running."""
        records = self._journal.load()
        for lost in find_lost(state_dir, records, self._boot):
            self._log(f"Task {lost.task_id} (process {lost.pid}) runs, but is not in the journal; it is now.")
            lost.mem = self._groups.limit(lost.task_id) / (1 << 20)
            records[lost.task_id] = lost
        self._journal.rewrite(records.values())
        for record in records.values():
            task = self.tasks[record.task_id] = Task(record)
            if not record.ended and not self._watch_leader(task):
                self._log(f"Task {record.task_id} (process {record.pid}) ended while no launcher ran.")
                task.watched = False
                if record.boot == self._boot:
                    task.sweep = Sweep(time.monotonic())
                else:
                    self._end(task)
        self._groups.sweep({task_id for task_id, task in self.tasks.items() if not task.record.ended})

    def start(self, order: Order, settled: Settled) -> None:
        """Start a task; `settled` is called once it runs, or with the reason why it does not.

        A task that is there already, running or ended, is not started again.

        Raises
        ------
        StartError
            If that is known at once.
        """
        task = self.tasks.get(order.task_id)
        if order.task_id in self._asked:
            self._asked[order.task_id].append(settled)
        elif task is None:
            kind = self.templates.ask(order, partial(self._arrived, order))
            if kind is None:
                self._fork(order).waiting.append(settled)
            else:
                self._asked[order.task_id] = [settled]
        elif task.outcome >= 0:
            task.waiting.append(settled)
        else:
            settled(task, None)

    def settle(self) -> None:
        """Start what a template was asked for without it: what is told of the tasks now must be all."""
        if self._asked:
            self.templates.give_up()

    def execute(self, order: Order, seconds: float, done: Done) -> None:
        """Run a command beside a running task; `done` is told how it went.

        Raises
        ------
        StartError
            If that is known at once.
        """
        task = self.tasks.get(order.task_id)
        if task is None or not task.runs or task.outcome >= 0:
            raise StartError(f"Task {order.task_id} does not run, so no command can run beside it.")
        order.beside = task.record.pid
        # The journal's word: it is where the task was started, whatever the request says.
        order.sandbox = task.record.sandbox
        order.groups = self._groups.entrances(order.task_id)
        self._commands.start(order, seconds, done)
        self._finder.expire()

    def signal(self, task_id: str, signum: int) -> None:
        """Send a signal to every process of a task; a task that is gone is no error."""
        if task_id in self._asked:
            self.settle()
        task = self.tasks.get(task_id)
        if task is None or task.record.ended:
            return
        processes = self._finder.of_task(task)
        if signum == signal.SIGKILL:
            self._groups.kill(task_id)
        for process in processes:
            if not send_signal(process, signum):
                self._log(f"Process {process.pid} of task {task_id} does not let us send it signal {signum}.")

    def forget(self, task_id: str) -> None:
        """Drop the record of an ended task; one that is not known is no error.

        Raises
        ------
        ValueError
            If the task has not ended.
        """
        if task_id in self._asked:
            self.settle()
        task = self.tasks.get(task_id)
        if task is None:
            return
        if not task.record.ended:
            raise ValueError(f"Task {task_id} has not ended: signal it first, and forget it after its exit.")
        self._drop(task)

    def reap(self) -> None:
        """Take note of every child that has ended: leaders, and orphans that came to us as subreaper."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            is_command = self._commands.ending(pid)
            self.templates.ended(pid)
            _, status = os.waitpid(pid, 0)
            if is_command:
                self._commands.ended(pid, status)
                continue
            task = self._children.pop(pid, None)
            if task is None:
                continue
            code = os.waitstatus_to_exitcode(status)
            task.record.exit_code, task.record.signal = (code, None) if code >= 0 else (None, -code)
            if task.outcome >= 0:
                self._read_outcome(task)
            if task.record.task_id in self.tasks:
                task.sweep = Sweep(time.monotonic())

    def tick(self) -> float | None:
        """Do what is due, and return when to be called again: a time of the monotonic clock, or None."""
        now = time.monotonic()
        sweeping = [(task, task.sweep) for task in self.tasks.values() if task.sweep is not None]
        due = [(task, sweep) for task, sweep in sweeping if sweep.due <= now]
        if due:
            self._finder.look()
            for task, sweep in due:
                self._sweep(task, sweep, now)
        due_look = self._hold_to_limits()
        # What was seen in this turn of the loop may be wrong in the next.
        self._finder.expire()
        times = [sweep.due for task, sweep in sweeping if task.sweep is not None]
        if due_look is not None:
            times.append(due_look)
        if self._groups.pending:
            self._groups.catch_up()
            times.append(now + LONGEST_PAUSE)
        times += filter(None, (self._commands.tick(now), self.templates.tick(now)))
        if self._journal.behind:
            try:
                self._journal.catch_up()
            except OSError:
                times.append(now + 1.0)
        return min(times, default=None)

    def _hold_to_limits(self) -> float | None:
        """End the tasks that use more memory than they may; return when to look again."""
        limited = [
            (task_id, task.record.mem)
            for task_id, task in self.tasks.items()
            if task.runs and task.record.mem > 0 and task.record.excess is None
        ]
        found, due = self._limits.look(limited, self._finder.ids_of)
        for task_id, excess in found.items():
            self.tasks[task_id].record.excess = excess
            self.signal(task_id, signal.SIGKILL)
        return due

    def _arrived(self, order: Order, forked: Forked | None) -> None:
        """Go on with a task for which a template was asked, with the process that came or without."""
        waiting = self._asked.pop(order.task_id)
        if forked is not None:
            # Whoever died on the way may be reaped already; nor is a template's word taken for it.
            process = read_process(forked.pid)
            known = forked.pid in self._children or forked.pid in self.templates.pids
            if process is None or process.parent != os.getpid() or known:
                forked.abandon()
                forked = None
        try:
            self._fork(order, forked).waiting += waiting
        except StartError as error:
            for settled in waiting:
                settled(None, error)

    def _fork(self, order: Order, forked: Forked | None = None) -> Task:
        """Let a new process become a task: one that waits for that already, or one that is forked now."""
        try:
            order.groups = self._groups.make(order.task_id, order.cpus, order.mem)
        except OSError as error:
            # It is found by the process tree then, and its memory measured.
            self._log(f"Task {order.task_id} has no control group: {error}")
        try:
            return self._take_charge(order, forked or fork_task(order))
        except StartError:
            self._groups.remove(order.task_id)
            raise

    def _take_charge(self, order: Order, forked: Forked) -> Task:
        """Write a new process down, and release it."""
        self._finder.expire()
        process = read_process(forked.pid)
        if process is None:
            # Not reaped yet, so it is there; only a /proc that hides it can be the reason.
            forked.abandon()
            raise StartError("The launcher cannot read /proc, without which no task can be kept track of.")
        record = Record(order.task_id, forked.pid, process.started, self._boot, order.sandbox, order.mem)
        try:
            self._journal.append(record.lines()[0])
        except OSError as error:
            forked.abandon()
            raise StartError(
                f"Task {order.task_id} was not started, since the launcher's journal cannot be written:"
                f" {error.strerror}",
                refused=False,
            ) from error
        task = self.tasks[order.task_id] = self._children[forked.pid] = Task(record)
        task.outcome = forked.outcome
        task.template = forked.template
        self._watch(forked.outcome, partial(self._read_outcome, task))
        forked.release()
        return task

    def _read_outcome(self, task: Task) -> None:
        """Take what the new process has to say; when it has said it all, tell those who wait."""
        try:
            while text := os.read(task.outcome, 4096):
                task.outcome_text += text
        except BlockingIOError:
            return
        self._unwatch(task.outcome)
        os.close(task.outcome)
        task.outcome = -1
        error = read_outcome(task.outcome_text)
        if task.template is not None:
            task.executed_since, _ = split_outcome(task.outcome_text)
            self.templates.note(task.template, task.executed_since)
        if error is not None:
            self._drop(task)
        waiting, task.waiting = task.waiting, []
        for settled in waiting:
            settled(task, error)

    def _watch_leader(self, task: Task) -> bool:
        """Watch a leader that is not our child; return False if it is gone."""
        record = task.record
        if record.boot != self._boot:
            return False
        try:
            handle = os.pidfd_open(record.pid)
        except ProcessLookupError:
            return False
        # The handle is taken first: if the start time matches now, it cannot be another process's.
        process = read_process(record.pid)
        if process is None or process.started != record.started or process.dead:
            os.close(handle)
            return False
        self._watch(handle, partial(self._adopted_leader_ended, task, handle))
        return True

    def _adopted_leader_ended(self, task: Task, handle: int) -> None:
        self._unwatch(handle)
        os.close(handle)
        task.sweep = Sweep(time.monotonic())

    def _sweep(self, task: Task, sweep: Sweep, now: float) -> None:
        """Kill what is left of a task whose leader has ended; if nothing is, the task has ended."""
        remains = self._finder.of_task(task)
        if not self._asked and not any(other.runs for other in self.tasks.values()):
            # With no task running, whatever came to us as subreaper is left over from one that ran.
            own = self.templates.pids | {self._commands.guard.pid}
            remains += self._finder.below(os.getpid(), but=own)
        if not remains:
            self._end(task)
        elif now >= sweep.until:
            pids = ", ".join(str(process.pid) for process in remains)
            self._log(f"Task {task.record.task_id} is reported as ended, but SIGKILL did not end: {pids}")
            self._end(task)
        else:
            self._groups.kill(task.record.task_id)
            for process in remains:
                send_signal(process, signal.SIGKILL)
            sweep.wait(now)

    def _end(self, task: Task) -> None:
        task.sweep = None
        record = task.record
        record.ended = True
        if record.excess is None and record.exit_code != 0:
            record.excess = self._limits.was_exceeded(record.task_id, record.mem)
        self._groups.remove(record.task_id)
        self._journal.append_or_keep(task.record.lines()[1])
        self._announce(task.record)

    def _drop(self, task: Task) -> None:
        del self.tasks[task.record.task_id]
        self._groups.remove(task.record.task_id)
        self._journal.append_or_keep({"event": "forget", "task_id": task.record.task_id})
        if self._journal.lines > max(_REWRITE_LINES, 4 * len(self.tasks)):
            try:
                self._journal.rewrite(task.record for task in self.tasks.values())
            except OSError as error:
                self._log(f"The journal stays long, since it cannot be rewritten: {error}")

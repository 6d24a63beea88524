"""Moves every app, step by step, to its definition; the only writer of what becomes of instances.

One keyed queue of app ids: whatever happens puts the app into it, and `_reconcile`
does the next step and may safely be repeated. A restart puts all apps into it; there
is no other way of recovery.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.api.status import TaskFailure
from hubfleet.api.wire import now

from .. import events
from ..drivers import Driver, TaskExit, TaskSpec
from ..events import EventBus
from ..records import AppRecord, Backoff, Condition, DeploymentRecord, Goal, Instance, config_version
from ..state import State
from . import backoff, environment, health, scaling
from .changes import Changes
from .placer import Placer
from .runner import KILL_GRACE_SECONDS, TaskEnd, TaskRunner
from .sandbox import last_lines

log = logging.getLogger("hubfleet.backend")

_FAILURES = frozenset({Condition.FAILED, Condition.ERROR, Condition.GONE})


class Orchestrator:
    """Keeps every app's tasks at its definition.

    Parameters
    ----------
    state
        What is known; nobody else changes its instances and deployments.
    driver
        The engine.
    bus
        Who is told.
    sandboxes
        Where the tasks' working directories are made.
    base_environment
        What every task finds in its environment, below what Marathon and its app set.
    """

    def __init__(
        self,
        state: State,
        driver: Driver,
        bus: EventBus,
        sandboxes: Path,
        base_environment: Mapping[str, str],
    ) -> None:
        self.state = state
        self.bus = bus
        self.changes = Changes(state, bus, self._enqueue_all)
        self.placer = Placer(state, driver, self._place)
        self._driver = driver
        self._sandboxes = sandboxes
        self._base_environment = base_environment
        self._waiting_apps: dict[str, None] = {}  # an ordered set
        self._wakeup = asyncio.Event()
        self._runners: dict[str, TaskRunner] = {}  # by task id
        self._probers: dict[str, list[health.HealthProber]] = {}  # by task id
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done with an exception when the orchestrator cannot go on."""

    # -- life ---------------------------------------------------------------------------

    async def open(self) -> None:
        """Find the tasks of a former life again, and begin."""
        await self._driver.open()
        await self._recover()
        self._spawn(self._take_exits())
        self._spawn(self._reconcile_for_ever())
        self._spawn(self.placer.run())
        for record in list(self.state.apps.values()):
            owner = record.app.labels.get(labels.OWNER)
            if owner is not None and owner not in self.state.apps and record.id in self.state.apps:
                self.changes.remove(record.id)
        self._enqueue_all(
            [*self.state.apps, *(instance.app_id for instance in self.state.instances.values())]
        )

    async def close(self) -> None:
        """Let go; the tasks keep running."""
        for probers in self._probers.values():
            for prober in probers:
                prober.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._driver.close()

    def _spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)

    async def _recover(self) -> None:
        """Match what the store says runs with what the engine says runs."""
        known = await self._driver.recover()
        expected = {
            instance.task_id: instance for instance in self.state.instances.values() if instance.launched
        }
        for task_id, instance in expected.items():
            task_exit = known.get(task_id)
            if task_id in known and task_exit is None:
                if instance.condition is Condition.PROVISIONED:
                    self._started(instance)
                self._run(instance, found_running=True)
                if instance.condition is Condition.RUNNING:
                    self._begin_probing(instance)
            elif task_id not in known and instance.condition is Condition.PROVISIONED:
                self._run(instance, found_running=False)  # chosen, but not yet started
            else:
                self._ended(instance, TaskEnd(task_exit or TaskExit(task_id, None, None)))
            if instance.condition is Condition.KILLING or instance.goal is Goal.STOPPED:
                self._kill(instance)
        for task_id, task_exit in known.items():
            if task_id in expected:
                continue
            if task_exit is None:
                log.warning("%s runs on the engine, but no app here wants it; it is ended", task_id)
                self._run_unwanted(task_id)
            else:
                await self._driver.forget(task_id)

    def _run_unwanted(self, task_id: str) -> None:
        def forget(_: TaskEnd) -> None:
            self._runners.pop(task_id, None)
            self._spawn(self._driver.forget(task_id))

        spec = TaskSpec(task_id, (), {}, self._sandboxes / task_id)
        runner = TaskRunner(spec, self._driver, KILL_GRACE_SECONDS, lambda: None, forget)
        self._runners[task_id] = runner
        runner.kill()
        self._spawn(runner.run(found_running=True))

    # -- the queue ----------------------------------------------------------------------

    def _enqueue(self, app_id: str) -> None:
        self._waiting_apps[app_id] = None
        self._wakeup.set()

    def _enqueue_all(self, app_ids: Iterable[str]) -> None:
        for app_id in app_ids:
            self._enqueue(app_id)

    async def _reconcile_for_ever(self) -> None:
        while True:
            await self._wakeup.wait()
            self._wakeup.clear()
            while self._waiting_apps:
                app_id = next(iter(self._waiting_apps))
                del self._waiting_apps[app_id]
                self._reconcile(app_id)
                await asyncio.sleep(0)  # requests are answered between two apps

    def _reconcile(self, app_id: str) -> None:
        """Do the next step of one app."""
        record = self.state.apps.get(app_id)
        decision = scaling.decide(record.app if record else None, self.state.instances_of(app_id))
        with self.state.transaction():
            for instance in decision.kill:
                instance.goal = Goal.STOPPED
                self.state.put_instance(instance)
            born = [Instance.scheduled(record.app) for _ in range(decision.start)] if record else []
            for instance in born:
                self.state.put_instance(instance)
        for instance in born:
            self.bus.publish(events.instance_changed(instance))
        for instance in self.state.instances_of(app_id):
            if instance.goal is Goal.STOPPED:
                self._kill(instance)
        if any(instance.condition is Condition.SCHEDULED for instance in self.state.instances_of(app_id)):
            self.placer.wake()
        for deployment in self.state.deployments_of(app_id):
            self._advance(deployment)
        if record is None and not self.state.instances_of(app_id) and app_id not in self.state.apps:
            self.state.forget_versions(app_id)

    def _advance(self, deployment: DeploymentRecord) -> None:
        """Go through the steps of a deployment that are done."""
        while deployment.current < len(deployment.steps):
            if not all(self._is_done(action.action, action.app) for action in deployment.current_actions):
                return
            for action in deployment.current_actions:
                if action.action == "StopApplication" and action.app:
                    self.bus.publish(events.app_terminated(action.app))
            self.bus.publish(events.deployment_progress("deployment_step_success", deployment))
            deployment.current += 1
            if deployment.current < len(deployment.steps):
                self.state.put_deployment(deployment)
                self.bus.publish(events.deployment_progress("deployment_info", deployment))
        self.state.drop_deployment(deployment)
        self.bus.publish(events.deployment_ended(deployment))

    def _is_done(self, action: str, app_id: str | None) -> bool:
        if action == "StartApplication" or app_id is None:
            return True
        record = self.state.apps.get(app_id)
        return scaling.settled(record.app if record else None, self.state.instances_of(app_id))

    # -- instances ----------------------------------------------------------------------

    def _place(self, instance: Instance, host: str, ports: list[int]) -> None:
        """Give a waiting instance its place, and start its task."""
        record = self.state.apps[instance.app_id]
        instance.condition = Condition.PROVISIONED
        instance.host, instance.ports, instance.staged_at = host, ports, now()
        with self.state.transaction():
            self.state.put_instance(instance)
            if record.backoff is not None:
                record.backoff = backoff.advanced(record.backoff, now())
                self.state.put_app(record)
        self._publish_state(instance)
        self._run(instance, found_running=False)

    def _run(self, instance: Instance, found_running: bool) -> None:
        app = self.state.definition(instance)
        assert app is not None, f"no definition of {instance.id}"
        sandbox = self._sandboxes / instance.task_id
        spec = TaskSpec(
            task_id=instance.task_id,
            command=environment.command(app),
            environment=environment.environment(app, instance, self._base_environment, str(sandbox)),
            sandbox=sandbox,
            user=app.user,
        )
        grace = app.task_kill_grace_period_seconds
        runner = TaskRunner(
            spec,
            self._driver,
            KILL_GRACE_SECONDS if grace is None else grace,
            started=lambda: self._started(instance),
            ended=lambda end: self._ended(instance, end),
        )
        self._runners[spec.task_id] = runner
        self._spawn(runner.run(found_running))

    def _started(self, instance: Instance) -> None:
        instance.started_at = now()
        killing = instance.condition is Condition.KILLING
        if not killing:
            instance.condition = Condition.RUNNING
        self.state.put_instance(instance)
        if not killing:
            self._publish_state(instance)
            self._begin_probing(instance)
        self._enqueue(instance.app_id)

    def kill(self, instance: Instance, reason: str | None = None) -> None:
        """End an instance's task; unless its goal says otherwise another one follows."""
        instance.kill_reason = instance.kill_reason or reason
        self._kill(instance)

    def _kill(self, instance: Instance) -> None:
        """End an instance's task; to repeat it does no harm."""
        if instance.condition is Condition.SCHEDULED:
            if instance.goal is Goal.STOPPED:
                self.state.drop_instance(instance)
                instance.condition = Condition.KILLED
                self.bus.publish(events.instance_changed(instance))
                self._enqueue(instance.app_id)
            return
        if instance.condition is not Condition.KILLING:
            instance.condition = Condition.KILLING
            self.state.put_instance(instance)
            self._stop_probing(instance)
            self._publish_state(instance)
        runner = self._runners.get(instance.task_id)
        if runner is not None:
            runner.kill()

    async def _take_exits(self) -> None:
        async for task_exit in self._driver.exits():
            runner = self._runners.get(task_exit.task_id)
            if runner is not None:
                runner.exited(task_exit)
            else:
                await self._driver.forget(task_exit.task_id)

    def _ended(self, instance: Instance, end: TaskEnd) -> None:
        """Take the end of a task: the instance goes, or waits for its next one."""
        task_id = instance.task_id
        condition, message = _outcome(instance, end)
        record = self.state.apps.get(instance.app_id)
        failure = self._failure(instance, condition, message)
        self._stop_probing(instance)
        self._runners.pop(task_id, None)
        instance.condition = condition
        update, change = events.status_update(instance, message), events.instance_changed(instance)
        again = (
            record is not None
            and instance.goal is Goal.RUNNING
            and instance.config_version == config_version(record.app)
        )
        with self.state.transaction():
            if record is not None and again:
                if failure is not None:
                    record.last_task_failure = failure
                if condition is not Condition.KILLED:
                    record.backoff = self._next_backoff(record)
                self.state.put_app(record)
                _schedule_again(instance, record.app)
                self.state.put_instance(instance)
            else:
                self.state.drop_instance(instance)
        self.bus.publish(update)
        self.bus.publish(change)
        if again:
            self.bus.publish(events.instance_changed(instance))
        log.info("%s ended: %s", task_id, message)
        self._spawn(self._driver.forget(task_id))
        self._enqueue(instance.app_id)
        self.placer.wake()

    def _next_backoff(self, record: AppRecord) -> Backoff:
        current = record.backoff
        if current is not None and backoff.expired(current, record.app, now()):
            current = None
        return backoff.after_end(current, record.app, now())

    def _failure(self, instance: Instance, condition: Condition, message: str) -> TaskFailure | None:
        if condition not in _FAILURES and instance.kill_reason is None:
            return None
        return TaskFailure.model_validate(
            {
                "app_id": instance.app_id,
                "task_id": instance.task_id,
                "state": f"TASK_{condition.name}",
                "message": message,
                "host": instance.host,
                "slave_id": instance.host,
                "timestamp": now(),
                "version": instance.version,
                "stderr": last_lines(self._sandboxes / instance.task_id / "stderr"),
            }
        )

    # -- health -------------------------------------------------------------------------

    def _begin_probing(self, instance: Instance) -> None:
        app = self.state.definition(instance)
        assert app is not None
        self._probers[instance.task_id] = [
            health.HealthProber(instance, check, self._probe_callback(instance, app, index))
            for index, check in enumerate(app.health_checks)
            if check.protocol in health.PROBED_HERE
        ]

    def _probe_callback(self, instance: Instance, app: App, index: int) -> Callable[[str | None], None]:
        return lambda failure: self._probed(instance, app, index, failure)

    def _stop_probing(self, instance: Instance) -> None:
        for prober in self._probers.pop(instance.task_id, ()):
            prober.close()

    def _probed(self, instance: Instance, app: App, index: int, failure: str | None) -> None:
        if instance.condition is not Condition.RUNNING:
            return
        check = app.health_checks[index]
        was_alive = instance.health[index].alive if index in instance.health else None
        verdict = health.updated(instance, index, check, failure)
        instance.health[index] = verdict.health
        if verdict.health.alive != was_alive:
            self.state.put_instance(instance)
            if was_alive is not None or verdict.health.alive:
                for event in events.health_changed(instance, verdict.health.alive):
                    self.bus.publish(event)
            self._enqueue(instance.app_id)
        if verdict.counted:
            self.bus.publish(events.failed_health_check(instance, check))
        if verdict.kill:
            reason = failure or "no answer"
            self.bus.publish(events.unhealthy_kill(instance, reason))
            self.kill(instance, f"Task was killed since health check failed. Reason: {reason}")

    def _publish_state(self, instance: Instance) -> None:
        self.bus.publish(events.status_update(instance))
        self.bus.publish(events.instance_changed(instance))


def _outcome(instance: Instance, end: TaskEnd) -> tuple[Condition, str]:
    """Return what the end of a task is called, and the sentence on it."""
    if end.refusal is not None:
        return Condition.ERROR, end.refusal
    if instance.condition is Condition.KILLING:
        return Condition.KILLED, instance.kill_reason or end.exit.message
    if end.exit.exit_code is None and end.exit.signal is None:
        return Condition.GONE, end.exit.message
    if end.exit.exit_code == 0:
        return Condition.FINISHED, end.exit.message
    return Condition.FAILED, end.exit.message


def _schedule_again(instance: Instance, app: App) -> None:
    assert app.version is not None
    instance.incarnation += 1
    instance.condition = Condition.SCHEDULED
    instance.version = app.version
    instance.since = now()
    instance.host, instance.ports = "", []
    instance.staged_at = instance.started_at = None
    instance.kill_reason = None
    instance.health = {}

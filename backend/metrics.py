"""What Prometheus is told: the backend's counts, and what each app has, waits for and uses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .drivers import Offer, Template, Usage
from .records import TASK_STATES, Instance
from .state import State

_MIB = 1 << 20
_RESOURCES = (("cpus", 1), ("mem", _MIB), ("disk", _MIB), ("gpus", 1))
_UNITS = {"mem": "memory_bytes", "disk": "disk_bytes"}


class Metrics:
    """The registry of one backend.

    Names begin with ``hubfleet_``; sizes are bytes, times seconds, and totals only grow, as
    Prometheus has it. Series of an app carry its id as the label ``app``, and go with the app.

    Parameters
    ----------
    state
        What is known.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._offers: Sequence[Offer] = ()
        self._templates: Sequence[Template] = ()
        self._usage: Mapping[str, Usage] = {}
        self._spent: dict[str, float] = {}  # cpu seconds of ended tasks, by app
        self._seen: dict[str, tuple[str, float]] = {}  # app and cpu seconds of the living ones, by task
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "hubfleet_http_request_duration_seconds",
            "Requests to the API, streams left out.",
            ["method", "status"],
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def note(
        self,
        offers: Sequence[Offer],
        usage: Mapping[str, Usage] | None,
        templates: Sequence[Template] = (),
    ) -> None:
        """Take what the engine says at this moment; the next collection tells it.

        Parameters
        ----------
        usage
            By task id, or None if the engine does not say now: then what it said last still counts.
        """
        self._offers = offers
        self._templates = templates
        if usage is None:
            return
        self._usage = usage
        now = {
            instance.task_id: (instance.app_id, usage[instance.task_id].cpu_seconds)
            for instance in self._state.instances.values()
            if instance.task_id in usage
        }
        for task_id, (app_id, seconds) in self._seen.items():
            if task_id not in now:
                self._spent[app_id] = self._spent.get(app_id, 0.0) + seconds
        self._seen = now
        for app_id in [app_id for app_id in self._spent if app_id not in self._state.apps]:
            del self._spent[app_id]

    def collect(self) -> Iterator[Metric]:
        """Yield what is to be told now."""
        state = self._state
        yield GaugeMetricFamily("hubfleet_apps", "Apps that are defined.", len(state.apps))
        yield GaugeMetricFamily("hubfleet_deployments", "Deployments under way.", len(state.deployments))
        yield from self._places()
        yield from self._of_apps()
        yield from self._use()
        yield from self._forks()

    def _places(self) -> Iterator[Metric]:
        for name, unit in _RESOURCES:
            words = _UNITS.get(name, name)
            offered = _of_host(f"hubfleet_offered_{words}", "What a place has in all.")
            reserved = _of_host(f"hubfleet_reserved_{words}", "What of it the placed tasks have reserved.")
            used: Counter[str] = Counter()
            for instance in _placed(self._state):
                app = self._state.definition(instance)
                if app is not None:
                    used[instance.host] += getattr(app, name)
            for offer in self._offers:
                offered.add_metric([offer.host], getattr(offer, name) * unit)
                reserved.add_metric([offer.host], used[offer.host] * unit)
            yield offered
            yield reserved

    def _of_apps(self) -> Iterator[Metric]:
        wanted = _of_app("hubfleet_app_instances", "Instances that an app is to have.")
        tasks = _of_app("hubfleet_app_tasks", "Tasks of an app by state.", "state")
        health = GaugeMetricFamily(
            "hubfleet_app_tasks_health",
            "Tasks with health checks by what these say.",
            labels=["app", "healthy"],
        )
        waiting = _of_app("hubfleet_app_instances_waiting", "Instances that wait for a place or a back-off.")
        stuck = _of_app("hubfleet_app_tasks_stuck", "Tasks that do not end, however often they are killed.")
        stuck_now = Counter(each.app_id for each in self._state.instances.values() if each.stuck)
        # Of an app that was removed such a task is all that is left, and it still has its place.
        for app_id in {*self._state.apps, *stuck_now}:
            stuck.add_metric([app_id], stuck_now[app_id])
        failed = GaugeMetricFamily(
            "hubfleet_app_last_failure_timestamp_seconds",
            "When a task of an app last failed.",
            labels=["app"],
        )
        for record in self._state.apps.values():
            instances = self._state.instances_of(record.id)
            wanted.add_metric([record.id], record.app.instances)
            for condition, count in Counter(each.condition for each in instances if each.launched).items():
                tasks.add_metric([record.id, TASK_STATES[condition]], count)
            for healthy, count in Counter(each.healthy for each in instances if each.launched).items():
                if healthy is not None:
                    health.add_metric([record.id, str(healthy).lower()], count)
            waiting.add_metric([record.id], sum(instance.waits for instance in instances))
            if record.last_task_failure is not None and record.last_task_failure.timestamp is not None:
                failed.add_metric([record.id], record.last_task_failure.timestamp.timestamp())
        yield from (wanted, tasks, health, waiting, stuck, failed)

    def _use(self) -> Iterator[Metric]:
        cpu = CounterMetricFamily(
            "hubfleet_app_cpu_seconds", "Processor time of an app's tasks, of ended ones too.", labels=["app"]
        )
        rss = _of_app("hubfleet_app_memory_rss_bytes", "Resident memory of the tasks.")
        pss = _of_app("hubfleet_app_memory_pss_bytes", "The same, with shared pages counted in parts.")
        processes = _of_app("hubfleet_app_processes", "Processes of the tasks.")
        oom = _of_app("hubfleet_app_oom_kills", "Processes of running tasks killed for their memory.")
        of_apps: dict[str, list[Usage]] = {}
        for task_id, (app_id, _) in self._seen.items():
            of_apps.setdefault(app_id, []).append(self._usage[task_id])
        for app_id in self._spent:
            of_apps.setdefault(app_id, [])
        for app_id, usages in of_apps.items():
            seconds = self._spent.get(app_id, 0.0) + sum(usage.cpu_seconds for usage in usages)
            cpu.add_metric([app_id], seconds)
            rss.add_metric([app_id], sum(usage.rss for usage in usages))
            known = [usage.pss for usage in usages if usage.pss is not None]
            if len(known) == len(usages):
                pss.add_metric([app_id], sum(known))
            processes.add_metric([app_id], sum(usage.processes for usage in usages))
            oom.add_metric([app_id], sum(usage.oom_kills for usage in usages))
        yield from (cpu, rss, pss, processes, oom)

    def _forks(self) -> Iterator[Metric]:
        ready = GaugeMetricFamily(
            "hubfleet_template_ready", "Whether tasks of a kind are forked from a template.", labels=["kind"]
        )
        tasks = CounterMetricFamily(
            "hubfleet_template_tasks",
            "Tasks of a kind that were forked; executed, as they did not suit; or before it was there.",
            labels=["kind", "how"],
        )
        for template in self._templates:
            ready.add_metric([template.kind], template.ready)
            for how in ("forked", "executed", "cold"):
                tasks.add_metric([template.kind, how], getattr(template, how))
        yield from (ready, tasks)


def _of_app(name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, labels=["app", *labels])


def _of_host(name: str, help_text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, labels=["host"])


def _placed(state: State) -> list[Instance]:
    """Return the instances that hold a place."""
    return [instance for instance in state.instances.values() if instance.launched]


def snapshot(registry: CollectorRegistry) -> dict[str, object]:
    """Return the same as the JSON object that Marathon's ``GET /metrics`` answers (Dropwizard's form)."""
    gauges: dict[str, object] = {}
    counters: dict[str, object] = {}
    histograms: dict[str, object] = {}
    for family in registry.collect():
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            match family.type:
                case "counter":
                    counters[name] = {"count": float(sample.value)}
                case "histogram":
                    histograms[name] = {"count": float(sample.value)}
                case _:
                    gauges[name] = {"value": float(sample.value)}
    return {
        "version": "4.0.0",
        "gauges": gauges,
        "counters": counters,
        "histograms": histograms,
        "meters": {},
        "timers": {},
    }

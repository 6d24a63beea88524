"""What a cluster shows of itself: as a text, as HTML, as a widget, and its logs."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from dask.utils import format_bytes
from dask.widgets import TEMPLATE_PATHS, get_template
from distributed.core import Status
from distributed.objects import SchedulerInfo
from distributed.utils import Log, Logs

from hubfleet.api.client import Client

from . import logs, place
from .counting import WAITING
from .groups import DEFAULT
from .states import GroupState

TEMPLATE_PATHS.append(str(Path(__file__).with_name("templates")))


class ClusterViews:
    """The views of a `MarathonCluster`; distributed's own base class brings the frames."""

    name: Any
    status: Status
    host: str
    scheduler_address: str
    scheduler_info: Any
    scheduler_comm: Any
    _cluster_manager_logs: list[Any]

    @property
    def marathon(self) -> Client:
        """The client of the backend."""
        raise NotImplementedError

    def group_states(self) -> dict[str, GroupState]:
        """Return how the groups of workers stand, by name."""
        raise NotImplementedError

    @property
    def workers(self) -> dict[str, str]:
        """All workers that are wanted: task id, or a placeholder, to Marathon's word for its state."""
        return {
            f"{label}: {name}" if state == WAITING and label != DEFAULT else name: state
            for label, group in self.group_states().items()
            for name, state in group.workers.items()
        }

    async def _app_ids(self) -> list[str]:
        raise NotImplementedError

    def __repr__(self) -> str:
        known = self.scheduler_info["workers"].values()
        wanted = sum(len(group.workers) for group in self.group_states().values())
        threads = sum(worker["nthreads"] for worker in known)
        memory = sum(worker["memory_limit"] for worker in known)
        return (
            f"MarathonCluster({self.name!r}, {self.scheduler_address!r}, workers={len(known)} of {wanted}, "
            f"threads={threads}, memory={format_bytes(memory)}, status={self.status.name})"
        )

    def _repr_html_(self, cluster_status: str | None = None) -> str:
        shown = get_template("marathon_cluster.html.j2").render(
            status=self.status.name, backend=", ".join(self.marathon.urls), groups=self.group_states()
        )
        # distributed's own method escapes nothing, and a name is free text.
        page: str = get_template("cluster.html.j2").render(
            type="MarathonCluster",
            name=escape(str(self.name)),
            workers=self.scheduler_info["workers"],
            dashboard_link=escape(self.dashboard_link),
            scheduler_info_repr=SchedulerInfo(self.scheduler_info)._repr_html_()
            if "id" in self.scheduler_info
            else "Scheduler not started yet.",
            cluster_status=shown + (cluster_status or ""),
        )
        return page

    def _scaling_status(self) -> str:
        return str(get_template("marathon_scaling.html.j2").render(groups=self.group_states()))

    @property
    def dashboard_link(self) -> str:
        """The link to the scheduler's dashboard: through the hub, where there is a way."""
        port = self.scheduler_info.get("services", {}).get("dashboard")
        return place.dashboard_link(self._dashboard_host(), port) if port else ""

    def _dashboard_host(self) -> str:
        return self.host

    async def _get_logs(self, cluster: bool = True, scheduler: bool = True, workers: Any = True) -> Logs:
        found = Logs()
        if cluster:
            found["Cluster"] = Log("\n".join(line for _, line in self._cluster_manager_logs))
        if scheduler:
            found["Scheduler"] = await logs.of_scheduler(self.scheduler_comm)
        if workers is False or workers is None:
            return found
        known = {address: str(each["name"]) for address, each in self.scheduler_info["workers"].items()}
        addresses, asked = logs.selected(known, workers)
        found.update(await logs.of_workers(self.scheduler_comm, addresses))
        groups = self.group_states().values()
        holding = {worker: task for group in groups for worker, task in group.tasks.items()}
        tasks = dict.fromkeys(holding.get(name, name) for name in asked)
        if workers is True:
            tasks |= dict.fromkeys(sorted(holding.values()))
        written = await logs.of_tasks(self.marathon, tasks)
        # Of the several workers in one task none has written all that there is.
        names = {name: address for address, name in known.items()}
        # What a worker wrote holds more than what it keeps in memory: what tasks have printed, too.
        found.update({names.get(task, task): text for task, text in written.items()})
        if workers is True:
            for app_id in await self._app_ids():
                ended = await logs.of_ended(self.marathon, app_id)
                found.update({task: text for task, text in ended.items() if task not in tasks})
        return found

"""The whole journey: log in, start a server, compute with Dask, stop; each step with its time.

Against a running hub (`make demo` in another terminal; the password is what it printed):

    python examples/journey.py --url http://127.0.0.1:8000 --password ... --state .hubfleet

or against one of its own, on free ports in a temporary directory: ``--fresh`` (`make journey`).
It ends with status 0, or with the step that failed and the reason.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests
from hub import Hub, HubFailed, Ports
from person import Person, Refused

CELL_CLUSTER = """
from hubfleet.workers import MarathonCluster
cluster = MarathonCluster()
cluster.adapt(minimum=0, maximum=8)
client = cluster.get_client()
"""

# 120 tasks of half a second: the answer is known, and eight workers pay. As long as these are still to come,
# which a machine that has much else to do delays, there are more.
CELL_COMPUTE = """
import json, time
def square(x):
    time.sleep(0.5)
    return x * x
begun = time.monotonic()
futures = client.map(square, range(120))
first = eight = None
while not all(future.done() for future in futures):
    workers = len(client.scheduler_info(n_workers=-1)["workers"])
    if workers and first is None: first = time.monotonic() - begun
    if workers == 8 and eight is None: eight = time.monotonic() - begun
    if eight is None and time.monotonic() < begun + 60 and sum(not future.done() for future in futures) < 60:
        futures += client.map(square, range(len(futures), len(futures) + 60))
    time.sleep(0.01)
found = {"sum": sum(client.gather(futures)), "count": len(futures), "workers": workers}
print(json.dumps({**found, "first": first, "eight": eight}))
del futures
"""

CELL_NAMES = """
import json
print(json.dumps([worker["name"] for worker in client.scheduler_info(n_workers=-1)["workers"].values()]))
"""

CELL_WORKERS = """
import time
deadline = time.monotonic() + {timeout}
while (count := len(client.scheduler_info(n_workers=-1)["workers"])) != {count}:
    assert time.monotonic() < deadline, f"{{count}} workers instead of {count} after {timeout} s"
    time.sleep(0.02)
"""


class Failed(Exception):
    """A step did not lead where it should."""


class Report:
    """Prints each step with its time, and remembers them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.failed: str | None = None

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        """Time a step; of several that fail the first is the one that tells."""
        begun = time.monotonic()
        try:
            yield
        except BaseException:
            self.failed = self.failed or step
            raise
        self.add(step, time.monotonic() - begun)

    def add(self, step: str, seconds: float) -> None:
        """Print a step with the time that it took."""
        self.seconds[step] = seconds
        print(f"{seconds:8.2f} s  {step}", flush=True)


class Backend:
    """The backend as its administrator sees it."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"token {token}"}

    def apps(self, group: str) -> list[dict[str, Any]]:
        """Return the apps of a group."""
        answer = requests.get(
            f"{self._url}/v2/apps", {"id": group, "embed": "apps.tasks"}, headers=self._headers, timeout=60
        )
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["apps"]
        return found


def start_server(person: Person, report: Report, step: str) -> None:
    """Press start and follow the progress until the server answers."""
    with report(step):
        told = []
        for event in person.start_and_watch():
            told.append(str(event.get("message", "")))
            if event.get("failed"):
                raise Failed(event.get("message") or "the hub does not say why")
        person.open_server()
    for message in told:
        print(f"              {message}")


def travel(person: Person, backend: Backend, report: Report, group: str) -> None:
    """Go through all steps that a person goes through."""
    with report("log in"):
        person.login()
    start_server(person, report, "login -> server answers")
    with report("server -> first reply of a kernel"):
        kernel = person.start_kernel()
        answer = kernel.run("print(6 * 7)")
        if answer.strip() != "42":
            raise Failed(f"the kernel says that 6 * 7 is {answer!r}")
    with report("a Dask cluster, adapting between 0 and 8 workers"):
        kernel.run(CELL_CLUSTER)
    with report("compute with it"):
        result = json.loads(kernel.run(CELL_COMPUTE))
        if result["sum"] != sum(x * x for x in range(result["count"])):
            raise Failed(f"the sum of the squares is wrong: {result['sum']}")
        if result["eight"] is None:
            raise Failed(f"there were never 8 workers, but {result['workers']} at the end")
    report.add("    submit -> first worker", result["first"])
    report.add("    submit -> 8 workers", result["eight"])
    with report("idle -> no worker"):
        kernel.run(CELL_WORKERS.format(count=0, timeout=60))
    with report("cluster.scale(3)"):
        kernel.run("cluster.scale(3)\n" + CELL_WORKERS.format(count=3, timeout=60))
        names = json.loads(kernel.run(CELL_NAMES))
        tasks = {task["id"] for app in backend.apps(f"{group}/dask/") for task in app["tasks"]}
        if not set(names) <= tasks:
            raise Failed(f"workers {names} are not named as the tasks {sorted(tasks)}")
    with report("cluster.close()"):
        kernel.run("client.close()\ncluster.close()")
        if left := [app["id"] for app in backend.apps(f"{group}/dask/")]:
            raise Failed(f"the closed cluster left {left}")
    with report("another cluster, which nobody closes"):
        kernel.run(CELL_CLUSTER + "cluster.scale(2)\n" + CELL_WORKERS.format(count=2, timeout=60))
    kernel.close()
    with report("stop the server"):
        person.stop_server()


def verify_nothing_left(backend: Backend, report: Report, group: str, state: Path | None) -> None:
    """Wait until nothing is left of the person's apps: a minute at most."""
    with report("no app, task or process is left"):
        deadline = time.monotonic() + 60
        while left := leftovers(backend, group, state):
            if time.monotonic() > deadline:
                raise Failed(f"after a minute there are still {', '.join(left)}")
            time.sleep(0.02)


def leftovers(backend: Backend, group: str, state: Path | None) -> list[str]:
    """Return everything that is left of a group's apps."""
    found = [app["id"] for app in backend.apps(f"{group}/")]
    if state is None:
        return found
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        ours = str(state) in environment.get("MESOS_SANDBOX", "")
        if ours and environment.get("MARATHON_APP_ID", "").startswith(f"{group}/"):
            found.append(f"process {process.pid}")
    return found


def fresh(report: Report) -> None:
    """Travel on a hub of one's own; then start a server on JupyterHub's own spawner, to compare."""
    with tempfile.TemporaryDirectory(prefix="journey-") as folder:
        hub = Hub(Path(folder) / "hub", Ports.free())
        try:
            with report("start the hub"):
                hub.start()
            person = Person(hub.url, "alice", hub.password)
            backend = Backend(hub.backend_url, hub.backend_token)
            try:
                travel(person, backend, report, "/jupyter/alice")
                verify_nothing_left(backend, report, "/jupyter/alice", hub.state)
            except Exception:
                print(f"The end of the hub's log:\n{hub.last_lines(40)}", file=sys.stderr)
                raise
        finally:
            with report("stop the hub"):
                hub.stop()
        homes = f"--SimpleLocalProcessSpawner.home_dir_template={folder}/{{username}}"
        arguments = ("--JupyterHub.spawner_class=simple", homes)
        local = Hub(Path(folder) / "local", Ports.free(), arguments=arguments)
        try:
            local.start()
            person = Person(local.url, "alice", local.password)
            person.login()
            start_server(person, report, "login -> server answers, SimpleLocalProcessSpawner")
        finally:
            local.stop()
    ours, theirs = (report.seconds[step] for step in report.seconds if step.startswith("login -> "))
    print(f"Our server took {ours / theirs:.2f} of the time of SimpleLocalProcessSpawner's.")


def main() -> int:
    """Travel, and say how it went."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fresh", action="store_true", help="start a hub for this journey alone")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="a running hub")
    parser.add_argument("--user", default="alice", help="who logs in")
    parser.add_argument("--password", default="", help="the password of the hub")
    parser.add_argument("--backend", default="http://127.0.0.1:8090", help="the hub's backend")
    parser.add_argument("--state", type=Path, default=Path(".hubfleet"), help="state directory of the hub")
    arguments = parser.parse_args()
    report = Report()
    try:
        if arguments.fresh:
            fresh(report)
        else:
            state = arguments.state.resolve()
            group = f"/jupyter/{arguments.user}"
            backend = Backend(arguments.backend, (state / "backend_token").read_text().strip())
            travel(Person(arguments.url, arguments.user, arguments.password), backend, report, group)
            verify_nothing_left(backend, report, group, state)
    except (Failed, Refused, HubFailed, OSError, TimeoutError) as reason:
        print(f"FAILED at “{report.failed or 'a check'}”: {reason}", file=sys.stderr)
        return 1
    print("The journey is done.")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What runs in the app of a scheduler: the scheduler, and beside it the scaling of its workers.

``python -m hubfleet.workers.scheduler``, started by `MarathonCluster(scheduler="app")`. The cluster
that it makes is as one in a notebook, so all that is true of that is true here; a notebook that comes
and goes talks to it (``hubfleet.workers.control``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal

from hubfleet.api import environment
from hubfleet.api.errors import BackendError
from hubfleet.api.ids import cluster_path, is_within, workers_app_id

from . import place
from .cluster import MarathonCluster
from .scheduler_app import SPEC_VARIABLE
from .tls import scheduler_security

log = logging.getLogger("hubfleet.workers")

_LOOK_SECONDS = 0.2


async def run() -> None:
    """Be the cluster that the environment describes, until it has ended or is told to."""
    told = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, told.set)
    spec = json.loads(os.environ[SPEC_VARIABLE])
    own = os.environ[environment.APP_ID]
    host = place.own_host(None)
    marathon = place.backend_client(None, None)
    try:
        # Left by one that was killed: its workers know its address, which is not ours.
        path = cluster_path(spec["group"], spec["name"])
        workers = workers_app_id(spec["group"], spec["name"])
        for app in await marathon.list_apps(containing=path):
            if app.id != own and is_within(app.id, path):
                if app.id == workers:
                    # As many as there were last, whoever has asked for them and is not here to ask again.
                    spec["n_workers"] = app.instances * spec.get("nworkers", 1)
                await marathon.delete_app(app.id)
        cluster = MarathonCluster(
            **spec,
            scheduler="here",
            host=host,
            owner=own,
            security=scheduler_security(os.environ),
            scheduler_port=int(os.environ["PORT_SCHEDULER"]),
            dashboard_address=f"{host}:{os.environ['PORT_DASHBOARD']}",
            silence_logs=False,
            asynchronous=True,
        )
        async with cluster:
            log.info("%r", cluster)
            while not told.is_set() and cluster.status.name == "running":
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await told.wait()
        if not told.is_set():
            # Idle for long: nobody wants this app any more.
            await marathon.delete_app(own)
            await told.wait()
    except BackendError as error:
        raise SystemExit(str(error)) from error
    finally:
        marathon.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(run())
    # All is closed; the interpreter would wait for a thread that still listens to the backend's events.
    logging.shutdown()
    os._exit(0)

"""A driver whose templates are warm, and tasks that are forked from them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from driving import Site

from hubfleet.backend.drivers import TaskExit, TaskSpec
from hubfleet.backend.drivers.process import ProcessDriver

PROBE = Path(__file__).with_name("prefork_probe.py")
BASE = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
WORKER = {
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MKL_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
PYTHON = [sys.executable, "-m", "distributed.cli.dask_worker"]
WORDS = ["tcp://127.0.0.1:9", "--no-nanny", "--no-dashboard", "--preload", str(PROBE)]


class Warm(Site):
    """A site whose templates are there."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)
        self.count = 0

    async def open(self, **settings: Any) -> ProcessDriver:
        driver = await super().open(**{"environment": BASE, "warm": ["worker"], **settings})
        await self.ready(driver)
        return driver

    async def ready(self, driver: ProcessDriver, kind: str = "worker") -> Mapping[str, Any]:
        """Wait until a template is there."""
        found: Mapping[str, Any] = {}
        try:
            async with asyncio.timeout(90):
                while not (found := await about(driver, kind))["ready"]:
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"there is no template: {found}") from None
        return found

    def worker(self, command: list[str] | None = None, **changes: Any) -> TaskSpec:
        """Return a task that runs the probe; `changes` are of the environment, but for prefork and user."""
        self.count += 1
        fields = {name: changes.pop(name) for name in ("prefork", "user", "mounts") if name in changes}
        spec = self.spec(f"task{self.count}", "", command=command or PYTHON + WORDS, **fields)
        environment = {**BASE, **WORKER, "PWD": str(spec.sandbox), "HOME": str(self.home), **changes}
        given = {name: value for name, value in environment.items() if value is not None}
        return replace(spec, environment=given)

    @property
    def home(self) -> Path:
        return self.state_dir.parent / "home"


async def about(driver: ProcessDriver, kind: str = "worker") -> Mapping[str, Any]:
    [found] = [found for found in await driver.templates() if found.kind == kind]
    return asdict(found)


async def run(driver: ProcessDriver, spec: TaskSpec) -> tuple[TaskExit, str, str]:
    """Run a task to its end; return that, and what it said."""
    await driver.start(spec)
    async with asyncio.timeout(90):
        async for exit_ in driver.exits():
            if exit_.task_id == spec.task_id:
                break
    said = [(spec.sandbox / name).read_text() for name in ("stdout", "stderr")]
    await driver.forget(spec.task_id)
    return exit_, *said

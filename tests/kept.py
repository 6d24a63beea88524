"""A backend that tests have one after the other, with a warm template of workers.

A worker that is executed takes a second of a core and more, and so does a template; a backend of each test's
own pays for both. Here most workers are forked, as on a backend that has run for a while. What a test leaves
behind is not the next one's: then there is another backend.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from conftest import RunningBackend, WarmBackend
from driving import template_of
from ports import backend_ports

from hubfleet.api.errors import BackendError

READY_SECONDS = 90.0


class Kept:
    """The backend of this process's tests, if there is one that is as new.

    Parameters
    ----------
    folder
        An empty directory: every backend has a place in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._backend: RunningBackend | None = None

    async def lend(self) -> RunningBackend:
        """Return a backend that has nothing but a template."""
        if self._backend is None:
            place = self._folder / str(self._count)
            place.mkdir()
            self._count += 1
            configuration = place / "config.py"
            configuration.write_text('c.Backend.warm = ["worker"]\n')
            self._backend = WarmBackend(place / "state", backend_ports(), config=str(configuration))
            await self._backend.start()
            async with asyncio.timeout(READY_SECONDS):
                while not _is_warm(self._backend):
                    await asyncio.sleep(0.02)
        return self._backend

    async def take_back(self) -> None:
        """Keep the backend for the next test, unless something was left in it."""
        if self._backend is not None and not await _is_clean(self._backend):
            await self.end()

    async def end(self) -> None:
        """End the backend, if there is one."""
        backend, self._backend = self._backend, None
        if backend is not None:
            await backend.destroy()


def _is_warm(backend: RunningBackend) -> bool:
    return bool(template_of(backend.state_dir, "worker")["ready"])


async def _is_clean(backend: RunningBackend) -> bool:
    """Whether a backend is as it was before its last test, as far as the next one could see."""
    try:
        left = await backend.client.list_apps() or await backend.client.list_deployments() or backend.tasks()
        return not left and _is_warm(backend)
    except (BackendError, OSError):
        return False

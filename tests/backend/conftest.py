"""What the tests of the backend's API share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from conftest import RunningBackend, WarmBackend
from driving import Site
from launching import Home
from ports import backend_ports
from rest import Rest


@pytest.fixture
def rest(backend: RunningBackend) -> Rest:
    """The administrator's requests to a backend of this test's own."""
    return Rest(backend.url, backend.admin_token)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A state directory for drivers; what works in it ends with the test."""
    site = Site(tmp_path / "state")
    yield site
    await site.close()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """The state directory of launchers; they and what they started end with the test."""
    home = Home(tmp_path / "state")
    yield home
    home.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBackend]:
    """One backend for all tests of a file; each of them keeps to apps of its own."""
    running = WarmBackend(tmp_path_factory.mktemp("shared") / "state", backend_ports())
    try:
        asyncio.run(running.start())
        yield running
    finally:
        asyncio.run(running.destroy())


@pytest.fixture
def shared_rest(shared: RunningBackend) -> Rest:
    """The administrator's requests to the backend that the file's tests share."""
    return Rest(shared.url, shared.admin_token)

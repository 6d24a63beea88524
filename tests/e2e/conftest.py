"""Real hubs, as `jupyterhub_config.py` makes them, with an administrator for the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hub import Hub
from hubs import AdminOf, make_hub


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One hub for the tests that leave it as they found it."""
    hub = make_hub(tmp_path_factory.mktemp("hub"))
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


@pytest.fixture(scope="session")
def admin(hub: Hub) -> AdminOf:
    return AdminOf(hub)


@pytest.fixture
def own_hub(tmp_path: Path) -> Iterator[Callable[[str], Hub]]:
    """Hubs of one test, to break."""
    hubs: list[Hub] = []

    def make(extra: str = "") -> Hub:
        hubs.append(make_hub(tmp_path / str(len(hubs)), extra))
        hubs[-1].start()
        return hubs[-1]

    yield make
    for hub in hubs:
        hub.stop()

"""Real hubs, as `jupyterhub_config.py` makes them, with an administrator for the tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from browsing import ARGUMENTS, BROWSER, PATIENCE
from hub import Hub
from hubs import AdminOf, make_hub
from playwright.async_api import Browser, Page, async_playwright


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


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    assert BROWSER, "the tests of pages need Chromium; `apt install chromium`"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        await browser.close()


@pytest.fixture
async def page(browser: Browser) -> Page:
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE)
    return page

"""A real Chromium, and what a person does first with it."""

from __future__ import annotations

import shutil

from hub import Hub
from playwright.async_api import Page, expect

PATIENCE = 120_000
"""Milliseconds for whatever is to come to be on a page; the machine may be busy."""
expect.set_options(timeout=PATIENCE)

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
ARGUMENTS = [
    *("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"),
]


async def log_in(page: Page, hub: Hub, name: str) -> None:
    await page.goto(f"{hub.url}/hub/login?next=%2Fhub%2Fhome")
    await page.fill("#username_input", name)
    await page.fill("#password_input", hub.password)
    await page.click("#login_submit")
    await page.wait_for_selector("#start")

"""What a person sees: login, the spawn page, JupyterLab, a cell, a terminal, stop. In a real Chromium."""

from __future__ import annotations

import asyncio
import re

import pytest
from browsing import log_in
from hub import Hub
from playwright.async_api import Page, expect

pytestmark = pytest.mark.long


async def test_a_person_opens_jupyterlab_runs_a_cell_and_a_terminal_and_stops(page: Page, hub: Hub) -> None:
    await log_in(page, hub, "browser")
    await page.click("#start")
    await page.wait_for_url(re.compile(r"/user/browser/lab"))
    await page.wait_for_selector(".jp-LauncherCard")

    await page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
    await expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle")
    cell = page.locator(".jp-Notebook .jp-CodeCell .cm-content").first
    await cell.click()
    await cell.press_sequentially("print(6 * 7)")
    await expect(cell).to_contain_text("print(6 * 7)")
    await page.keyboard.press("Shift+Enter")
    await expect(page.locator(".jp-OutputArea-output").first).to_contain_text("42")

    await page.goto(f"{hub.url}/user/browser/lab?reset")
    await page.wait_for_selector(".jp-LauncherCard")
    await page.locator(".jp-LauncherCard", has_text="Terminal").click()
    terminal = page.locator(".xterm-helper-textarea")
    await terminal.wait_for(state="attached")
    await expect(page.locator(".jp-Terminal")).to_be_visible()
    answer = hub.state / "terminal-was-here"
    await terminal.focus()
    await page.keyboard.type(f"echo $((6 * 7)) > {answer}\n")
    async with asyncio.timeout(120):
        while not answer.exists() or answer.read_text() != "42\n":
            await asyncio.sleep(0.05)

    await page.goto(f"{hub.url}/hub/home")
    await page.click("#stop")
    await page.wait_for_selector("#start[href*=spawn]:has-text('Start My Server')")


async def test_a_server_that_cannot_start_says_why(page: Page, hub: Hub) -> None:
    """The refusal of the options reaches the person who asked, and nothing is left pending."""
    await log_in(page, hub, "greedy")
    await page.goto(f"{hub.url}/hub/spawn/greedy?mem=999999999")
    await expect(page.locator("body")).to_contain_text(re.compile("999999999|at most", re.IGNORECASE))

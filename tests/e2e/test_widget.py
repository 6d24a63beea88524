"""The widget of a cluster, in JupyterLab in a real Chromium: its buttons scale, and it shows what follows."""

from __future__ import annotations

import re

import nbformat
import pytest
from browsing import log_in
from hub import Hub
from playwright.async_api import Page, expect

pytestmark = pytest.mark.long

CELLS = [
    "from hubfleet.workers import MarathonCluster\ncluster = MarathonCluster(cpus=0.1)\ncluster",
    "cluster.close()\nprint('the cluster is', cluster.status.name)",
]


async def open_notebook(page: Page, hub: Hub, name: str) -> None:
    await log_in(page, hub, name)
    await page.click("#start")
    await page.wait_for_url(re.compile(rf"/user/{name}/lab"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, hub.state / "homes" / name / "widget.ipynb")
    await page.goto(f"{hub.url}/user/{name}/lab/tree/widget.ipynb?reset")
    await page.locator(".jp-Notebook .jp-CodeCell").nth(len(CELLS) - 1).wait_for()
    await page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()


async def test_its_buttons_scale_and_adapt(page: Page, hub: Hub) -> None:
    await open_notebook(page, hub, "wendy")
    await page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    await page.keyboard.press("Shift+Enter")
    widget = page.locator(".jp-OutputArea-output", has=page.locator(".widget-tab")).first
    await widget.locator(".lm-TabBar-tab", has_text="Scaling").click()

    await widget.get_by_text("Manual Scaling", exact=True).click()
    await widget.locator("input[type=number]:visible").fill("2")
    await widget.get_by_role("button", name="Scale", exact=True).click()
    await expect(widget.get_by_text("Workers: 2", exact=True).last).to_be_visible()

    await widget.get_by_text("Adaptive Scaling", exact=True).click()
    least, most = (widget.locator("input[type=number]:visible").nth(number) for number in (0, 1))
    await least.fill("1")
    await most.fill("3")
    await widget.get_by_role("button", name="Adapt", exact=True).click()
    await expect(widget.get_by_text("Adaptive (1 to 3)").last).to_be_visible()
    await expect(widget.get_by_text("Workers: 1", exact=True).last).to_be_visible()

    await page.locator(".jp-Notebook .jp-CodeCell .cm-content").nth(1).click()
    await page.keyboard.press("Shift+Enter")
    await page.locator(".jp-OutputArea-output", has_text="the cluster is closed").wait_for()
    await page.goto(f"{hub.url}/hub/home")
    await page.click("#stop")
    await page.wait_for_selector("#start[href*=spawn]:has-text('Start My Server')")

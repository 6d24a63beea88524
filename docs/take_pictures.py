"""Takes the pictures of docs/workers.md: a cluster and its dashboard, as a person in JupyterLab sees them.

``python docs/take_pictures.py FOLDER``: what the hub that is started for it writes goes there. It needs
bokeh, ipywidgets, jupyter-server-proxy and playwright, and Chromium at the path in ``HUBFLEET_BROWSER``,
or playwright's own.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import nbformat
from playwright.sync_api import Page, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from hub import Hub, Ports

PICTURES = Path(__file__).with_name("pictures")
SIZE = {"width": 1100, "height": 680}
NAME = "scientist"
CELLS = [
    "from hubfleet.workers import MarathonCluster\n\n"
    'cluster = MarathonCluster("survey", n_workers=8)\ncluster',
    "import time\n\n"
    "cluster.wait_for_workers(8, timeout=120)\nclient = cluster.get_client()\n"
    "futures = client.map(lambda number: time.sleep(0.5) or number, range(1000))\n"
    "print('link:', cluster.dashboard_link)",
]


def main(folder: Path) -> None:
    """Have a person work with a cluster, and look at it."""
    hub = Hub(folder, Ports.free())
    hub.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=os.environ.get("HUBFLEET_BROWSER"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport=SIZE, device_scale_factor=1.5)
            page.set_default_timeout(180_000)
            open_notebook(page, hub)
            take(page, hub)
            browser.close()
    finally:
        hub.stop()


def open_notebook(page: Page, hub: Hub) -> None:
    """Log in, start a server, and open the notebook in it."""
    page.goto(f"{hub.url}/hub/login?next=%2Fhub%2Fhome")
    page.fill("#username_input", NAME)
    page.fill("#password_input", hub.password)
    page.click("#login_submit")
    page.click("#start")
    page.wait_for_url(re.compile(rf"/user/{NAME}/lab"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (home,) = hub.state.glob(f"homes/{NAME}")
    nbformat.write(notebook, home / "survey.ipynb")
    page.goto(f"{hub.url}/user/{NAME}/lab/tree/survey.ipynb?reset")
    page.locator(".jp-Notebook .jp-CodeCell").nth(len(CELLS) - 1).wait_for()
    page.locator("#jp-main-statusbar", has_text="| Idle").wait_for()


def take(page: Page, hub: Hub) -> None:
    """Run the cells, and take a picture of the cluster and of its dashboard."""
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    for _ in CELLS:
        page.keyboard.press("Shift+Enter")
    link = page.locator(".jp-OutputArea-output", has_text="link: ").inner_text().split()[1]
    widget = page.locator(".jp-OutputArea-output", has=page.locator(".widget-tab")).first
    widget.locator(".lm-TabBar-tab", has_text="Scaling").click()
    widget.get_by_role("cell", name="Workers: 8", exact=True).last.wait_for()
    widget.get_by_text("Adaptive Scaling", exact=True).click()
    widget.get_by_role("button", name="Adapt", exact=True).wait_for()
    page.locator(".jp-CodeCell").nth(len(CELLS)).click()  # nothing of the picture is in focus
    page.locator(".jp-CodeCell").first.screenshot(path=PICTURES / "cluster.png")
    page.goto(hub.url + link)
    page.locator("canvas").first.wait_for()
    page.wait_for_timeout(8000)  # in which it draws some seconds of work
    page.screenshot(path=PICTURES / "dashboard.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

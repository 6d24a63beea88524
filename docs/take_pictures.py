"""Takes the pictures of docs/workers.md: a real cluster, its HTML and its dashboard in a real browser.

``python docs/take_pictures.py URL TOKEN GROUP``: the backend, and where its apps are to be. It needs
bokeh and playwright, and Chromium at the path in ``HUBFLEET_BROWSER``, or playwright's own.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

from playwright.async_api import async_playwright

from hubfleet.workers import MarathonCluster

PICTURES = Path(__file__).with_name("pictures")
SIZE = {"width": 1100, "height": 620}


async def main(url: str, token: str, group: str) -> None:
    """Have a cluster work, and look at it."""
    arguments = {"url": url, "token": token, "group": group, "owner": ""}
    async with MarathonCluster("survey", n_workers=3, asynchronous=True, **arguments) as cluster:
        await cluster.wait_for_workers(3, timeout=120)
        cluster.adapt(minimum=3, maximum=8)
        async with cluster.get_client() as client, async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=os.environ.get("HUBFLEET_BROWSER"), args=["--no-sandbox"]
            )
            page = await browser.new_page(viewport=SIZE)
            link = cluster.dashboard_link
            await page.goto(link)
            futures = client.map(lambda number: time.sleep(0.5) or number, range(200))
            await page.wait_for_timeout(6000)
            await page.screenshot(path=PICTURES / "dashboard.png")
            await page.set_viewport_size({"width": 800, "height": 200})
            await page.set_content(f"<body style='font-family: sans-serif'>{cluster._repr_html_()}</body>")
            await page.screenshot(path=PICTURES / "cluster.png")
            await browser.close()
            del futures


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))

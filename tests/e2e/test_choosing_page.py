"""Choosing a server, as people do: by the keyboard, with a screen reader, without JavaScript, in the dark."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import jupyterhub
import pytest
from axe_playwright_python.async_playwright import Axe
from browsing import PATIENCE, log_in
from hub import Hub
from hubs import AdminOf, make_hub
from playwright.async_api import Browser, Locator, Page, expect

pytestmark = pytest.mark.long

CONFIGURATION = r"""
c.MarathonSpawner.show_form = True
c.MarathonSpawner.profile_list = [
    {
        "display_name": "Small",
        "slug": "small",
        "description": "For courses <b>and</b> first steps",
        "overrides": {"cpu": 0.5, "mem": 512},
    },
    {
        "display_name": "Large",
        "slug": "large",
        "description": "For simulations",
        "overrides": {"cpu": 2, "mem": 1024, "max_mem": 2048, "offered_options": ["mem"]},
        "profile_options": {
            "image": {
                "display_name": "Image",
                "description": "What is installed",
                "choices": {
                    "plain": {"display_name": "Python", "overrides": {"environment": {"CHOSEN": "python"}}},
                    "full": {"display_name": "R & C", "overrides": {"environment": {"CHOSEN": "r+c"}}},
                },
                "unlisted_choice": {
                    "enabled": True,
                    "display_name": "Another image",
                    "validation_regex": r"site/\w+:\d+",
                    "validation_message": "An image of the site, such as site/geo:3",
                    "overrides": {"environment": {"CHOSEN": "{value}"}},
                },
            },
        },
    },
]
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that offers a choice."""
    hub = make_hub(tmp_path_factory.mktemp("choosing"), CONFIGURATION)
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


@pytest.fixture(scope="module")
def admin(hub: Hub) -> AdminOf:
    return AdminOf(hub)


def app_of(admin: AdminOf, user: str) -> dict[str, Any]:
    app = admin.backend("GET", f"/v2/apps//jupyter/{user}/notebook").json()["app"]
    assert isinstance(app, dict)
    return app


async def press_tab_until(page: Page, wanted: Locator) -> None:
    for _ in range(20):
        if await wanted.evaluate("element => element === document.activeElement"):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"{wanted} cannot be reached by the keyboard")


async def test_by_the_keyboard_alone_a_server_of_ones_choice_starts(
    page: Page, hub: Hub, admin: AdminOf
) -> None:
    await log_in(page, hub, "keyboard")
    await page.goto(f"{hub.url}/hub/spawn")
    await press_tab_until(page, page.get_by_role("radio", name="Small"))
    assert not await page.get_by_label("Image", exact=True).is_visible()
    await page.keyboard.press("ArrowDown")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("combobox", name="Image")).to_be_focused()
    await page.keyboard.type("R")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("spinbutton", name="Memory (MiB)")).to_be_focused()
    await page.keyboard.type("2000")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("button", name="Start")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.wait_for_url(re.compile(r"/user/keyboard/lab"))

    app = app_of(admin, "keyboard")
    assert (app["cpus"], app["mem"], app["env"]["CHOSEN"]) == (2, 2000, "r+c")

    admin("DELETE", "/users/keyboard/server")
    async with asyncio.timeout(120):
        while admin("GET", "/users/keyboard").json()["servers"]:
            await asyncio.sleep(0.1)
    await page.goto(f"{hub.url}/hub/spawn")
    await expect(page.get_by_role("radio", name="Large")).to_be_checked()
    await expect(page.get_by_role("combobox", name="Image")).to_have_value("full")
    await expect(page.get_by_label("Memory (MiB)")).to_have_value("2000")


async def test_a_refused_choice_comes_back_with_its_errors_said(page: Page, hub: Hub) -> None:
    await log_in(page, hub, "refused")
    await page.goto(f"{hub.url}/hub/spawn")
    await page.get_by_role("radio", name="Large").check()
    await page.get_by_label("Image", exact=True).select_option("unlisted-choice")
    await page.get_by_label("Another image").fill("<img src=x onerror=alert(1)>")
    await page.get_by_label("Memory (MiB)").fill("1500")
    await page.get_by_role("button", name="Start").click()

    alert = page.get_by_role("alert").filter(has_text="Your server was not started.")
    await expect(alert).to_be_focused()
    field = page.get_by_label("Another image")
    await expect(field).to_have_value("<img src=x onerror=alert(1)>")
    await expect(field).to_have_accessible_description(re.compile(r"site/geo:3.*cannot be '<img src=x"))
    await expect(field).to_have_attribute("aria-invalid", "true")
    await expect(page.get_by_label("Memory (MiB)")).to_have_value("1500")
    await expect(page.locator(".spawn-error-msg")).to_contain_text("cannot be '<img src=x")
    assert await page.locator("img[src=x]").count() == 0
    await alert.get_by_role("link", name="Another image").click()
    await expect(field).to_be_focused()

    await page.goto(page.url.split("#")[0])  # an address with ?_xsrf=, which is not to start anything
    await expect(page.get_by_role("radio", name="Small")).to_be_checked()
    await expect(page.locator(".alert")).to_have_count(0)


async def test_a_named_servers_refusal_shows_its_own_choice(page: Page, hub: Hub) -> None:
    await log_in(page, hub, "names")
    prefix = "opt-" if jupyterhub.version_info[0] > 5 else ""
    await page.goto(f"{hub.url}/hub/spawn/names/second?{prefix}profile=large&{prefix}mem=99999")
    await expect(page.get_by_label("Memory (MiB)")).to_have_value("99999")
    await page.get_by_label("Memory (MiB)").evaluate("element => element.removeAttribute('max')")
    await page.get_by_label("Memory (MiB)").fill("77777")
    await page.get_by_role("button", name="Start").click()
    await expect(page.get_by_label("Memory (MiB)")).to_have_value("77777")
    await expect(page.locator(".spawn-error-msg")).to_contain_text(
        "asks for 77777 MiB; allowed is 32 to 2048"
    )


async def test_without_javascript_a_server_of_ones_choice_starts(
    browser: Browser, hub: Hub, admin: AdminOf
) -> None:
    context = await browser.new_context(java_script_enabled=False)
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    await log_in(page, hub, "scriptless")
    await page.goto(f"{hub.url}/hub/spawn")
    await page.get_by_role("radio", name="Large").check()
    await page.get_by_label("Image", exact=True).select_option("unlisted-choice")
    await page.get_by_label("Another image").fill("site/geo:3")
    await page.get_by_role("button", name="Start").click()
    await page.wait_for_url(re.compile("spawn-pending|/user/scriptless"))
    async with asyncio.timeout(200):
        while not admin("GET", "/users/scriptless").json()["server"]:
            await asyncio.sleep(0.1)
    assert app_of(admin, "scriptless")["env"]["CHOSEN"] == "site/geo:3"


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_is_accessible(browser: Browser, hub: Hub, scheme: Any) -> None:
    """By axe-core's rules, contrast among them. What is around our part of the page is JupyterHub's."""
    context = await browser.new_context(color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = await context.new_page()
    await log_in(page, hub, f"sees-{scheme}")
    await page.goto(f"{hub.url}/hub/spawn")
    assert await page.locator("html").get_attribute("data-bs-theme") == scheme
    await page.get_by_role("radio", name="Large").check()
    await page.get_by_label("Image", exact=True).select_option("unlisted-choice")
    for _ in range(2):  # the page, and the page with errors
        found = await Axe().run(page, context="#hubfleet-choose")
        assert not found.violations_count, found.generate_report()
        assert len(found.response["passes"]) > 10
        await page.get_by_label("Another image").fill("evil/root")
        await page.get_by_role("button", name="Start").click()
        await expect(page.get_by_role("alert").first).to_be_visible()
        await page.wait_for_load_state()

    group = page.get_by_role("group", name="Which server?")
    await expect(group.get_by_role("radio", name="Large")).to_have_accessible_description(
        "For simulations 2 CPUs, 1 GiB of memory"
    )
    await expect(group.get_by_role("group", name="Options of Large")).to_be_visible()


def test_what_an_administrators_token_asks_is_checked_as_well(hub: Hub, admin: AdminOf) -> None:
    admin("POST", "/users/asked-for")
    for options, told in [
        ({"profile": "huge"}, "no profile 'huge'; allowed are small, large"),
        ({"profile": "small", "cpu": 64}, "no option 'cpu' here; allowed are profile"),
        ({"profile": "large", "mem": 10**9}, "asks for 1000000000 MiB; allowed is 32 to 2048 MiB"),
        ({"profile": "../large"}, "no profile '../large'"),
    ]:
        answer = admin("POST", "/users/asked-for/server", json=options)
        assert (answer.status_code, told in answer.json()["message"]) == (400, True), answer.text
    assert admin("GET", "/users/asked-for").json()["servers"] == {}

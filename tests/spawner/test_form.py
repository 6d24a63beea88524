"""The page for choosing, as JupyterHub puts it into its own."""

from __future__ import annotations

from contextvars import copy_context
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jupyterhub import orm

from hubfleet.spawner.errors import StartRefused
from hubfleet.spawner.form import NothingEntered

NASTY = "\"'><script>alert(1)</script>{{ 7 * 7 }}"
PROFILES: list[dict[str, Any]] = [
    {"display_name": "Small", "slug": "small", "overrides": {"cpu": 0.5, "mem": 512}},
    {
        "display_name": "Large",
        "slug": "large",
        "description": "For simulations",
        "overrides": {"cpu": 4, "mem": 8192, "gpu": 1, "offered_options": ["mem"], "max_mem": 8192},
        "profile_options": {
            "image": {
                "display_name": "Image",
                "choices": {"plain": {"display_name": "Plain"}, "full": {"display_name": "Full"}},
                "unlisted_choice": {
                    "enabled": True,
                    "display_name": "Another image",
                    "validation_regex": r"site/\w+",
                    "validation_message": "An image of site/",
                },
            },
        },
    },
]


class Elements(HTMLParser):
    """The elements of a page, and which of them were left open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in {"input", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text = " ".join([*self.text.split(), *data.split()])

    def by_id(self, id: str) -> dict[str, str | None]:
        (found,) = [attributes for _, attributes in self.found if attributes.get("id") == id]
        return found

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.found if found == tag]


async def page_of(spawner: Any) -> Elements:
    page = Elements(await spawner.get_options_form())
    assert not page.open
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.found:
        for reference in (attributes.get("aria-describedby") or "").split():
            assert reference in ids
        if tag in {"input", "select"}:
            assert any(label.get("for") == attributes["id"] for label in page.all("label"))
    return page


async def test_the_simple_form_shows_units_limits_and_the_last_choice(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", max_gpu=2, app_image="site/usual", allowed_images=["site/*"])
    spawner.user_options = {"cpu": "1.5", "image": "site/mine", "force_pull": True}
    page = await page_of(spawner)
    cpu = page.by_id("hubfleet--cpu")
    assert (cpu["min"], cpu["max"], cpu["value"], cpu["placeholder"]) == ("0.001", "2", "1.5", "1")
    assert "Memory (MiB) From 32 to 4096 MiB (4 GiB). If it is left empty: 1024." in page.text
    assert "From 1000 to 20000 MiB (19.53 GiB). If it is left empty: 5000." in page.text
    assert page.by_id("hubfleet--gpu")["step"] == "1"
    assert page.by_id("hubfleet--image")["value"] == "site/mine"
    assert "checked" in page.by_id("hubfleet--force_pull")
    assert "Allowed: site/*. If it is left empty: site/usual." in page.text


async def test_what_cannot_be_chosen_has_no_field(small_hub: Any) -> None:
    page = await page_of(small_hub.spawner("alice"))
    assert [field["name"] for field in page.all("input")] == ["cpu", "mem"]
    spawner = small_hub.spawner("bob", offered_options=[])
    assert await spawner.get_options_form() == ""
    assert await small_hub.spawner("carol", show_form=False).get_options_form() == ""


async def test_images_with_names_are_a_list(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", allowed_images={"Python": "site/python:3", "R": "site/r:4"})
    spawner.user_options = {"image": "R"}
    page = await page_of(spawner)
    options = [(option["value"], "selected" in option) for option in page.all("option")]
    assert options == [("", False), ("Python", False), ("R", True)]


async def test_profiles_show_what_they_give_and_what_was_chosen_last(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", profile_list=PROFILES)
    page = await page_of(spawner)
    assert [radio["value"] for radio in page.all("input") if radio["type"] == "radio"] == ["small", "large"]
    assert "checked" in page.by_id("hubfleet--small")
    assert "0.5 CPUs, 512 MiB of memory" in page.text
    assert "For simulations 4 CPUs, 8 GiB of memory, 1 GPU" in page.text
    spawner.user_options = {"profile": "large", "image--unlisted-choice": "site/mine", "mem": 4000}
    page = await page_of(spawner)
    assert "checked" in page.by_id("hubfleet--large")
    assert [option["value"] for option in page.all("option") if "selected" in option] == ["unlisted-choice"]
    assert page.by_id("hubfleet--large--image--unlisted-choice")["value"] == "site/mine"
    assert page.by_id("hubfleet--large--mem")["value"] == "4000"
    assert not [attributes for _, attributes in page.found if attributes.get("role") == "alert"]


async def test_groups_and_users_see_their_own_limits_before_they_start(small_hub: Any) -> None:
    small_hub.config.MarathonSpawner.group_overrides = {
        "staff": {"groups": ["staff"], "spawner_override": {"max_cpu": 8}}
    }
    spawner = small_hub.spawner("alice", user_overrides={"alice": {"max_mem": 5000}})
    spawner.user.groups.append(orm.Group(name="staff"))
    page = await page_of(spawner)
    assert (page.by_id("hubfleet--cpu")["max"], page.by_id("hubfleet--mem")["max"]) == ("8", "5000")
    assert (spawner.max_cpu, spawner.max_mem) == (2, 4096), "a page changes nothing"


async def test_no_text_of_anybody_becomes_html_or_a_template(small_hub: Any) -> None:
    option = {
        "display_name": NASTY,
        "description": NASTY,
        "choices": {NASTY: {"display_name": NASTY}},
        "unlisted_choice": {
            "enabled": True,
            "display_name": NASTY,
            "display_name_in_choices": NASTY,
            "validation_message": NASTY,
        },
    }
    profile = {"display_name": NASTY, "description": NASTY, "profile_options": {"o": option}}
    spawner = small_hub.spawner("alice", profile_list=[profile])
    spawner.user_options = {"o--unlisted-choice": NASTY, NASTY: NASTY}
    page = await page_of(spawner)
    assert len(page.all("script")) == 1, "our own"
    assert not [
        attributes for _, attributes in page.found if any(name.startswith("on") for name in attributes)
    ]
    assert page.by_id(next(f["id"] for f in page.all("input") if f["type"] == "text"))["value"] == NASTY
    assert "49" not in page.text

    plain = small_hub.spawner("bob", app_image=NASTY, allowed_images=[NASTY, "*"])
    plain.user_options = {"image": NASTY, "cpu": NASTY}
    page = await page_of(plain)
    assert len(page.all("script")) == 1


async def test_errors_stand_at_their_fields_and_what_was_entered_stays(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", profile_list=PROFILES)

    async def send(fields: dict[str, list[str]]) -> Elements:
        # As JupyterHub does in one request: read the form, fail, show the form of the default server.
        spawner.user_options = spawner.run_options_from_form(fields)
        await spawner.apply_group_overrides()
        with pytest.raises(StartRefused):
            await spawner.apply_options()
        return await page_of(small_hub.spawner("alice", profile_list=PROFILES))

    page = await send(
        {
            "profile": ["large"],
            "profile-option-large--image": ["unlisted-choice"],
            "profile-option-large--image--unlisted-choice": ["evil/root"],
            "profile-option-large--mem": ["4000"],
        }
    )
    field = page.by_id("hubfleet--large--image--unlisted-choice")
    assert (field["value"], field["aria-invalid"]) == ("evil/root", "true")
    assert f"{field['id']}--error" in str(field["aria-describedby"])
    assert page.by_id("hubfleet--large--mem")["value"] == "4000"
    assert "checked" in page.by_id("hubfleet--large")
    (alert,) = [attributes for _, attributes in page.found if attributes.get("role") == "alert"]
    assert "autofocus" in alert
    assert "Your server was not started. Please look at: Another image" in page.text
    assert f"#{field['id']}" in [link["href"] for link in page.all("a")]


@pytest.mark.parametrize("configuration", [{"show_form": False}, {"offered_options": []}])
async def test_a_refusal_is_shown_also_where_no_page_is(
    small_hub: Any, configuration: dict[str, Any]
) -> None:
    """Without a page JupyterHub would start a server of the defaults, and say nothing; or never any."""
    spawner = small_hub.spawner("alice", **configuration)
    assert not await spawner.get_options_form()
    spawner.user_options = {"profile": "gone"}
    assert "What was chosen last is not possible now." in (await page_of(spawner)).text
    spawner.user_options = {}
    spawner.options_from_query({"mem": ["999999"]})
    assert "Your server was not started." in (await page_of(spawner)).text


async def test_what_another_request_entered_is_not_shown(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice")
    copy_context().run(spawner.run_options_from_form, {"cpu": ["99"]})
    assert (await page_of(spawner)).by_id("hubfleet--cpu")["value"] == ""
    spawner.run_options_from_form({"cpu": ["99"]})
    assert (await page_of(small_hub.spawner("bob"))).by_id("hubfleet--cpu")["value"] == ""
    assert (await page_of(spawner)).by_id("hubfleet--cpu")["value"] == "99"


async def test_a_last_choice_that_is_not_offered_any_more_is_said(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice", profile_list=PROFILES)
    spawner.user_options = {"profile": "gone"}
    page = await page_of(spawner)
    assert "What was chosen last is not possible now. There is no profile 'gone'" in page.text
    assert "checked" in page.by_id("hubfleet--small")


async def test_a_page_that_is_loaded_again_starts_nothing(small_hub: Any) -> None:
    spawner = small_hub.spawner("alice")
    spawner.show_form = False
    with pytest.raises(NothingEntered):
        spawner.options_from_query({"_xsrf": ["x"]})
    assert "alert" not in (await page_of(spawner)).text
    assert spawner.options_from_query({"_xsrf": ["x"], "cpu": ["2"]}) == {"cpu": "2"}


async def test_a_form_that_is_too_much_is_refused_before_it_is_stored(small_hub: Any) -> None:
    with pytest.raises(StartRefused, match="larger than this form can be"):
        small_hub.spawner("alice").run_options_from_form({"cpu": ["1" * 10**6]})


async def test_a_site_may_have_its_own_template(small_hub: Any, tmp_path: Path) -> None:
    own = '{% extends "hubfleet/choose.html" %}{% block errors %}<p>{{ "<hello>" }}</p>{% endblock %}'
    (tmp_path / "choose.html").write_text(own)
    page = await page_of(small_hub.spawner("alice", form_template_path=str(tmp_path)))
    assert "<hello>" in page.text
    assert page.by_id("hubfleet--cpu")

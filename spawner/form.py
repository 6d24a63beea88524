"""The page on which people choose: what it shows is worked out here, and written by a template.

JupyterHub puts what `render` returns into its own form as it is, so nothing but the template
writes HTML, with autoescape. The page needs no JavaScript; where there is some, it hides what does not
belong to what is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from tornado import web

from .errors import misconfigured
from .fields import Field, anchor, fields_of, in_words, profile_fields
from .options import OptionsRefused, Refusal
from .profiles import Profile, Profiles, default_of
from .selection import Selection, presets

if TYPE_CHECKING:
    from .choosing import Choosing

_PAGES = FileSystemLoader(Path(__file__).parent / "pages")

_entered: ContextVar[tuple[Choosing, dict[str, Any]] | None] = ContextVar("entered", default=None)


class NothingEntered(Exception):
    """A query that asks for nothing: the page is to be shown, without an error."""

    jupyterhub_message = jupyterhub_html_message = ""


@dataclass(frozen=True)
class Kind:
    """A profile, as the page shows it."""

    id: str
    slug: str
    name: str
    description: str
    amounts: str
    checked: bool
    fields: list[Field]


@dataclass(frozen=True)
class Page:
    """All that the template shows.

    Parameters
    ----------
    wrong_fields
        Those which say what is wrong with them.
    errors
        What is wrong and belongs to no field.
    was_entered
        All that is about what was sent just now, and not about what was saved.
    """

    kinds: list[Kind]
    fields: list[Field]
    wrong_fields: list[Field]
    errors: list[str]
    was_entered: bool


def enter(spawner: Choosing, options: dict[str, Any]) -> None:
    """Remember what a form or query asks of a spawner, for the page that the same request may end with.

    Notes
    -----
    When a start is refused, JupyterHub 6.1 renders the form of the user's *default* server,
    whichever was to start (``SpawnHandler._post``). A context variable lasts as long as the request does.
    """
    _entered.set((spawner, options))


async def render(spawner: Choosing) -> str:
    """Return the form's content; empty if there is nothing to choose, or it is not to be shown.

    Where something is refused there is always a page. Without one JupyterHub takes a refused query for
    no choice at all, and starts a server of the defaults; and who has saved what is not allowed any
    more could never start again.

    Raises
    ------
    StartRefused
        The configuration cannot be used.
    """
    subject, options, was_entered = spawner, dict(spawner.user_options), False
    entered = _entered.get()
    if entered is not None and entered[0].user.name == spawner.user.name:
        subject, options = entered
        was_entered = True
    try:
        draft = subject.draft()
        await draft.apply_group_overrides()
        if not (draft.show_form or was_entered or await _refusals(draft, options)):
            return ""
        page = await _page(draft, options, was_entered)
    except web.HTTPError:
        raise
    except Exception as error:
        spawner.log.exception("The page for choosing a server fails by its configuration")
        raise misconfigured(error) from error
    if not (page.kinds or page.fields or page.errors or was_entered):
        return ""
    return _environment(draft.form_template_path).get_template("choose.html").render(page=page)


async def _page(draft: Choosing, options: Mapping[str, Any], was_entered: bool) -> Page:
    profiles = await draft.profiles()
    refusals = await _refusals(draft, options)
    wrong = {refusal.option: refusal.message for refusal in refusals}
    chosen = _chosen(options, profiles)
    kinds = [
        await _kind(draft, profile, options if profile is chosen else {}, profile is chosen, wrong)
        for profile in profiles.values()
    ]
    fields: list[Field] = []
    if not profiles:
        plain = draft.draft()
        await plain.take(Selection(None, (), {}))
        fields = fields_of(plain.offer(), options, wrong)
    wrong_fields = [
        each for each in [*fields, *(each for kind in kinds for each in kind.fields)] if each.error
    ]
    at_fields = {each.error for each in wrong_fields}
    errors = [refusal.message for refusal in refusals if refusal.message not in at_fields]
    return Page(kinds, fields, wrong_fields, errors, was_entered)


async def _kind(
    draft: Choosing, profile: Profile, options: Mapping[str, Any], checked: bool, wrong: Mapping[str, str]
) -> Kind:
    view = draft.draft()
    await view.take(presets(profile))
    offer = view.offer()
    wrong = wrong if checked else {}
    return Kind(
        id=anchor(profile.slug),
        slug=profile.slug,
        name=profile.display_name,
        description=profile.description,
        amounts=in_words(offer),
        checked=checked,
        fields=[
            *profile_fields(profile, options, wrong),
            *fields_of(offer, options, wrong, profile),
        ],
    )


async def _refusals(draft: Choosing, options: Mapping[str, Any]) -> tuple[Refusal, ...]:
    if not options:
        return ()
    try:
        await draft.draft().try_options(options)
    except OptionsRefused as refusal:
        return refusal.refusals
    return ()


def _chosen(options: Mapping[str, Any], profiles: Profiles) -> Profile | None:
    if not profiles:
        return None
    asked = options.get("profile")
    known = profiles.get(asked) if isinstance(asked, str) else None
    return known or default_of(profiles)


@lru_cache
def _environment(own: str) -> Environment:
    folders = [FileSystemLoader(own)] if own else []
    loader = ChoiceLoader([*folders, _PAGES, PrefixLoader({"hubfleet": _PAGES})])
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )

"""How a user's choice reaches the spawner's traits, whichever way it came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from tornado import web
from traitlets import TraitError, default, observe

from .choice_traits import ChoiceTraits
from .errors import misconfigured, refused
from .form import NothingEntered, enter, render
from .options import KEYS, Choice, Offer, OptionsRefused, Refusal, check_within, choose
from .overrides import Overridable, configurable_traits
from .profiles import Profiles, ProfilesInvalid, read_profiles
from .selection import Selection, options_of_fields, select

# Whose the server is, and what would have been read by then.
_NOT_OVERRIDABLE = frozenset({"hub_id", "app_prefix", "group_overrides", "user_overrides"})


class Choosing(ChoiceTraits, Overridable):
    """A choice from its arrival to the traits; mixed into a `jupyterhub.spawner.Spawner`."""

    if TYPE_CHECKING:
        apply_user_options: Any
        user: Any
        user_options: dict[str, Any]
        orm_spawner: Any
        log: Any
        options_from_form: Any
        offer: Callable[[], Offer]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Of the options, what `apply_options` has left to `choice`; None before.
        self._amounts: Mapping[str, Any] | None = None
        self._former_options: dict[str, Any] | None = None

    @observe("user_options")
    def _remember_former_options(self, change: Any) -> None:
        self._former_options = change.old

    @default("options_form")
    def _page_of_choosing(self) -> Any:
        return render

    @default("options_from_form")
    def _options_of_page(self) -> Any:
        return self._read_fields

    def _read_fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        try:
            options = options_of_fields(fields)
        except OptionsRefused as refusal:
            raise refused(refusal) from refusal
        enter(self, options)
        return options

    def options_from_query(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options that a query asks for.

        Notes
        -----
        The page of a refused choice has ``?_xsrf=…`` in its address. Loaded again, JupyterHub 6.1 takes
        that for an option, and would start a server.
        """
        fields = {name: values for name, values in query.items() if name != "_xsrf"}
        if not fields:
            enter(self, dict(self.user_options))
            raise NothingEntered
        return dict(self.options_from_form(fields))

    # -- before a start ---------------------------------------------------------------

    async def apply_group_overrides(self) -> None:
        """Undo what the last start overrode, then apply what JupyterHub and `user_overrides` say.

        Raises
        ------
        StartRefused
            `user_overrides` cannot be used.

        Notes
        -----
        JupyterHub calls it first of all, before `apply_user_options` (``user.py``).
        """
        self.undo_overrides()
        self.forget_options()
        await super().apply_group_overrides()  # type: ignore[misc]  # the Spawner has it
        own = self.user_overrides
        try:
            own = await ask(own, self) if callable(own) else own.get(self.user.name, {})
            unknown = sorted(set(own) - self._overridable())
            if unknown:
                raise ValueError(f"user_overrides names {', '.join(unknown)}, which cannot be configured so")
            await self._override_all(own)
        except (ValueError, TypeError, AttributeError, TraitError) as error:
            raise misconfigured(error) from error

    def let_through(self) -> frozenset[str]:
        """Return the keys of options that are not ours to judge: those a site's own hooks take."""
        by_key = self.apply_user_options  # JupyterHub takes a dict from keys to traits, too
        return frozenset(self.ignored_options) | frozenset(by_key if isinstance(by_key, Mapping) else ())

    def _overridable(self) -> frozenset[str]:
        return _overridable_traits(type(self))

    async def apply_options(self) -> None:
        """Check the user's options, and override the traits as their profile says.

        Raises
        ------
        StartRefused
            They ask for what is not allowed, or the configuration cannot be used. Nothing stays overridden.
        """
        try:
            await self.try_options(self.user_options)
        except BaseException as error:
            self.undo_overrides()
            if isinstance(error, OptionsRefused):
                self._forget_refused()
                raise refused(error) from error
            if isinstance(error, web.HTTPError) or not isinstance(error, Exception):
                raise
            self.log.exception("The choice of a server fails by its configuration")
            raise misconfigured(error) from error

    def _forget_refused(self) -> None:
        """Save again what was chosen before: JupyterHub has saved what is refused, to be asked again."""
        orm_spawner, former = self.orm_spawner, self._former_options
        if former is not None and orm_spawner is not None and orm_spawner.user_options == self.user_options:
            orm_spawner.user_options = former
            self.user.db.commit()

    async def try_options(self, options: Mapping[str, Any]) -> None:
        """Override the traits as options say.

        Raises
        ------
        OptionsRefused
            They ask for what is not allowed; the traits are then overridden in part.
        """
        selection = select(options, await self.profiles())
        await self.take(selection)
        choose(selection.rest, self.offer(), selection.keys)
        self._amounts = selection.rest

    async def see_to_options(self) -> None:
        """Apply the options where a site has an `apply_user_options` of its own, which did not."""
        if self._amounts is None:
            await self.apply_options()

    def forget_options(self) -> None:
        """Have the options of the next start applied anew."""
        self._amounts = None

    def choice(self) -> Choice:
        """Return what the server gets, of what `apply_options` has checked; the traits are read now.

        Raises
        ------
        OptionsRefused
            The traits have changed since, and do not allow it.
        """
        if self._amounts is None and self.profile_list:
            raise ValueError("the options have to be applied before a choice is made of them")
        return choose(self.user_options if self._amounts is None else self._amounts, self.offer())

    async def profiles(self) -> Profiles:
        """Return the profiles that are offered now.

        Raises
        ------
        ProfilesInvalid
            `profile_list` cannot be used.
        """
        given = self.profile_list
        given = await ask(given, self) if callable(given) else given
        if not isinstance(given, Mapping | list | tuple):
            raise ProfilesInvalid(f"profile_list is a list or a dict, got {type(given).__name__}")
        return read_profiles(given, self._overridable())

    async def take(self, selection: Selection) -> None:
        """Override the traits as a profile and the choices within it say.

        Raises
        ------
        OptionsRefused
            A text of the user's own is not what its trait takes, or gives more than is allowed.
        """
        free = [pick for pick in selection.picks if pick.is_free]
        limits = None
        if free:
            listed = self.draft()
            await listed._take(selection, with_free=False)
            limits = listed.offer()
        await self._take(selection)
        if limits is not None:
            check_within(self.offer(), limits, ", ".join(pick.key for pick in free))

    async def _take(self, selection: Selection, with_free: bool = True) -> None:
        if selection.profile is not None:
            await self._override_all(selection.profile.overrides)
            if self.offered_options is None:
                self.override("offered_options", [])
        for pick in selection.picks:
            if not pick.is_free:
                await self._override_all(pick.overrides)
            elif with_free:
                self._override_by_text(pick.key, pick.overrides)
        if callable(self.allowed_images):
            self.override("allowed_images", await ask(self.allowed_images, self))

    async def _override_all(self, overrides: Mapping[str, Any]) -> None:
        for name, value in overrides.items():
            self.override(name, await ask(value, self) if callable(value) else value)

    def _override_by_text(self, key: str, overrides: Mapping[str, Any]) -> None:
        for name, value in overrides.items():
            try:
                self.override(name, value, from_text=True)
            except TraitError as error:
                message = f"The option {key!r} cannot be that: {error}"
                raise OptionsRefused([Refusal(key, message)]) from error

    # -- what `offer` is made of --------------------------------------------------------

    def named_images(self) -> dict[str, str]:
        """Return the images that may be asked for, by the names that are shown."""
        images = self.allowed_images
        if callable(images):
            raise ValueError("the function allowed_images has to be asked first, by applying the options")
        return dict(images) if isinstance(images, Mapping) else {image: image for image in images}

    def offered(self) -> frozenset[str]:
        """Return the keys of the single amounts that may be asked for."""
        return KEYS if self.offered_options is None else frozenset(self.offered_options)


@cache
def _overridable_traits(kind: type[Choosing]) -> frozenset[str]:
    return frozenset(configurable_traits(kind)) - _NOT_OVERRIDABLE


async def apply_options(spawner: Choosing, _: Mapping[str, Any]) -> None:
    """Apply the options of a spawner; JupyterHub's `apply_user_options` for it."""
    await spawner.apply_options()


async def ask(function: Any, spawner: Choosing) -> Any:
    """Return what a function of the configuration says, which may be async.

    Raises
    ------
    ValueError
        It failed. The message is shown to the user, and what a site's function raises may hold
        anything: that is for the log.
    """
    try:
        value = function(spawner)
        return await value if isawaitable(value) else value
    except web.HTTPError:
        raise  # a refusal in its own words
    except Exception as error:
        name = getattr(function, "__name__", "of its own")
        spawner.log.exception("The function %s of the configuration failed", name)
        raise ValueError(
            f"the function {name} in it failed ({type(error).__name__}), and the hub's log says how"
        ) from error

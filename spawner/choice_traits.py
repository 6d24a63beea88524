"""What users may choose, as administrators configure it."""

from __future__ import annotations

from traitlets import Bool, Callable, Dict, Enum, HasTraits, List, Unicode, Union

from .options import KEYS


class ChoiceTraits(HasTraits):
    """The traits of choosing a server."""

    profile_list = Union(
        [List(Dict()), Dict(), Callable()],
        default_value=[],
        help="""
        Kinds of server that users choose from, in the words of kubespawner's trait of this name.

        A list of dicts, or a dict of slug -> dict (sorted by its keys), or a function of the spawner that
        returns either, which may be async. Each profile has:

        - ``display_name``, and if wanted ``description``: texts; HTML in them is shown, not obeyed;
        - ``slug``: what it is called in queries and in REST bodies (``{"profile": "<slug>"}``). Without one
          it is made of the ``display_name``, so that no two names ever get the same;
        - ``default``: True for the one that is taken unasked; else it is the first;
        - ``overrides``: traits of this spawner, and their values in this profile. A dict is laid over the
          trait's own dict, where None removes a key. A function is called with the spawner, and may be
          async. (``kubespawner_override`` is read as well, but the traits are this spawner's.)
        - ``profile_options``: a dict of key -> what else can be chosen:

          - ``display_name``, and if wanted ``description``;
          - ``choices``: a dict of key -> dict with ``display_name``, ``default``, ``overrides``;
          - ``unlisted_choice``: a dict for a text of the user's own, with ``enabled``, ``display_name``,
            ``display_name_in_choices``, ``validation_regex``, ``validation_message`` and ``overrides``, in
            which the text takes the place of ``{value}``. The expression has to match the whole text; without
            one it is what names an image, a version or a branch. Braces, and ``..`` as a part of a path, are
            always refused; and such a text can raise no amount over what may be had without it.

        The overrides of the profile are applied first, then those of its options in their order, and are
        undone before the next start. With profiles, users choose nothing else, unless `offered_options`
        says so.

        Example::

            c.MarathonSpawner.profile_list = [
                {
                    "display_name": "Small",
                    "description": "For courses",
                    "slug": "small",
                    "overrides": {"cpu": 0.5, "mem": 512},
                },
                {
                    "display_name": "Large",
                    "slug": "large",
                    "overrides": {"cpu": 4, "mem": 16384, "environment": {"OMP_NUM_THREADS": "4"}},
                    "profile_options": {
                        "data": {
                            "display_name": "Data",
                            "choices": {
                                "none": {"display_name": "None"},
                                "maps": {
                                    "display_name": "Maps",
                                    "overrides": {"environment": {"DATA": "/data/maps"}},
                                },
                            },
                        },
                    },
                },
            ]
        """,
    ).tag(config=True)

    offered_options = List(
        Enum(sorted(KEYS)),
        default_value=None,
        allow_none=True,
        help="""
        Single amounts that a user may choose: ``cpu``, ``mem``, ``disk``, ``gpu``, ``image``, ``force_pull``.

        Others are refused, whichever way they come. A profile can override it, to offer amounts in that
        profile alone.

        Default: all of them; with a `profile_list`, none.

        Example::

            c.MarathonSpawner.offered_options = ["cpu", "mem"]
        """,
    ).tag(config=True)

    ignored_options = List(
        Unicode(),
        help="""
        Further keys of ``user_options`` that are let through unlooked at, for hooks of your own.

        Those that a dict of `apply_user_options` names are let through as well. Any other key that is not
        known is refused.
        """,
    ).tag(config=True)

    allowed_images = Union(
        [List(Unicode()), Dict(value_trait=Unicode(), key_trait=Unicode()), Callable()],
        default_value=[],
        help="""
        Images that a user may ask for, beside `app_image`; ``*`` stands for any text, ``?`` for a character.

        A list, or a dict of names that are shown -> images, or a function of the spawner that returns
        either, which may be async. The old spawner let users run any image. Here that has to be said::

            c.MarathonSpawner.allowed_images = ["quay.io/jupyter/*"]  # or ["*"]
            c.MarathonSpawner.allowed_images = {"Python": "quay.io/jupyter/scipy-notebook:2026-10-01"}
        """,
    ).tag(config=True)

    user_overrides = Union(
        [Dict(), Callable()],
        help="""
        Traits that are different for single users: a dict of user name -> dict of traits.

        Or a function of the spawner that returns the traits of its user, which may be async. They are applied
        as the overrides of a profile are, after JupyterHub's `group_overrides` and before the profile.

        Example::

            c.MarathonSpawner.user_overrides = {"alice": {"max_cpu": 16, "max_mem": 65536}}
        """,
    ).tag(config=True)

    show_form = Bool(
        True,
        help="""
        Whether the page for choosing is shown before a start, if there is anything to choose.

        Without it a start takes what was chosen last, or the defaults; queries and the REST API still choose.
        """,
    ).tag(config=True)

    form_template_path = Unicode(
        help="""
        Directory with a template ``choose.html`` of your own, in place of the one that hubfleet has.

        It is a Jinja template, with autoescape, and may extend ``hubfleet/choose.html``.
        """,
    ).tag(config=True)

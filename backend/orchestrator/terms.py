"""On which terms somebody's change is taken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from hubfleet.api.app import App

Permit = Callable[[Mapping[str, App | None], Collection[str]], None]
"""Is told what each app is to become, None for one that goes, and which groups are made by name.

It raises to refuse, and must not wait.
"""


def everything(_: str) -> bool:
    """Say that an app exists for somebody: for an administrator all do."""
    return True


@dataclass(frozen=True)
class Terms:
    """Who changes something, as far as it matters here.

    Parameters
    ----------
    permit
        Has the last word before anything is stored.
    share
        Whose change it is, for the number of deployments that one may have under way. Without
        a share there is only the limit for all.
    sees
        Says which apps exist for who asks: refusals name no others.
    """

    permit: Permit | None = None
    share: str | None = None
    sees: Callable[[str], bool] = everything


OPEN = Terms()
"""The terms of the backend itself."""

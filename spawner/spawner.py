"""The spawner itself: what JupyterHub asks of one, in terms of apps.

What an app is made of is `app_builder`, how it starts and ends `life`, and what becomes of it meanwhile
`running`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jupyterhub.spawner import Spawner
from traitlets import default

from .app_builder import AppBuilder
from .life import ServerLife


def leave_options_to_start(spawner: Spawner, options: Mapping[str, Any]) -> None:
    """Do nothing: `MarathonSpawner.start` reads and checks the options, whatever way they came."""


class MarathonSpawner(AppBuilder, ServerLife):
    """Runs each server as an app on a Marathon API."""

    # -- configuration ----------------------------------------------------------------

    @default("options_from_form")
    def _single_values(self) -> Any:
        return self._simple_options_from_form

    @default("apply_user_options")
    def _checked_at_start(self) -> Any:
        return leave_options_to_start

    def clear_state(self) -> None:
        """Forget the server; JupyterHub does so before each start, and after each stop."""
        super().clear_state()
        self._certificates = None

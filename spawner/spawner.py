"""The spawner itself: what JupyterHub asks of one, in terms of apps.

What an app is made of is `app_builder`, how it starts and ends `life`, and what becomes of it meanwhile
`running`.
"""

from __future__ import annotations

from typing import Any

from traitlets import default

from .app_builder import AppBuilder
from .choosing import apply_options
from .life import ServerLife


class MarathonSpawner(AppBuilder, ServerLife):
    """Runs each server as an app on a Marathon API."""

    @default("apply_user_options")
    def _checked_before_hooks(self) -> Any:
        return apply_options

    async def apply_options(self) -> None:
        """Check the user's options and override the traits, as `Choosing.apply_options` says."""
        try:
            await super().apply_options()
        except BaseException:
            self._exit_status = 1  # nothing was started, so nobody need ask the backend
            raise

    def clear_state(self) -> None:
        """Forget the server; JupyterHub does so before each start, and after each stop."""
        super().clear_state()
        self._certificates = None

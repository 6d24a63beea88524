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

# What is read of a server that runs. A hub that is started again has only the configuration and this.
_LASTING = (
    "marathon_verify",
    "marathon_client_cert",
    "marathon_client_key",
    "autotimeout",
    "restart_after_failure",
)


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

    # -- state ------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Return what the server is, and what of its overrides matters while it runs."""
        state: dict[str, Any] = super().get_state()
        lasting = {name: getattr(self, name) for name in _LASTING if self.is_overridden(name)}
        return state | {"overrides": lasting} if "app_id" in state and lasting else state

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what the server is, under the overrides that it was started with."""
        for name, value in state.get("overrides", {}).items():
            if name in _LASTING:
                self.override(name, value)
        super().load_state(state)

    def clear_state(self) -> None:
        """Forget the server; JupyterHub does so before each start, and after each stop."""
        super().clear_state()
        self.forget_options()
        self._certificates = None

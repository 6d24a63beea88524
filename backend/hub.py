"""Asks JupyterHub who a token belongs to, through its own `HubAuth`."""

from __future__ import annotations

from typing import Any

from jupyterhub.services.auth import HubAuth
from tornado.web import HTTPError

from .access import HubUnreachable

REMEMBERED_SECONDS = 30
"""How long the hub's word is kept: a revoked token is refused within a minute."""


class HubTokens:
    """Knows the owners of hub tokens.

    Parameters
    ----------
    api_url
        The hub's API, such as ``http://127.0.0.1:8081/hub/api``.
    api_token
        The backend's own token at the hub.
    """

    def __init__(self, api_url: str, api_token: str) -> None:
        self._auth = HubAuth(api_url=api_url, api_token=api_token, cache_max_age=REMEMBERED_SECONDS)

    async def __call__(self, token: str) -> dict[str, Any] | None:
        """Return the hub's model of a token's owner, or None if the hub does not know the token.

        Raises
        ------
        HubUnreachable
            The hub did not say.
        """
        try:
            model = await self._auth.user_for_token(token, sync=False)
        except HTTPError as error:
            raise HubUnreachable(
                f"the hub at {self._auth.api_url} did not say who the token belongs to; try again"
            ) from error
        return dict(model) if model else None

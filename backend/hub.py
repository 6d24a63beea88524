"""Asks JupyterHub who a token belongs to, through its own `HubAuth`, no more often than is good for it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Any

from jupyterhub.services.auth import HubAuth
from tornado.web import HTTPError

from .access import HubUnreachable, TooManyUnknown
from .bounded import Guesses, Remembered

REMEMBERED_SECONDS = 30.0
"""How long the hub's word is kept: a revoked token is refused within a minute."""

MOST_REMEMBERED = 10_000
"""Tokens, known or not, of which the hub's word is kept."""

MOST_QUESTIONS = 16
"""Most questions to the hub at once."""

KNOWN_SECONDS = 24 * 3600.0
"""How long a token that was good is asked about however many unknown ones come."""


class HubTokens:
    """Knows the owners of hub tokens.

    Parameters
    ----------
    api_url
        The hub's API, such as ``http://127.0.0.1:8081/hub/api``.
    unknown_per_minute
        Unknown tokens from one address that the hub is asked about; ten times as many from
        all addresses. Tokens that were good before are always asked about.
    """

    def __init__(self, api_url: str, unknown_per_minute: int = 60) -> None:
        self._auth = HubAuth(api_url=api_url)
        self._words: Remembered[tuple[dict[str, Any] | None]] = Remembered(
            MOST_REMEMBERED, REMEMBERED_SECONDS
        )
        self._once_good: Remembered[bool] = Remembered(MOST_REMEMBERED, KNOWN_SECONDS)
        self._asking: dict[str, asyncio.Task[dict[str, Any] | None]] = {}
        self._guesses = Guesses(unknown_per_minute)
        self._questions = asyncio.Semaphore(MOST_QUESTIONS)

    async def __call__(
        self, token: str, address: str, expected: Callable[[str], bool] = lambda token: False
    ) -> dict[str, Any] | None:
        """Return the hub's model of a token's owner, or None if the hub does not know the token.

        Parameters
        ----------
        expected
            Whether a token is one that comes here in the ordinary course: it is asked about however many
            unknown ones come from its address, which on one machine is everybody's.

        Raises
        ------
        HubUnreachable
            The hub did not say.
        TooManyUnknown
            It is not asked, since too many unknown tokens came.
        """
        key = hashlib.sha256(token.encode()).hexdigest()
        if (word := self._words.get(key)) is not None:
            return word[0]
        if key not in self._asking:
            if self._once_good.get(key) is None:
                try:
                    self._guesses.take(address)
                except TooManyUnknown:
                    if not expected(token):
                        raise
                    self._once_good.put(key, True)
            question = self._asking[key] = asyncio.create_task(self._ask(token, key, address))
            question.add_done_callback(lambda _: self._asking.pop(key, None))
        # Shielded: others may wait for the same answer.
        return await asyncio.shield(self._asking[key])

    async def _ask(self, token: str, key: str, address: str) -> dict[str, Any] | None:
        async with self._questions:
            try:
                found = await self._auth.user_for_token(token, use_cache=False, sync=False)
            except HTTPError as error:
                self._guesses.give_back(address)  # nobody knows whether it is an unknown one
                raise HubUnreachable(
                    f"the hub at {self._auth.api_url} did not say who the token belongs to; try again"
                ) from error
        model = dict(found) if found else None
        if model is not None:
            if self._once_good.get(key) is None:
                self._guesses.give_back(address)
            self._once_good.put(key, True)
        self._words.put(key, (model,))
        return model

"""Finds out who makes a request: static tokens, and those that the hub knows."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from .access import Caller, Unidentified, administrator, hub_itself, reader, token_owner

_TOKEN = re.compile(r"[!-~]{1,1024}")  # printable, of one line, no blank


class HubIdentity(Protocol):
    """How the hub is asked who a token belongs to; JupyterHub's own `HubAuth` does it."""

    async def __call__(
        self, token: str, address: str, expected: Callable[[str], bool]
    ) -> dict[str, Any] | None:
        """Return the hub's model of the token's owner, or None if the hub does not know it.

        Parameters
        ----------
        address
            Where the token came from.
        expected
            Whether it is no guess, for all that is known here.
        """


class Authenticator:
    """Finds out who makes a request.

    Parameters
    ----------
    tokens
        Who holds which static token.
    prefix
        The group of all apps of this hub.
    hub
        How the hub is asked; None without a hub.
    shared_account
        Whether users' apps may run as the backend's own account.
    expected
        Whether a token is one that a server here was given.
    """

    def __init__(
        self,
        tokens: Mapping[str, Caller],
        prefix: str,
        hub: HubIdentity | None,
        shared_account: bool = False,
        expected: Callable[[str], bool] = lambda token: False,
    ) -> None:
        self._tokens = dict(tokens)
        self._prefix = prefix
        self._hub = hub
        self._shared_account = shared_account
        self._expected = expected

    async def identify(self, authorization: str | None, address: str = "") -> Caller:
        """Return who holds the credential of an ``Authorization`` header that came from an address.

        Raises
        ------
        Unidentified, Forbidden, HubUnreachable, TooManyUnknown
            As their names say.
        """
        token = token_of(authorization)
        if token is None:
            raise Unidentified("a token is needed: send `Authorization: token <token>`")
        # Compared to every token in constant time: how long it takes tells nothing.
        known = [
            caller
            for own, caller in self._tokens.items()
            if hmac.compare_digest(token.encode(), own.encode())
        ]
        if known:
            return known[0]
        if self._hub is None:
            raise Unidentified(
                "the token is not known here, and no hub is asked whose it is: the backend's administrator "
                "names one by c.Backend.hub_api_url"
            )
        model = await self._hub(token, address, self._expected)
        if model is None:
            raise Unidentified("the token is not known here, nor to the hub; it may have expired")
        return token_owner(model, self._prefix, self._shared_account)


def static_callers(
    admin: Iterable[str], hub: Iterable[str], read: Iterable[str], prefix: str
) -> dict[str, Caller]:
    """Return who holds which of the tokens that the configuration gives; of two words the wider counts."""
    return {
        **dict.fromkeys(read, reader("the holder of a read token")),
        **dict.fromkeys(hub, hub_itself("the holder of a hub token", prefix)),
        **dict.fromkeys(admin, administrator("the administrator")),
    }


def token_of(authorization: str | None) -> str | None:
    """Return the token of an ``Authorization`` header in any of the forms that clients send.

    ``token=<t>`` (Marathon's clients), ``token <t>`` (JupyterHub's), ``Bearer <t>``, and
    Basic with the token as the password. What cannot be a token is none: a token goes into
    a header of a request to the hub.
    """
    token = _named_token(authorization or "")
    return token if _TOKEN.fullmatch(token) else None


def _named_token(authorization: str) -> str:
    if authorization.startswith("token="):
        return authorization.removeprefix("token=")
    scheme, _, value = authorization.partition(" ")
    value = value.strip()
    if scheme.lower() in {"token", "bearer"}:
        return value
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode("ascii").partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            pass
    return ""

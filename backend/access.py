"""Who asks, and what they may see and change. The rules are pure; only `Authenticator` asks the hub."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.api.ids import dask_path, is_within, server_app_id, user_path
from hubfleet.api.rules import Violation
from hubfleet.api.status import Event

from .orchestrator.refusals import NotValid
from .records import AppRecord

_TOKEN = re.compile(r"[!-~]{1,1024}")  # printable, of one line, no blank


class Unidentified(Exception):
    """The credential is missing or unknown (401)."""


class Forbidden(Exception):
    """The credential is known, but not for this (403)."""


class HubUnreachable(Exception):
    """The hub did not say who the token belongs to (503); the token may be good."""


@dataclass(frozen=True)
class Caller:
    """Who makes a request.

    Parameters
    ----------
    name
        For the log, and for refusals.
    group
        The group of apps that the caller sees; empty for all.
    writable
        The group in which the caller may make and change apps; empty for all.
    server
        The app id of the server whose own token this is, if it is one.
    shared_account
        Whether the caller's apps may run as the backend's own account where no
        server of the caller's tells another.
    """

    name: str
    group: str = ""
    writable: str = ""
    server: str | None = None
    shared_account: bool = False

    @property
    def is_admin(self) -> bool:
        """Whether the caller sees and may change everything."""
        return not self.writable

    def sees(self, app_id: str) -> bool:
        """Whether an app exists for this caller."""
        return not self.group or is_within(app_id, self.group)

    def hears(self, event: Event) -> bool:
        """Whether an event may be told to this caller: all that it is about must be visible."""
        return not self.group or (bool(event.app_ids) and all(map(self.sees, event.app_ids)))

    def may_change(self, app_id: str) -> bool:
        """Whether the caller may make, change and end an app of this id."""
        return not self.writable or is_within(app_id, self.writable)

    def require_change(self, app_id: str) -> None:
        """Refuse a change outside of what the caller may change, whether there is such an app or not.

        Raises
        ------
        Forbidden
            With what is allowed.
        """
        if not self.may_change(app_id):
            raise Forbidden(
                f"{self.name} may make and change apps only under {self.writable}/, and {app_id} is not there"
            )

    def admit(self, app: App, apps: dict[str, AppRecord]) -> App:
        """Return a definition as this caller may submit it.

        A user's app runs as the account that the user's server runs as, and goes when
        the server goes that submitted it.

        Raises
        ------
        NotValid
            It asks for another account, or for an owner that is not the caller's.
        """
        if self.is_admin:
            return app
        owner = app.labels.get(labels.OWNER) or self.server
        if owner is not None and (not self.sees(owner) or self.server not in (None, owner)):
            raise NotValid(
                [Violation(f"/labels/{labels.OWNER}", f"{self.name} cannot make {owner} the owner of an app")]
            )
        account = self._account(owner, apps)
        if app.user not in (None, account):
            raise NotValid(
                [
                    Violation(
                        "/user", f"apps of {self.name} run as the account of the server, not as {app.user}"
                    )
                ]
            )
        owned = {**app.labels, labels.OWNER: owner} if owner else app.labels
        return app.model_copy(update={"user": account, "labels": owned})

    def _account(self, owner: str | None, apps: dict[str, AppRecord]) -> str | None:
        """Return the account of a new app: that of its owner, or of the caller's servers; None is our own.

        Raises
        ------
        NotValid
            There is no server to tell it by, and our own account, which could be root's, is not shared.
        """
        if owner is not None:
            return apps[owner].app.user if owner in apps else None
        servers = {
            record.app.user
            for record in apps.values()
            if self.sees(record.id) and not self.may_change(record.id)
        }
        if len(servers) == 1:
            return servers.pop()
        if servers or not self.shared_account:
            raise NotValid(
                [
                    Violation(
                        f"/labels/{labels.OWNER}",
                        f"as which account an app of {self.name} runs is told by the server that owns it: "
                        "start a server, and name its app id here",
                    )
                ]
            )
        return None


ADMIN = Caller("the administrator")


class HubIdentity(Protocol):
    """How the hub is asked who a token belongs to; JupyterHub's own `HubAuth` does it."""

    async def __call__(self, token: str) -> dict[str, Any] | None:
        """Return the hub's model of the token's owner, or None if the hub does not know it."""


class Authenticator:
    """Finds out who makes a request.

    Parameters
    ----------
    admin_tokens
        Tokens whose holder may do everything.
    prefix
        The group of all apps of this hub.
    hub
        How the hub is asked; None without a hub.
    shared_account
        Whether users' apps may run as the backend's own account.
    """

    def __init__(
        self,
        admin_tokens: frozenset[str],
        prefix: str,
        hub: HubIdentity | None,
        shared_account: bool = False,
    ) -> None:
        self._admin_tokens = admin_tokens
        self._prefix = prefix
        self._hub = hub
        self._shared_account = shared_account

    async def identify(self, authorization: str | None) -> Caller:
        """Return who holds the credential of an ``Authorization`` header.

        Raises
        ------
        Unidentified, Forbidden, HubUnreachable
            As their names say.
        """
        token = token_of(authorization)
        if token is None:
            raise Unidentified("a token is needed: send `Authorization: token <token>`")
        # Compared to every token in constant time: how long it takes tells nothing.
        if sum(hmac.compare_digest(token.encode(), admin.encode()) for admin in self._admin_tokens):
            return ADMIN
        if self._hub is None:
            raise Unidentified("the token is not known here")
        model = await self._hub(token)
        if model is None:
            raise Unidentified("the token is not known here, nor to the hub; it may have expired")
        if model.get("kind") != "user":
            raise Forbidden(
                f"the hub's {model.get('kind')} {model.get('name')!r} has no apps of its own here"
            )
        return replace(user_caller(model, self._prefix), shared_account=self._shared_account)


def user_caller(model: dict[str, Any], prefix: str) -> Caller:
    """Return what the owner of a hub token may see and change.

    Raises
    ------
    Forbidden
        The token does not reach the user's servers. To run an app is to run code as the
        user, so a token that was given out for less, as by a login elsewhere, is not enough.
    """
    name = str(model["name"])
    reaches_all, servers = False, set()
    for scope in model.get("scopes", []):
        action, _, filtered = str(scope).partition("!")
        if action != "access:servers":
            continue
        kind, _, target = filtered.partition("=")
        if kind in ("", "user") and target in ("", name):
            reaches_all = True
        owner, _, server_name = target.partition("/")
        if kind == "server" and owner == name:
            servers.add(server_app_id(prefix, name, server_name))
    if not reaches_all and not servers:
        raise Forbidden(
            f"this token of {name} may not reach a server of {name}, so it may not run apps either; "
            f"it needs the scope access:servers!user={name}"
        )
    return Caller(
        f"the user {name}",
        group=user_path(prefix, name),
        writable=dask_path(prefix, name),
        server=servers.pop() if len(servers) == 1 and not reaches_all else None,
    )


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

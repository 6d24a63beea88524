"""Who asks, and what they may see and change: pure rules. Whose a token is, `authenticator.py` finds out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hubfleet.api import labels
from hubfleet.api.app import App
from hubfleet.api.ids import canonical, dask_path, is_within, server_app_id, user_path
from hubfleet.api.rules import Violation
from hubfleet.api.status import Event

from .orchestrator.refusals import NotValid
from .state import State

EVERYTHING = ""
"""The group of all apps."""

ADMIN_SCOPE, HUB_SCOPE, READ_SCOPE = "custom:hubfleet:admin", "custom:hubfleet:hub", "custom:hubfleet:read"
"""Scopes that a hub may define, and give to users and services in its roles, to let them do more here."""

SERVER_TOKEN = "JUPYTERHUB_API_TOKEN"  # noqa: S105 (the name of a variable)

MOST_GRACE_SECONDS = 3600
"""Longest that a user's task may go on after it was told to end: nobody can cut a grace short."""


class Unidentified(Exception):
    """The credential is missing or unknown (401)."""


class Forbidden(Exception):
    """The credential is known, but not for this (403)."""


class HubUnreachable(Exception):
    """The hub did not say who the token belongs to (503); the token may be good."""


class TooManyUnknown(Exception):
    """So many unknown tokens came that the hub is not asked about another one now (429).

    Parameters
    ----------
    seconds
        Until it may be asked again.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(
            f"too many unknown tokens came from your address, so the hub is not asked about another one now; "
            f"try again in {seconds} s"
        )
        self.seconds = seconds


@dataclass(frozen=True)
class Caller:
    """Who makes a request. Groups are app ids; what lies in them is meant, at any depth.

    Parameters
    ----------
    name
        For the log, and for refusals.
    reads
        Groups of which the caller sees what runs, but neither environments nor what tasks
        print: both hold what would let the reader act as somebody else.
    opens
        Groups of which the caller sees everything.
    writes
        Groups in which the caller makes and changes apps.
    trusted
        Whether the caller's definitions are taken as they are: any account, any owner, no quota.
    server
        The app id of the server whose own token this is, if it is one.
    shared_account
        Whether the caller's apps may run as the backend's own account where no
        server of the caller's tells another.
    user
        The hub's name of the user, if it is one.
    user_group
        The group of everything of that user.
    groups
        The user's groups at the hub.
    """

    name: str
    reads: frozenset[str] = frozenset()
    opens: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    trusted: bool = False
    server: str | None = None
    shared_account: bool = False
    user: str | None = None
    user_group: str | None = None
    groups: frozenset[str] = frozenset()

    @property
    def share(self) -> str | None:
        """Under which name the caller's deployments are counted together; None for no such count."""
        return None if self.trusted else self.name

    @property
    def hides(self) -> bool:
        """Whether there is anything that the caller sees, but not its environment."""
        return bool(self.reads)

    def sees(self, app_id: str) -> bool:
        """Whether an app exists for this caller."""
        return _in_any(app_id, self.reads) or _in_any(app_id, self.opens)

    def sees_inside(self, app_id: str) -> bool:
        """Whether the caller may see an app's environment, and what its tasks print."""
        return _in_any(app_id, self.opens)

    def sees_group(self, group: str) -> bool:
        """Whether all that is in a group exists for this caller, and the group even if nothing is in it."""
        return _is_any(group, self.reads | self.opens)

    @property
    def sees_all(self) -> bool:
        """Whether every app exists for this caller."""
        return EVERYTHING in self.opens or EVERYTHING in self.reads

    @property
    def is_admin(self) -> bool:
        """Whether the caller may change every app, and the backend itself."""
        return EVERYTHING in self.writes

    def hears(self, event: Event) -> bool:
        """Whether an event may be told to this caller: all that it is about must be visible."""
        if self.sees_all:
            return True
        if event.event_type.startswith("group_change"):
            return self.sees_group(canonical(str(event["groupId"])))
        return bool(event.app_ids) and all(map(self.sees, event.app_ids))

    def may_change(self, app_id: str) -> bool:
        """Whether the caller may make, change and end an app of this id."""
        return _in_any(app_id, self.writes)

    def require_change(self, app_id: str) -> None:
        """Refuse a change outside of what the caller may change, whether there is such an app or not.

        Raises
        ------
        Forbidden
            With what is allowed.
        """
        self._require(self.may_change(app_id), app_id)

    def require_group_change(self, group: str) -> None:
        """Refuse a change of a group of which not all is the caller's to change, whether it is there or not.

        Raises
        ------
        Forbidden
            With what is allowed.
        """
        self._require(_is_any(group, self.writes), group or "/")

    def _require(self, allowed: bool, path: str) -> None:
        if not self.writes:
            raise Forbidden(f"{self.name} may look, but not make or change apps")
        if not allowed:
            places = " and ".join(f"{group}/" for group in sorted(self.writes))
            raise Forbidden(
                f"{self.name} may make and change apps only under {places}, and {path} is not there"
            )

    def admit(self, app: App, state: State, together: Mapping[str, App | None] | None = None) -> App:
        """Return a definition as this caller may submit it.

        A user's app runs as the account that the user's server runs as, and goes when
        the server goes that submitted it, or earlier: with another app that goes with that server.

        Parameters
        ----------
        together
            What this app and others are to become in the same change; None is one that goes.

        Raises
        ------
        NotValid
            It asks for another account, for an owner that is not the caller's, or for more than a user's may.
        """
        if self.trusted:
            return app
        if broken := list(self._beyond_a_user(app)):
            raise NotValid(broken)
        owners = list(self._owners(app, together or {app.id: app}, state))
        owner = owners[0] if owners else None
        if owner is not None and not self._may_give_to(owners):
            raise NotValid(
                [Violation(f"/labels/{labels.OWNER}", f"{self.name} cannot make {owner} the owner of an app")]
            )
        account = self._account(owners, state)
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

    def _beyond_a_user(self, app: App) -> Iterator[Violation]:
        """Yield what a user's app would have of the machine without end."""
        if not app.mem:
            yield Violation(
                "/mem", f"apps of {self.name} say how much memory they may use; 0 would be no limit"
            )
        if (app.task_kill_grace_period_seconds or 0) > MOST_GRACE_SECONDS:
            yield Violation(
                "/taskKillGracePeriodSeconds",
                f"apps of {self.name} have at most {MOST_GRACE_SECONDS} s to end when they are told to",
            )

    def _owners(self, app: App, together: Mapping[str, App | None], state: State) -> Iterator[str]:
        """Yield the owner that an app will have, that one's owner and so on; none of them twice."""
        found: set[str] = set()
        each: App | None = app
        while each is not None:
            own = self.server if each.id in together else None
            owner = each.labels.get(labels.OWNER) or own
            if not owner or owner in found:
                return
            found.add(owner)
            yield owner
            record = state.apps.get(owner)
            each = together.get(owner) or (record.app if record else None)

    def _account(self, owners: Iterable[str], state: State) -> str | None:
        """Return the account of a new app: that of its owner, or of the caller's servers; None is our own.

        An owner that is not there yet tells nothing: it will run as the first does that is.

        Raises
        ------
        NotValid
            There is no server to tell it by, and our own account, which could be root's, is not shared.
        """
        for owner in owners:
            if owner in state.apps:
                return state.apps[owner].app.user
        servers = {
            record.app.user
            for record in (state.apps_within(self.user_group) if self.user_group else ())
            if not self.may_change(record.id)
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

    def _may_give_to(self, owners: Sequence[str]) -> bool:
        if self.user_group is None or not is_within(owners[0], self.user_group):
            return False
        # What a server makes goes with that server at the latest.
        return self.server is None or self.server in owners


NOBODY = Caller("nobody")
"""Who asks before it is known who asks."""


def _in_any(app_id: str, groups: Iterable[str]) -> bool:
    return any(not group or is_within(app_id, group) for group in groups)


def _is_any(path: str, groups: Iterable[str]) -> bool:
    return any(path == group for group in groups) or _in_any(path, groups)


def administrator(name: str) -> Caller:
    """Return somebody who sees and may change everything."""
    everything = frozenset({EVERYTHING})
    return Caller(name, opens=everything, writes=everything, trusted=True)


def hub_itself(name: str, prefix: str) -> Caller:
    """Return somebody who sees and may change all apps of the hub, as the hub's spawner does."""
    group = frozenset({canonical(prefix)})
    return Caller(name, opens=group, writes=group, trusted=True)


def reader(name: str) -> Caller:
    """Return somebody who sees what runs, and changes nothing."""
    return Caller(name, reads=frozenset({EVERYTHING}))


def token_owner(model: dict[str, Any], prefix: str, shared_account: bool = False) -> Caller:
    """Return what the owner of a hub token may see and change.

    Parameters
    ----------
    model
        What the hub says of the token (its API's ``/user``).
    prefix
        The group of all apps of the hub.

    Raises
    ------
    Forbidden
        The token does not reach the user's servers, and no scope of ours widens it. To run
        an app is to run code as the user, so a token that was given out for less, as by a
        login elsewhere, is not enough.
    """
    kind, name = str(model.get("kind")), str(model.get("name"))
    whole = f"the {kind} {name}"
    scopes = {str(scope) for scope in model.get("scopes", [])}
    # With a filter (custom:hubfleet:admin!user=x) they say something else, and are passed over.
    if ADMIN_SCOPE in scopes:
        return administrator(whole)
    if HUB_SCOPE in scopes:
        return hub_itself(whole, prefix)
    reads = frozenset(_readable(scopes, prefix))
    if kind != "user":
        if not reads:
            raise Forbidden(
                f"the hub's {kind} {name!r} has no apps of its own here; a role with one of the scopes "
                f"{ADMIN_SCOPE}, {HUB_SCOPE} and {READ_SCOPE} would let it see those of others"
            )
        return Caller(whole, reads=reads)
    reaches_all, servers = _servers(scopes, name, prefix)
    if not reaches_all and not servers:
        if not reads:
            raise Forbidden(
                f"this token of {name} may not reach a server of {name}, so it may not run apps either; "
                f"it needs the scope access:servers!user={name}"
            )
        return Caller(whole, reads=reads)
    own = user_path(prefix, name)
    return Caller(
        whole,
        reads=reads,
        opens=frozenset({own}),
        writes=frozenset({dask_path(prefix, name)}),
        server=servers.pop() if len(servers) == 1 and not reaches_all else None,
        shared_account=shared_account,
        user=name,
        user_group=own,
        groups=frozenset(map(str, model.get("groups") or ())),
    )


def is_of_a_server(state: State, token: str) -> bool:
    """Whether an app here was given a token of the hub, as servers are."""
    return any(record.app.env.get(SERVER_TOKEN) == token for record in state.apps.values())


def _readable(scopes: set[str], prefix: str) -> Iterable[str]:
    for scope in scopes:
        action, _, filtered = scope.partition("!")
        if action == READ_SCOPE and not filtered:
            yield EVERYTHING
        if action == READ_SCOPE and filtered.startswith("user="):
            yield user_path(prefix, filtered.removeprefix("user="))


def _servers(scopes: set[str], name: str, prefix: str) -> tuple[bool, set[str]]:
    """Return whether a token reaches all servers of a user, and those that it reaches by name."""
    reaches_all, servers = False, set()
    for scope in scopes:
        action, _, filtered = scope.partition("!")
        if action != "access:servers":
            continue
        kind, _, target = filtered.partition("=")
        if kind in ("", "user") and target in ("", name):
            reaches_all = True
        owner, _, server_name = target.partition("/")
        if kind == "server" and owner == name:
            servers.add(server_app_id(prefix, name, server_name))
    return reaches_all, servers

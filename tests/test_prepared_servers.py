"""Servers that a bench copies instead of starting them: the hub's own models find them as it left the one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jupyterhub import orm, roles
from prepared import Prepared, add_servers


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The database of a hub at which one user's server runs."""
    path = tmp_path / "hub.sqlite"
    db = orm.new_session_factory(f"sqlite:///{path}")()
    for role in roles.get_default_roles():
        roles.create_role(db, role)
    db.add(orm.OAuthClient(identifier="jupyterhub", secret="", redirect_uri=""))
    db.add(user := orm.User(name="first"))
    db.commit()
    roles.grant_role(db, user, orm.Role.find(db, "user"))
    server = orm.Server(proto="http", ip="127.7.0.1", port=50000, base_url="/user/first/", cookie_name="c")
    client = orm.OAuthClient(
        identifier="jupyterhub-user-first", secret="s", redirect_uri="/user/first/oauth_callback"
    )
    db.add_all([server, client])
    db.commit()
    state = {"app_id": "/hub/first/notebook"}
    spawner = orm.Spawner(user=user, server=server, name="", state=state, oauth_client=client)
    db.add(spawner)
    user.new_api_token(note="Server at /user/first/")
    db.commit()
    db.close()
    return path


def known(database: Path, name: str) -> dict[str, Any]:
    """What a hub reads of a user and the server."""
    db = orm.new_session_factory(f"sqlite:///{database}")()
    try:
        user = orm.User.find(db, name)
        assert user is not None
        [spawner] = user._orm_spawners
        return {
            "address": (spawner.server.proto, spawner.server.ip, spawner.server.port),
            "base_url": spawner.server.base_url,
            "state": spawner.state,
            "client": spawner.oauth_client.identifier,
            "redirect": spawner.oauth_client.redirect_uri,
            "roles": [role.name for role in user.roles],
            "tokens": [token.note for token in user.api_tokens],
            "cookie": user.cookie_id,
        }
    finally:
        db.close()


def test_a_copied_server_is_known_as_the_one_it_was_copied_from(database: Path) -> None:
    first = known(database, "first")
    add_servers(database, "first", [Prepared(f"more{n}", 50001 + n, {"app_id": str(n)}) for n in range(30)])
    assert known(database, "first") == first
    found = known(database, "more7")
    assert found == {
        "address": ("http", "127.7.0.1", 50008),
        "base_url": "/user/more7/",
        "state": {"app_id": "7"},
        "client": "jupyterhub-user-more7",
        "redirect": "/user/more7/oauth_callback",
        "roles": ["user"],
        "tokens": ["Server at /user/more7/"],
        "cookie": found["cookie"],
    }
    assert found["cookie"] != first["cookie"], "nobody is logged in as somebody else"


def test_copies_are_added_all_or_none(database: Path) -> None:
    with pytest.raises(Exception, match="UNIQUE"):
        add_servers(database, "first", [Prepared("second", 50001, {}), Prepared("first", 50002, {})])
    db = orm.new_session_factory(f"sqlite:///{database}")()
    assert [user.name for user in db.query(orm.User)] == ["first"]
    db.close()
